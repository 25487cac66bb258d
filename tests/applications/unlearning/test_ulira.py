"""The likelihood-ratio attack against a plain loop, closed forms and chance."""

import math

import numpy as np
import pytest

from whence.applications.unlearning import ulira
from whence.applications.unlearning.ulira import attack
from whence.errors import InputError


def normal(seed, models, points, shift=0.0, scale=1.0):
    return shift + scale * np.random.default_rng(seed).normal(size=(models, points))


def phi(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


def test_identical_distributions_cannot_be_told_apart():
    found = ulira(normal(1, 100, 400), normal(2, 100, 400))
    assert found.accuracy == pytest.approx(0.5, abs=0.01)
    assert found.floor == pytest.approx(0.5, abs=0.015) and found.floor_models == (50, 50)
    assert found.interval[0] < 0.5 < found.interval[1]


def test_distant_ones_always():
    found = ulira(normal(1, 50, 30, 20.0), normal(2, 50, 30))
    assert found.accuracy > 0.999 and found.at_floor_size > 0.999
    assert found.floor == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_a_shift_is_seen_as_often_as_it_can_be(shift):
    found = ulira(normal(1, 200, 500, shift), normal(2, 200, 500))
    assert found.accuracy == pytest.approx(phi(shift / 2), abs=0.015)


def test_a_narrower_distribution_is_seen_too():
    assert ulira(normal(1, 100, 200, scale=0.2), normal(2, 100, 200)).accuracy > 0.75


def test_each_attacked_model_is_left_out():
    unlearned, oracles = normal(1, 7, 5, 0.5), normal(2, 9, 5)
    hit, held = attack(unlearned, oracles)
    for own, other, found in ((unlearned, oracles, hit), (oracles, unlearned, held)):
        for model in range(len(own)):
            rest = np.delete(own, model, axis=0)
            for point in range(5):
                x = own[model, point]

                def log_density(side, x=x, point=point):
                    mean, sd = side[:, point].mean(), side[:, point].std(ddof=1)
                    return -0.5 * ((x - mean) / sd) ** 2 - math.log(sd)

                assert found[model, point] == (log_density(rest) > log_density(other))


def test_small_samples_do_not_flatter_the_attacker():
    # fits that hold the attacked model would recognise it
    found = ulira(normal(1, 8, 4_000), normal(2, 8, 4_000), oracles_again=normal(3, 8, 4_000))
    assert found.accuracy == pytest.approx(0.5, abs=0.02) and found.floor == pytest.approx(0.5, abs=0.02)


def test_constant_margins():
    assert ulira(np.zeros((10, 3)), np.zeros((10, 3))).accuracy == 0.5
    assert ulira(np.zeros((10, 3)), np.ones((10, 3))).accuracy == 1.0
    assert ulira(np.zeros((10, 3)), normal(1, 10, 3)).accuracy > 0.9


def test_the_interval_over_models_covers_chance():
    inside = 0
    for trial in range(150):
        # points of one model go together
        shared = np.random.default_rng(trial).normal(size=(2, 30, 1))
        sides = [shared[k] + normal(1_000 + 2 * trial + k, 30, 20) for k in range(2)]
        low, high = ulira(*sides).interval
        inside += low <= 0.5 <= high
    assert inside / 150 >= 0.93


def test_a_second_set_of_oracles_gives_a_floor_of_full_size():
    found = ulira(normal(1, 60, 50, 1.0), normal(2, 60, 50), oracles_again=normal(3, 60, 50))
    assert found.floor_models == (60, 60) and found.at_floor_size == pytest.approx(found.accuracy, abs=0.02)
    assert "60 unlearned models" in str(found)


@pytest.mark.parametrize(
    ("unlearned", "oracles", "sentence"),
    [
        (normal(1, 3, 4), normal(2, 20, 4), "unlearned has 3 models"),
        (normal(1, 20, 4), normal(2, 7, 4), "oracles has 7 models, but at least 10"),
        (normal(1, 20, 4), normal(2, 20, 5), "4 points and oracles 5"),
        (np.full((20, 4), np.inf), normal(2, 20, 4), "non-finite"),
        (normal(1, 20, 4), normal(1, 20, 4), "also in oracles"),
    ],
)
def test_bad_input(unlearned, oracles, sentence):
    with pytest.raises(InputError, match=sentence):
        ulira(unlearned, oracles)
