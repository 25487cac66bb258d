"""The forecast's closed form, and blocks found or not by simulation where it says so."""

import numpy as np
import pytest

import whence
from whence.applications.backdoor import expected_ratio, measured_gain, retrainings_needed
from whence.applications.backdoor.candidates import candidate
from whence.bank.samples import Sample
from whence.errors import InputError
from whence.methods.difference import difference_of_means


def test_closed_form():
    # analysis of the paper's setting: 64 p (sd / D)^2 at a half and a ratio of 4
    assert retrainings_needed(100, effect=2, spread=1, ratio=4) == 1600
    assert retrainings_needed(100, effect=2, spread=1, keep=0.2, ratio=4) == 2500
    assert expected_ratio(100, 2, 1, 1600) == pytest.approx(4)
    needed = retrainings_needed(37, 0.7, 1.3, 0.3)
    assert expected_ratio(37, 0.7, 1.3, needed, 0.3) >= 5 > expected_ratio(37, 0.7, 1.3, needed - 1, 0.3)


def overlap(ratio, seed, m=200, size=25, effect=1.0):
    """Share of a planted group that is found in weights from as many retrainings as the ratio asks for."""
    rng = np.random.default_rng(seed)
    k = retrainings_needed(size, effect, 1.0, ratio=ratio)
    masks = rng.random((k, m)) < 0.5
    outputs = rng.normal(size=(k, m))
    inside = rng.choice(m, size, replace=False)
    # the rest of the spread, so that the members' is 1 as well
    outputs[:, inside] *= np.sqrt(1 - effect**2 / size / 4)
    outputs[:, inside] += effect / size * (masks[:, inside] - 0.5).sum(1, keepdims=True)
    found = candidate(difference_of_means(masks, outputs).weight, np.arange(m), None, 16, 0)
    return len(np.intersect1d(found.members, inside)) / max(size, found.size)


def test_blocks_are_found_from_the_ratio_on():
    assert np.mean([overlap(6, seed) for seed in range(4)]) > 0.7
    assert np.mean([overlap(1.5, seed) for seed in range(4)]) < 0.4


def planted(path, groups, gain, models=600, n=40, keep=0.4, noise=1.0):
    """Retrainings in which the members of each group together raise a member's output by `gain`."""

    def outputs(mask, seed):
        values = noise * np.random.default_rng(seed).normal(size=n)
        for group in groups:
            values[group] += gain / (len(group) - 1) * (mask[group].sum() - mask[group])
        return values + 3.0 * mask  # what an example does for itself

    study = whence.Study.from_function(outputs, n=n, targets=range(n))
    return whence.retrain(study, models, keep=keep, to=path, workers=0, progress=False)


def test_a_known_groups_gain_is_measured(tmp_path):
    members = np.array([3, 5, 8, 13, 21, 34])
    bank = planted(tmp_path / "noisy.zarr", [members], gain=10)
    plain = planted(tmp_path / "plain.zarr", [members], gain=10, noise=0)
    exact = measured_gain(plain, members, output="output")
    assert exact.gain == pytest.approx(10, rel=1e-4) and exact.interval[0] == pytest.approx(10, rel=1e-3)
    found = measured_gain(bank, members[::-1], output="output")
    assert found.gain == pytest.approx(10, abs=1) and found.interval[0] < 10 < found.interval[1]
    assert (found.size, found.retrainings) == (6, 600) and found.keep == pytest.approx(0.4, abs=0.02)
    assert found.ratio(600) == pytest.approx(expected_ratio(6, found.gain, found.spread, 600, found.keep))
    few = measured_gain(bank, members, retrainings=50, output="output")
    assert few.retrainings == 50 and np.diff(few.interval) > 2 * np.diff(found.interval)
    others = measured_gain(bank, [0, 1, 2, 4, 6], output="output")
    assert abs(others.gain) < 1


def test_the_interval_holds_what_it_should():
    members = np.arange(5)
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        masks = (rng.random((60, 40)) < 0.4).astype(bool)
        outputs = rng.normal(size=(60, 40)) + rng.normal(size=(60, 1))
        outputs[:, :5] += 4 / 4 * (masks[:, :5].sum(1, keepdims=True) - masks[:, :5])
        bank = FakeBank(masks, outputs)
        low, high = measured_gain(bank, members, output="output").interval
        inside += low < 4 < high
    assert inside >= 34


class FakeBank:
    """What `measured_gain` reads of a bank."""

    def __init__(self, masks, outputs, mask_index=None):
        rows = np.arange(len(masks)) if mask_index is None else mask_index
        self.sample = Sample(masks, outputs, rows, rows * 0, rows, rows)
        self.train_ids = self.target_ids = np.arange(masks.shape[1])

    def select(self, part, output):
        return self.sample


def test_parts_of_a_split_trigger_are_groups_of_their_own(tmp_path):
    bank = planted(tmp_path / "bank.zarr", [np.arange(6), np.arange(6, 12)], gain=10)
    part = measured_gain(bank, np.arange(6), output="output")
    whole = measured_gain(bank, np.arange(12), output="output")
    assert part.gain == pytest.approx(10, abs=1)
    assert whole.gain == pytest.approx(10, abs=1.5)  # 11 others, of whom 5 do 2 each
    assert whole.ratio(600) < part.ratio(600)


def test_several_seeds_of_a_mask_count_once():
    rng = np.random.default_rng(0)
    masks = rng.random((60, 12)) < 0.5
    outputs = rng.normal(size=(60, 12)) + masks.sum(1, keepdims=True)
    once = measured_gain(FakeBank(masks, outputs), np.arange(6))
    twice = measured_gain(
        FakeBank(np.repeat(masks, 2, 0), np.repeat(outputs, 2, 0), np.repeat(np.arange(60), 2)), np.arange(6)
    )
    assert twice.gain == pytest.approx(once.gain)
    np.testing.assert_allclose(twice.interval, once.interval)


@pytest.mark.parametrize(
    ("members", "options", "words"),
    [
        ([1, 99], {}, "member 99 is not both a training example and a target"),
        ([1, 1], {}, "members has 1 ids"),
        ([1, 2], {"retrainings": 5}, "5 retrainings are too few"),
        ([True, False, True, False, False, False], {}, "members must list ids, received bool"),
        ([[1, 2], [3, 4]], {}, r"of shape \(2, 2\)"),
    ],
)
def test_gains_that_cannot_be_measured(members, options, words):
    masks = np.random.default_rng(0).random((40, 6)) < 0.5
    with pytest.raises(InputError, match=words):
        measured_gain(FakeBank(masks, masks * 1.0), members, **options)
    masks[:, 1] = True
    with pytest.raises(InputError, match="never left out"):
        measured_gain(FakeBank(masks, masks * 1.0), [1, 2])
    with pytest.raises(InputError, match="is a vector"):
        measured_gain(FakeBank(masks[:, :3], np.zeros((40, 3, 4))), [0, 2], output="logits")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 1}, "size is 1"),
        ({"effect": 0}, "effect is 0"),
        ({"spread": np.inf}, "spread is inf"),
        ({"keep": 1.0}, "keep is 1"),
        ({"ratio": 0}, "ratio is 0"),
    ],
)
def test_bad_input(changes, words):
    with pytest.raises(InputError, match=words):
        retrainings_needed(**{"size": 20, "effect": 1, "spread": 1, **changes})
    with pytest.raises(InputError, match="retrainings is 0"):
        expected_ratio(20, 1, 1, 0)
