"""The noise ceiling, where the truth is known."""

import json

import numpy as np
import pytest

from whence.errors import InputError
from whence.evaluate import noise_ceiling
from whence.evaluate.correlation import correlations

UNEQUAL = np.random.default_rng(5).beta(
    1, 2, size=60
)  # single-seed reliabilities that differ a lot between targets


def simulate(reliability, masks=100, seeds=2, seed=0, shared=0.5):
    """Expected outputs f and outputs (masks, seeds, targets); targets' signals share a factor, as real ones
    do.
    """
    rng = np.random.default_rng(seed)
    t = len(reliability)
    f = np.sqrt(shared) * rng.normal(size=(masks, 1)) + np.sqrt(1 - shared) * rng.normal(size=(masks, t))
    noise = rng.normal(size=(masks, seeds, t))
    return f, np.sqrt(reliability) * f[:, None] + np.sqrt(1 - reliability) * noise


def true_ceiling(reliability, seeds, rank):
    pearson = np.sqrt(reliability / (reliability + (1 - reliability) / seeds))
    return (pearson if rank == "pearson" else 6 / np.pi * np.arcsin(pearson / 2)).mean()


@pytest.mark.parametrize("rank", ["spearman", "pearson"])
@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("reliability", [np.full(60, 0.1), np.full(60, 0.5), UNEQUAL])
def test_estimate_meets_truth_and_a_perfect_predictor_reaches_but_does_not_exceed_it(
    reliability, seeds, rank
):
    truth = true_ceiling(reliability, seeds, rank)
    found, direct, perfect, covered = [], [], [], []
    for seed in range(20):
        f, outputs = simulate(reliability, seeds=seeds, seed=seed)
        result = noise_ceiling(outputs, rank=rank, bootstrap=200, seed=seed)
        found.append(result.ceiling)
        direct.append(result.direct)
        perfect.append(correlations(f, outputs.mean(1), rank).mean())
        covered.append(result.interval[0] <= truth <= result.interval[1])
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - truth) < 0.012 + 3 * error
    assert abs(np.mean(direct) - truth) < 0.025 + 3 * error
    assert np.mean(covered) >= 0.8
    gap = np.mean(perfect) - np.mean(found)
    assert -0.03 < gap < 3 * error + 0.005


def test_without_signal_the_ceiling_is_near_zero_and_with_no_noise_one():
    _, noise = simulate(np.zeros(200), seed=1, shared=0.0)
    result = noise_ceiling(noise)
    assert result.ceiling < 0.25 and result.interval[0] == 0
    assert (result.reliability_per_target < 0).any()  # not clipped target by target
    _, clean = simulate(np.ones(20))
    assert noise_ceiling(clean).ceiling == pytest.approx(1) and noise_ceiling(clean).direct == pytest.approx(
        1
    )
    constant = noise_ceiling(np.full((10, 2, 3), 1.7))
    assert constant.ceiling == 0 and constant.interval == (0, 0)


def test_more_seeds_raise_reliability_as_spearman_brown_says():
    _, outputs = simulate(np.full(100, 0.3), masks=400, seeds=4)
    four, two = noise_ceiling(outputs, bootstrap=0), noise_ceiling(outputs[:, :2], bootstrap=0)
    assert four.interval is None
    assert four.single_seed_reliability == pytest.approx(0.3, abs=0.02)
    assert two.single_seed_reliability == pytest.approx(0.3, abs=0.03)
    assert four.reliability == pytest.approx(4 * 0.3 / (1 + 3 * 0.3), abs=0.02)
    np.testing.assert_allclose(four.noise_variance.mean(), 0.7, atol=0.02)


def test_order_scale_and_shift_of_outputs_do_not_matter():
    _, outputs = simulate(UNEQUAL, masks=50)
    rng = np.random.default_rng(0)
    base = noise_ceiling(outputs, bootstrap=0)
    shuffled = noise_ceiling(outputs[:, ::-1][:, :, rng.permutation(60)], bootstrap=0)
    assert shuffled.ceiling == pytest.approx(base.ceiling) and shuffled.direct == pytest.approx(base.direct)
    changed = noise_ceiling(1e3 * outputs * np.arange(1, 61) - 1e5, bootstrap=0)
    assert changed.ceiling == pytest.approx(base.ceiling, rel=1e-6)


def test_vector_outputs_are_averaged_within_targets():
    _, outputs = simulate(UNEQUAL, masks=50)
    vector = noise_ceiling(outputs.reshape(50, 2, 20, 3), bootstrap=100)
    assert vector.ceiling == pytest.approx(noise_ceiling(outputs, bootstrap=0).ceiling)
    assert vector.reliability_per_target.shape == (20,)


def test_prints_and_becomes_json():
    result = noise_ceiling(simulate(UNEQUAL)[1], bootstrap=100)
    assert "100 masks x 2 seeds" in str(result) and result._repr_html_().startswith("<pre>")
    assert json.loads(json.dumps(result.to_dict()))["ceiling"] == result.ceiling


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        (np.zeros((10, 1, 3)), "at least 4 masks with 2 seeds"),
        (np.zeros((3, 2, 3)), "at least 4 masks with 2 seeds"),
        (np.zeros((10, 2)), "must be \\(masks, seeds, targets"),
        (np.full((10, 2, 3), np.nan), "non-finite"),
    ],
)
def test_bad_input(outputs, sentence):
    with pytest.raises(InputError, match=sentence):
        noise_ceiling(outputs)
