"""The forecast against the fixed point it solves, against ridge regressions that were run, and against
itself."""

import math

import numpy as np
import pytest

import whence
from whence.errors import InputError
from whence.evaluate import expected_lds, learning_curve, models_needed, variance_split
from whence.evaluate.harmonic.planner import missed
from whence.methods import Datamodel, DifferenceOfMeans
from whence.subsets import Subsets

N, TARGETS = 60, 40


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    effects = np.random.default_rng(0).normal(size=(TARGETS, N)) / np.sqrt(N / 4)

    def train(mask, seed):
        return effects @ mask + np.random.default_rng(seed).normal(size=TARGETS)

    study = whence.Study.from_function(train, n=N, targets=TARGETS)
    folder = tmp_path_factory.mktemp("plan") / "a.zarr"
    return whence.retrain(
        study, 1500, to=folder, keep=0.5, workers=0, progress=False, block=500, held_out=0.2
    )


@pytest.fixture(scope="module")
def split(bank):
    return variance_split(bank)


def test_the_missed_fraction_solves_its_equation():
    ratio, a = np.meshgrid(np.geomspace(0.01, 1e4, 13), [1e-4, 0.2, 0.5, 0.9, 1 - 1e-9])
    t = missed(ratio, a)
    assert ((t > 0) & (t < 1)).all() and (np.diff(t, axis=1) < 0).all()
    np.testing.assert_allclose(t * (1 + ratio * a / (1 - a + a * t)), 1, rtol=1e-6)


@pytest.mark.parametrize("models", [15, 60, 240])
def test_ridge_at_its_best_penalty_does_as_forecast(models):
    """Isotropic masks, random weights: n = 400 is near the limit that the formula is for."""
    rng = np.random.default_rng(0)
    n, a = 400, 0.6
    count = models * n // 60
    x = rng.choice([-1.0, 1.0], size=(count, n))
    w = rng.normal(size=(n, 20)) * np.sqrt(a / n)
    y = x @ w + np.sqrt(1 - a) * rng.normal(size=(count, 20))
    found = np.linalg.solve(x.T @ x + n * (1 - a) / a * np.eye(n), x.T @ y)
    seen = ((found - w) ** 2).sum() / (w**2).sum()
    assert seen == pytest.approx(float(missed(np.array(count / n), np.array(a))), rel=0.06)


def test_the_forecast_meets_the_curve(bank, split):
    curve = learning_curve(Datamodel("ridge"), bank, [100, 200, 400, 800], bootstrap=200)
    for models, seen in zip(curve.models, curve.lds, strict=True):
        assert expected_lds(split, models, seeds=2) == pytest.approx(seen, abs=0.05)
    planned = models_needed(split, 0.6, curve)
    assert planned.effective_examples == pytest.approx(N, rel=0.35)
    assert expected_lds(
        split, planned.models, 2, effective_examples=planned.effective_examples
    ) == pytest.approx(0.6, abs=2e-3)
    assert planned.interval[0] < planned.models < planned.interval[1]
    at = np.interp(0.6, curve.lds, curve.models)
    assert planned.interval[0] / 1.2 < at < planned.interval[1] * 1.2
    assert planned.more == 0 and "no more are needed" in str(planned)
    more = models_needed(split, 0.8, curve)
    assert more.more == more.models - 800 > 0 and f"{more.more:,} more" in more.answer
    assert curve.lds[-1] < more.lds_of_doubling < more.ceiling.value


def test_a_method_that_needs_more_is_given_a_larger_number_of_examples(bank, split):
    models = [200, 400, 800]
    ridge, means = (
        models_needed(split, 0.75, learning_curve(method, bank, models, bootstrap=200))
        for method in (Datamodel("ridge"), DifferenceOfMeans())
    )
    assert means.effective_examples > ridge.effective_examples and means.models > ridge.models


def test_above_the_ceiling_there_is_a_plain_answer(split):
    top = split.best_lds(2)
    planned = models_needed(split, min(top.interval[1] + 0.02, 0.999), seeds=2)
    assert planned.models is None and planned.interval is None and planned.more is None
    assert planned.answer.startswith("No number of retrainings will do")
    near = models_needed(split, top.value - 0.001, seeds=2)  # the ceiling may be below it
    assert (
        math.isinf(near.interval[1]) and "no number" in near.answer and near.to_dict()["interval"][1] is None
    )


def test_bad_input(bank, split, tmp_path):
    with pytest.raises(InputError, match="lds must lie"):
        models_needed(split, 1.0)
    with pytest.raises(InputError, match="models must be at least 1"):
        expected_lds(split, 0)
    study = whence.Study.from_function(lambda mask, seed: mask[:5] + seed % 7 / 7, n=20, targets=5)
    other = whence.retrain(
        study, 200, to=tmp_path / "a.zarr", subsets=Subsets.bernoulli(20), workers=0, progress=False
    )
    curve = learning_curve(Datamodel("ridge"), other, [100], bootstrap=0)
    with pytest.raises(InputError, match="n=20"):
        models_needed(split, 0.5, curve)
