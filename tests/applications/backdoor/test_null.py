"""p-values: exact for exponential tails, cautious for lighter ones; halves of a bank of correlated errors."""

import numpy as np
import pytest

from whence.applications.backdoor.null import NARROWEST, critical, natural, reproduced


def smallest(draw, runs, most=3):
    return np.array([natural(np.exp(draw(np.random.default_rng(run))), most).min() for run in range(runs)])


def test_exponential_tails_give_uniform_p():
    p = smallest(lambda rng: 0.5 * rng.exponential(size=12), 4000, most=1)
    for level in (0.01, 0.05, 0.2):
        error = (level * (1 - level) / 4000) ** 0.5
        assert (p <= level).mean() == pytest.approx(level, abs=3.5 * error)


@pytest.mark.parametrize("groups", [6, 10, 12, 40])
def test_false_alarms_are_rare_for_tails_no_heavier(groups):
    for draw in (
        lambda rng: 0.5 * rng.exponential(size=groups),
        lambda rng: 0.3 * rng.normal(size=groups),
        lambda rng: 0.1 * rng.gumbel(size=groups),
        lambda rng: np.log1p(0.02 * rng.random(groups)),  # all alike
    ):
        assert (smallest(draw, 2000) <= 0.05).mean() < 0.05 + 0.015


def test_outliers_are_called_alone_and_together():
    rest = np.exp(0.2 * np.random.default_rng(0).normal(size=15))
    p = natural(np.r_[rest, 6.0])
    assert p[-1] < 0.01 and (p[:-1] > 0.05).all()
    p = natural(np.r_[rest, 6.0, 5.0, 7.0])
    assert (p[-3:] < 0.01).all() and (p[:-3] > 0.05).all()
    assert (natural(np.r_[rest, 6.0] * 100) == natural(np.r_[rest, 6.0])).all()  # units do not matter


def test_too_few_groups_say_nothing():
    assert (natural([9.0, 1.0, 1.0]) == 1).all() and critical([1.0, 2.0], 0.05) == np.inf
    assert len(natural([])) == 0


def test_critical_is_where_the_p_value_passes():
    rest = np.exp(0.2 * np.random.default_rng(1).normal(size=15))
    needed = critical(rest, 0.05)
    assert natural(np.r_[rest, needed * 1.001])[-1] <= 0.05
    assert natural(np.r_[rest, needed * 0.97])[-1] > 0.05
    assert NARROWEST > 0


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
