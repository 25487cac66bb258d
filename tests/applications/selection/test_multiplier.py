"""Compute multipliers in closed form, censoring at both ends, coverage of the interval; bad input."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from whence.applications.selection import compute_multiplier
from whence.applications.selection.multiplier import _decreasing
from whence.errors import InputError

MULTIPLES = (1, 2, 4, 10)


def curve(c):
    return 3.0 - 0.5 * np.log(c)  # linear in the logarithm of compute, so interpolation is exact


def runs(centre, spread=1e-6, count=3, rng=None):
    rng = np.random.default_rng(0) if rng is None else rng
    return centre + spread * rng.normal(size=count)


def random_runs(spread=1e-6, count=3, rng=None):
    return {m: runs(curve(m), spread, count, rng) for m in MULTIPLES}


@pytest.mark.parametrize("true", [1.5, 2.0, 3.0, 7.5])
def test_a_known_multiplier_is_found(true):
    found = compute_multiplier(random_runs(), runs(curve(true)))
    assert found.value == pytest.approx(true, rel=1e-4)
    assert found.interval[0] < true < found.interval[1] and found.interval[1] / found.interval[0] < 1.01
    assert not any(found.below) and not any(found.above)
    assert found.multiples == (1, 2, 4, 10) and found.seeds == 3


def test_multiples_come_in_any_order_and_losses_in_any_unit():
    plain = compute_multiplier(random_runs(0.05), runs(curve(3), 0.05))
    turned = {m: 10 * values + 4 for m, values in reversed(random_runs(0.05).items())}
    again = compute_multiplier(turned, 10 * runs(curve(3), 0.05) + 4)
    assert again.value == pytest.approx(plain.value) and again.interval == pytest.approx(plain.interval)


def test_censored_at_both_ends():
    worse = compute_multiplier(random_runs(), runs(curve(0.5)))
    assert worse.value == 1 and worse.below == (True, True, True) and str(worse) == "<1x [<1, <1]"
    better = compute_multiplier(random_runs(), runs(curve(30)))
    assert better.value == pytest.approx(10) and better.above == (True, True, True)
    assert str(better) == ">10x [>10, >10]"
    unsure = compute_multiplier(random_runs(), runs(curve(8), 0.5))
    assert unsure.above[2] and not unsure.below[0] and unsure.interval[1] == pytest.approx(10)
    # smaller multiples than 1 tell how far behind a choice is
    wider = {**random_runs(), 0.25: runs(curve(0.25))}
    assert compute_multiplier(wider, runs(curve(0.5))).value == pytest.approx(0.5, rel=1e-4)


def test_noise_that_turns_the_curve_up_is_smoothed():
    means = {1: 3.0, 2: 2.0, 4: 2.4, 10: 1.0}  # 2 and 4 pool to 2.2
    random = {m: np.array([x - 1e-9, x + 1e-9]) for m, x in means.items()}
    flat = compute_multiplier(random, [2.2, 2.2])
    assert flat.value == pytest.approx(2, rel=1e-3)  # where the curve is flat, the smaller multiple
    low = compute_multiplier(random, [1.6, 1.6])
    assert low.value == pytest.approx(np.exp((np.log(4) + np.log(10)) / 2), rel=1e-3)


def test_the_smoothing_is_isotonic_regression():
    rng = np.random.default_rng(3)
    rows, weights = rng.normal(size=(40, 5)), rng.integers(1, 5, 5).astype(float)
    for row, fit in zip(rows, _decreasing(rows, weights), strict=True):
        expected = IsotonicRegression(increasing=False).fit(np.arange(5), row, weights).predict(np.arange(5))
        np.testing.assert_allclose(fit, expected, atol=1e-12)


@pytest.mark.parametrize("falling", [False, True])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(falling):
    rng = np.random.default_rng(5)
    inside, wide = [], []
    for _ in range(200):
        random = {m: runs(curve(m), 0.1 * (m**-0.5 if falling else 1), rng=rng) for m in MULTIPLES}
        found = compute_multiplier(random, runs(curve(3), 0.1, rng=rng), seed=int(rng.integers(1000)))
        inside.append(found.interval[0] <= 3 <= found.interval[1])
        wide.append(np.log(found.interval[1] / found.interval[0]))
    assert 0.91 <= np.mean(inside) and np.mean(wide) < 1


@pytest.mark.parametrize(
    "random, losses, words",
    [
        ({1: [1.0, 2.0]}, [1.0, 2.0], "at least two positive ones"),
        ({0: [1.0, 2.0], 1: [1.0, 2.0]}, [1.0, 2.0], "at least two positive ones"),
        ({1: [1.0, 2.0], 2: [1.0]}, [1.0, 2.0], "at least two finite losses"),
        ({1: [1.0, 2.0], 2: [1.0, 1.0]}, [1.0], "at least two finite losses"),
        ({1: [1.0, np.nan], 2: [1.0, 1.0]}, [1.0, 1.0], "at least two finite losses"),
    ],
)
def test_bad_input(random, losses, words):
    with pytest.raises(InputError, match=words):
        compute_multiplier(random, losses)
