"""p-values: calibrated for log-normal evidence, cautious for lighter tails; halves of a bank with correlated
errors."""

import numpy as np
import pytest

from whence.applications.backdoor.null import FEWEST, critical, natural, reproduced


def smallest(draw, runs):
    return np.array([natural(np.exp(draw(np.random.default_rng(run)))).min() for run in range(runs)])


@pytest.mark.parametrize("groups", [6, 10, 20, 40])
def test_false_alarms_of_normal_logarithms_take_two_thirds_of_the_level(groups):
    p = smallest(lambda rng: 3 + 0.5 * rng.normal(size=groups), 3000)
    assert 0.01 < (p <= 0.05).mean() < 0.045 and (p <= 0.01).mean() < 0.012


@pytest.mark.parametrize("groups", [6, 20])
def test_lighter_tails_err_on_the_cautious_side(groups):
    for draw in (
        lambda rng: rng.random(groups),
        lambda rng: 0.02 * rng.normal(size=groups),  # all alike
    ):
        assert (smallest(draw, 1000) <= 0.05).mean() < 0.03


def test_outliers_are_called_alone_and_together():
    rest = np.exp(0.2 * np.random.default_rng(0).normal(size=15))
    p = natural(np.r_[rest, 6.0])
    assert p[-1] < 0.01 and (p[:-1] > 0.05).all()
    p = natural(np.r_[rest, 6.0, 5.0, 7.0])
    assert (p[-3:] < 0.01).all() and (p[:-3] > 0.05).all()
    # units do not matter
    assert natural(np.r_[rest, 6.0] * 100) == pytest.approx(natural(np.r_[rest, 6.0]), rel=1e-6)


def test_too_few_groups_say_nothing():
    assert (natural([9.0] + FEWEST * [1.0])[0] < 0.05) and (natural([9.0] + (FEWEST - 1) * [1.0]) == 1).all()
    assert critical([1.0, 2.0], 0.05) == np.inf and len(natural([])) == 0


def test_critical_is_where_the_p_value_passes():
    rest = np.exp(0.4 * np.random.default_rng(1).normal(size=15))
    needed = critical(rest, 0.05)
    assert natural(np.r_[rest, needed * 1.001])[-1] <= 0.05 < natural(np.r_[rest, needed * 0.99])[-1]


def retrained(m, k, effect, size, seed, shared=1.0):
    """Outputs that move together, whatever they were trained on, and a group that supports itself."""
    rng = np.random.default_rng(seed)
    masks = rng.random((k, m)) < 0.5
    w = np.zeros((m, m))
    w[:size, :size] = effect
    outputs = (masks - 0.5) @ w.T + shared * rng.normal(size=(k, 1)) + rng.normal(size=(k, m))
    return masks, outputs


def test_halves_are_calibrated_where_errors_go_together():
    p = [reproduced(*retrained(60, 120, 0, 0, seed), np.arange(120), 4, 0).p_value for seed in range(60)]
    assert np.mean(np.array(p) <= 0.05) < 0.13 and np.mean(np.array(p) <= 0.5) > 0.2


def test_halves_find_a_group_twice_and_say_its_effect():
    found = reproduced(*retrained(120, 800, 0.4, 20, 0), np.arange(800), 8, 0)
    assert found.p_value < 1e-6 and found.overlap > 0.9 and found.retrainings == 800
    assert found.interval[0] < found.effect < found.interval[1]
    assert found.effect == pytest.approx(0.4, abs=0.08)
