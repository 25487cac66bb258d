"""The challenge score by hand, against a plain search over thresholds, and where the released code stops."""

import math

import numpy as np
import pytest

from whence.applications.unlearning import challenge_score
from whence.applications.unlearning.challenge import BUFFER, CAP, DELTA, epsilons, points
from whence.errors import InputError

EVEN = {"retain_accuracy": (0.9, 0.9), "test_accuracy": (0.8, 0.8)}


def column(*margins):
    return np.array(margins, float)[:, None]


def normal(seed, models, count, shift=0.0, scale=1.0):
    return shift + scale * np.random.default_rng(seed).normal(size=(models, count))


def epsilon(fnr, fpr):
    if fnr == fpr == 0:
        return CAP
    if fnr == 0 or fpr == 0:
        return None
    sides = [(1 - DELTA - a) / b for a, b in ((fpr, fnr), (fnr, fpr))]
    return max([0.0, *(math.log(side) for side in sides if side > 0)])


def searched(unlearned, oracles, step=0.5):
    """The definition on a grid, which misses nothing where all margins are whole numbers."""
    up, down = (oracles, unlearned) if np.median(oracles) > np.median(unlearned) else (unlearned, oracles)
    shown = [
        epsilon(np.mean(up < t), np.mean(down >= t))
        for t in np.arange(min(up.min(), down.min()), max(up.max(), down.max()) + step, step)
    ]
    narrow, wide = (down, up) if np.ptp(up) >= np.ptp(down) else (up, down)
    around = np.arange(-BUFFER, BUFFER + step, step)
    for right in narrow.max() + around:
        for left in right - np.ptp(narrow) + around:
            caught, wrong = (np.mean((left <= side) & (side <= right)) for side in (narrow, wide))
            missed = np.mean((left > narrow) | (narrow > right))
            shown.append(epsilon(missed, wrong) if caught + missed == 1 else None)
    shown = [value for value in shown if value is not None]
    return min(max(shown), CAP) if shown else CAP


def test_by_hand():
    # the best attacker takes 3 and more for an oracle: of four each, one is missed and one wrongly called
    found = epsilons(column(0, 1, 2, 3), column(2, 3, 4, 5))
    assert found[0] == pytest.approx(math.log((0.75 - DELTA) / 0.25))
    # 1.0986 lies in [1, 1.5): a quarter; three models in all would allow for epsilons below 2
    assert points(found, 4) == pytest.approx([0.25])
    assert epsilons(column(2, 3, 4, 5), column(0, 1, 2, 3))[0] == pytest.approx(found[0])


def test_an_attacker_with_two_thresholds():
    # equal medians, so that a single threshold sees little
    # from -1 to 1 lie all of one side and two of the other; from 0 to 1 three and one
    found = epsilons(column(-1, 0, 1, 1), column(-8, 0, -0.5, 8))
    assert found[0] == pytest.approx(math.log((1 - DELTA - 0.25) / 0.25))
    apart = epsilons(column(-1, -0.5, 0.5, 1), column(-8, -7, 7, 8))
    assert apart[0] == CAP


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1, 1), (0, 0.3), (0.5, 4)])
def test_against_a_plain_search(seed, shift, scale):
    unlearned = np.rint(4 * normal(seed, 14, 3, shift, scale))
    oracles = np.rint(4 * normal(seed + 50, 11, 3))
    expected = [searched(unlearned[:, point], oracles[:, point]) for point in range(3)]
    assert epsilons(unlearned, oracles) == pytest.approx(expected, abs=1e-12)


def test_never_below_the_grid():
    unlearned, oracles = normal(1, 60, 4, 0.3, 0.5), normal(2, 60, 4)
    for point, found in enumerate(epsilons(unlearned, oracles)):
        assert found >= searched(unlearned[:, point], oracles[:, point], 0.04) - 1e-9


def test_points_halve_with_each_half_of_epsilon():
    found = np.array([0, 0.49, 0.5, 1.2, 4.99, 5.0, 50])
    # 512 models: up to 7; 100 models: up to 5
    assert points(found, 512) == pytest.approx([1, 1, 1 / 2, 1 / 4, 2.0**-9, 2.0**-10, 0])
    assert points(found, 100) == pytest.approx([1, 1, 1 / 2, 1 / 4, 2.0**-9, 0, 0])


def test_same_apart_and_peaked():
    same = normal(1, 20, 3)
    assert epsilons(same, same) == pytest.approx(0)
    assert epsilons(same + 100, same) == pytest.approx(CAP)
    assert epsilons(np.zeros((20, 3)), same) == pytest.approx(CAP)
    assert epsilons(0.001 * same, same) == pytest.approx(CAP)


def test_where_the_released_code_stops():
    # no range at all: 0/0 there
    assert epsilons(np.zeros((5, 2)), np.zeros((5, 2))) == pytest.approx(0)
    assert epsilons(np.zeros((5, 2)), np.ones((5, 2))) == pytest.approx(CAP)
    # a whole range below its grid's step of 1/100: the same attackers are found at every scale
    unlearned, oracles = normal(1, 40, 5, 1.0), normal(2, 40, 5)
    assert (epsilons(1e-4 * unlearned, 1e-4 * oracles) >= epsilons(unlearned, oracles) - 1e-9).all()
    # unequal numbers of models
    assert np.isfinite(epsilons(normal(1, 40, 5), normal(2, 25, 5))).all()


def test_the_score():
    unlearned, oracles = normal(1, 64, 30, 0.5), normal(2, 64, 30)
    found = challenge_score(unlearned, oracles, retain_accuracy=(0.9, 1.0), test_accuracy=(0.4, 0.8))
    assert found.forget_quality == pytest.approx(points(epsilons(unlearned, oracles), 64).mean())
    assert found.score == pytest.approx(found.forget_quality * 0.9 * 0.5)
    assert found.floor_models == (32, 32) and 0 < found.oracle_quality < 1
    assert "64 oracles" in str(found)


def test_oracles_are_best():
    oracles, again = normal(2, 50, 60), normal(3, 50, 60)
    good = challenge_score(normal(1, 50, 60), oracles, oracles_again=again, **EVEN)
    bad = challenge_score(normal(1, 50, 60, 3.0), oracles, oracles_again=again, **EVEN)
    assert good.forget_quality == pytest.approx(good.oracle_quality, abs=0.1)
    assert bad.forget_quality < 0.2 * good.forget_quality
    assert good.at_floor_size == pytest.approx(good.forget_quality, abs=0.1)
    assert good.floor_models == (50, 50)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"retain_accuracy": (90, 95)}, "retain_accuracy is"),
        ({"test_accuracy": (0.5, 0.0)}, "test_accuracy is"),
        ({"oracles_again": normal(9, 10, 3)}, "3 points|oracles_again 3"),
    ],
)
def test_bad_input(more, sentence):
    with pytest.raises(InputError, match=sentence):
        challenge_score(normal(1, 10, 4), normal(2, 10, 4), **{**EVEN, **more})


def test_too_few_models():
    with pytest.raises(InputError, match="oracles has 5 models"):
        challenge_score(normal(1, 10, 4), normal(2, 5, 4), **EVEN)
