"""variance_split on banks of a function whose linear, non-linear and seed parts are known."""

import json
import re

import numpy as np
import pytest

import whence
from whence.errors import InputError
from whence.evaluate import lds, prediction_error, variance_split
from whence.methods import Datamodel
from whence.subsets import Subsets

N, TARGETS = 40, 30
LINEAR, PAIR, NOISE = 0.6, 0.15, 0.25


def study(nonlinear=True, noise=NOISE, keep=0.5, targets=TARGETS, spread=0.0):
    """Outputs ``5 + linear + product of two linear forms + noise`` of unit variance under independent
    coins."""
    rng = np.random.default_rng(0)
    forms = rng.normal(size=(3, N, targets))
    forms[1, : N // 2] = forms[2, N // 2 :] = 0  # of disjoint examples, so that the product is of degree 2
    forms /= np.linalg.norm(forms, axis=1, keepdims=True)
    scale = np.exp(spread * rng.normal(size=targets))

    def train(mask, seed):
        x = (mask - keep) / np.sqrt(keep * (1 - keep))
        a, b, c = x @ forms
        error = np.random.default_rng(seed).normal(size=targets)
        return 5 + np.sqrt(LINEAR) * a + nonlinear * np.sqrt(PAIR) * b * c + scale * np.sqrt(noise) * error

    return whence.Study.from_function(train, n=N, targets=targets)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("split")
    return whence.retrain(
        study(),
        1500,
        to=folder / "a.zarr",
        subsets=Subsets.bernoulli(N),
        workers=0,
        progress=False,
        block=500,
    )


@pytest.fixture(scope="module")
def split(bank):
    return variance_split(bank)


def test_the_parts_are_found_within_their_intervals(split):
    for share, truth in ((split.linear, LINEAR), (split.nonlinear, PAIR), (split.seed, NOISE)):
        assert share.interval[0] < truth < share.interval[1]
        assert share.interval[1] - share.interval[0] < 0.1
    assert split.linear.value + split.nonlinear.value + split.seed.value == pytest.approx(1)
    inside = abs(split.linear_per_target - LINEAR) < 2.5 * split.linear_standard_error
    assert inside.mean() > 0.9
    np.testing.assert_allclose(split.variance_per_target.mean(), 1, atol=0.05)


def test_the_ceilings_are_those_of_the_best_linear_datamodel(bank, split):
    assert split.best_r2(1).value == pytest.approx(split.linear.value)
    for seeds in (1, 2, 10):
        truth = LINEAR / (LINEAR + PAIR + NOISE / seeds)
        r2, top = split.best_r2(seeds), split.best_lds(seeds, "pearson")
        assert r2.interval[0] < truth < r2.interval[1]
        assert top.value == pytest.approx(np.sqrt(truth), abs=0.03)
    assert split.best_lds(2).value < split.best_lds(2, "pearson").value
    # a datamodel with far more retrainings than examples comes near, and is never significantly above
    fitted = Datamodel("ols").attribute(bank)
    error, score = prediction_error(fitted, bank), lds(fitted, bank)
    assert error.r2 == pytest.approx(split.best_r2().value, abs=0.08)
    assert score.mean == pytest.approx(split.best_lds().value, abs=0.05)
    assert (
        error.interval[0] < split.best_r2().interval[1] and score.interval[0] < split.best_lds().interval[1]
    )


def test_it_says_what_it_found(split):
    determined = split.of_determined
    assert determined.interval[0] < LINEAR / (LINEAR + PAIR) < determined.interval[1]
    assert determined.value == pytest.approx(split.best_r2(10**6).value, abs=1e-4)
    assert re.fullmatch(
        r"The model is mostly linear in its data at keep 0.5: \d\d% \[\d\d%, \d\d%\] of what the subset "
        r"determines is linear.",
        split.verdict,
    )
    text = str(split)
    for words in (
        "linear 0.",
        "non-linear 0.",
        "seed 0.",
        "R2 0.",
        "LDS 0.",
        "output²",
        "30 targets",
        "overlap",
    ):
        assert words in text
    table = split.table()
    assert [row[0] for row in table.rows] == ["linear", "non-linear", "seed"] and table.columns[
        -1
    ] == "output²"
    assert sum(row[-1] for row in table.rows) == pytest.approx(split.variance_per_target.mean())
    again = json.loads(json.dumps(split.to_dict()))
    assert (
        again["linear"]["value"] == split.linear.value and again["best_r2"]["value"] == split.best_r2().value
    )


@pytest.mark.parametrize("fixed_size", [False, True])
def test_designed_pairs(tmp_path, fixed_size):
    subsets = Subsets.correlated(N, 0.5, (0.3, 0.6, 0.9, 1), fixed_size=fixed_size)
    bank = whence.retrain(
        study(), 4000, to=tmp_path / "a.zarr", subsets=subsets, workers=0, progress=False, block=1000
    )
    from_pairs, from_overlap = variance_split(bank, estimator="pairs"), variance_split(bank)
    for found in (from_pairs, from_overlap):
        assert found.linear.value == pytest.approx(LINEAR, abs=0.05)
        assert found.seed.value == pytest.approx(NOISE, abs=0.03)
    spread = np.std(from_pairs.linear_per_target), np.std(from_overlap.linear_per_target)
    assert spread[1] < 0.5 * spread[0]


def test_published_estimator(tmp_path):
    subsets = Subsets.correlated(N, 0.5, (0, 0.2, 0.4))
    bank = whence.retrain(
        study(), 3000, to=tmp_path / "a.zarr", subsets=subsets, workers=0, progress=False, block=1000
    )
    published, ours = variance_split(bank, estimator="published"), variance_split(bank)
    assert published.linear.interval[0] - 0.3 < LINEAR < published.linear.interval[1] + 0.3
    assert np.std(published.linear_per_target) > 4 * np.std(ours.linear_per_target)
    with pytest.raises(InputError, match="does not tell linear"):
        variance_split(
            whence.retrain(
                study(),
                100,
                to=tmp_path / "b.zarr",
                subsets=Subsets.correlated(N, 0.5, 0.5),
                workers=0,
                progress=False,
                held_out_seeds=1,
            ),
            estimator="pairs",
        )


def test_without_repeats_the_seed_part_is_not_guessed(tmp_path):
    bank = whence.retrain(study(), 300, to=tmp_path / "a.zarr", held_out=0, workers=0, progress=False)
    split = variance_split(bank)
    assert split.nonlinear is None and split.seed is None and "no mask was trained twice" in str(split)
    assert len(split.table().rows) == 1 and split.best_r2().value == split.linear.value
    with pytest.raises(InputError, match="held_out_seeds=2"):
        split.best_lds(seeds=3)
    once = whence.retrain(study(), 300, to=tmp_path / "b.zarr", training_seed=3, workers=0, progress=False)
    split = variance_split(once)  # one seed for all retrainings: what is not linear is the subset's doing
    assert split.seed.value == 0 and split.nonlinear.value == pytest.approx(1 - split.linear.value)


def test_a_linear_output_is_called_linear_whatever_the_targets_variances(tmp_path):
    quiet = study(nonlinear=False, noise=0.01, spread=1.0)
    split = variance_split(whence.retrain(quiet, 400, to=tmp_path / "a.zarr", workers=0, progress=False))
    assert "almost linear" in split.verdict and split.of_determined.value > 0.9
    assert abs(split.nonlinear.value) < 0.1


def test_bad_input(bank, tmp_path):
    with pytest.raises(InputError, match="estimator is 'magic'"):
        variance_split(bank, estimator="magic")
    with pytest.raises(InputError, match="not drawn in pairs"):
        variance_split(bank, estimator="pairs")
    with pytest.raises(InputError, match="at rho = 0, r and 2r"):
        subsets = Subsets.correlated(N, 0.5, (0.2, 0.5))
        pairs = whence.retrain(
            study(), 100, to=tmp_path / "c.zarr", subsets=subsets, workers=0, progress=False
        )
        variance_split(pairs, estimator="published")
    with pytest.raises(InputError, match="output 'loss' is not recorded"):
        variance_split(bank, output="loss")
    with pytest.raises(InputError, match="at least 1"):
        variance_split(bank).best_r2(seeds=0)
    sets = Subsets.leaving_out(N, [[i] for i in range(20)])
    left = whence.retrain(study(), 20, to=tmp_path / "d.zarr", subsets=sets, workers=0, progress=False)
    with pytest.raises(InputError, match="leave-out sets"):
        variance_split(left)
    few = whence.retrain(
        study(), 5, to=tmp_path / "e.zarr", validation=0, held_out=0, workers=0, progress=False
    )
    with pytest.raises(InputError, match="at least 8"):
        variance_split(few)
