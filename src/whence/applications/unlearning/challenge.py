"""The score of the NeurIPS 2023 unlearning challenge: how well an attacker tells two sets of models apart.

After the description in the organisers' evaluation code (google-deepmind/unlearning_evaluation, 2024). For
each forget point, attackers that look at one confidence are tried, and the best one's error rates bound the
epsilon of (epsilon, delta)-unlearning; small epsilons earn points. Two things differ: every
threshold is tried instead of a grid of 100 for each unit, which misses distributions narrower than its step,
and points at which every attacker errs on one side only, where the released code stops, count as told apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.applications.unlearning.sides import Pair, checked, comparisons
from whence.errors import InputError
from whence.evaluate.result import Result

DELTA = 1e-5
CAP = 50.0  # epsilon of what is told apart without error
STEP = 0.5  # of epsilon: each further one halves the points
BUFFER = 2.0  # units of margin around the narrower distribution in which the ends of an interval are tried
CACHED = 200_000  # intervals at a time
PEAKED = 0.01  # a range smaller than this share of the other one counts as told apart


@dataclass(frozen=True)
class Challenge(Result):
    """The challenge score; higher is better.

    Attributes
    ----------
    score : forget quality times the two ratios of accuracy. forget_quality : mean points, from 0 to 1.
    retain_ratio, test_ratio : accuracy of unlearned models over that of oracles.
    oracle_quality : forget quality of oracles against other oracles, `floor_models` of each, from where says
        `floor_from`: what perfect unlearning reaches, well below 1. Compare it with `at_floor_size`, the
        forget quality of as many unlearned models.
    epsilons : (points,)
    """

    score: float
    forget_quality: float
    retain_ratio: float
    test_ratio: float
    oracle_quality: float
    at_floor_size: float
    floor_models: tuple[int, int]
    floor_from: str
    unlearned: int
    oracles: int
    epsilons: np.ndarray = field(repr=False, compare=False)

    def __str__(self) -> str:
        first, second = self.floor_models
        return (
            f"Challenge score {self.score:.3f}: forget quality {self.forget_quality:.3f} over "
            f"{len(self.epsilons):,} points, retain accuracy x {self.retain_ratio:.3f}, test accuracy x "
            f"{self.test_ratio:.3f}; {self.unlearned} unlearned models, {self.oracles} oracles. Forget "
            f"quality {self.oracle_quality:.3f} between {first} and {second} oracles ({self.floor_from}), "
            f"{self.at_floor_size:.3f} for as many unlearned models"
        )


def challenge_score(
    unlearned: Any,
    oracles: Any,
    *,
    retain_accuracy: tuple[float, float],
    test_accuracy: tuple[float, float],
    oracles_again: Any = None,
    seed: int = 0,
) -> Challenge:
    """Score of unlearned models.

    Parameters
    ----------
    unlearned, oracles, oracles_again, seed : as in `klom`, at the forget points. The challenge had 512 models
        a side; scores of other numbers are not comparable with each other.
    retain_accuracy, test_accuracy : (of unlearned models, of oracles), shares from 0 to 1.

    Raises
    ------
    InputError : fewer than 3 models (6 without `oracles_again`), different points, margins that are not
        finite, models that are on both sides, accuracies that are no shares.
    """
    unlearned, oracles, again = checked(
        unlearned, oracles, oracles_again, 3 if oracles_again is not None else 6
    )
    retain = _ratio("retain_accuracy", retain_accuracy)
    test = _ratio("test_accuracy", test_accuracy)
    compared = comparisons(unlearned, oracles, again, seed)
    found = epsilons(unlearned, oracles)
    quality = float(points(found, min(len(unlearned), len(oracles))).mean())
    return Challenge(
        score=quality * retain * test,
        forget_quality=quality,
        retain_ratio=retain,
        test_ratio=test,
        oracle_quality=_quality(compared.floor),
        at_floor_size=_quality(compared.matched),
        floor_models=compared.models,
        floor_from=compared.source,
        unlearned=len(unlearned),
        oracles=len(oracles),
        epsilons=found,
    )


def points(found: np.ndarray, models: int) -> np.ndarray:
    """Points for each epsilon: 1 in [0, 0.5), 1/2 in [0.5, 1), and so on, 0 from ceil(ln(models - 1)) on."""
    steps = np.floor(found / STEP)
    return np.where(steps < math.ceil(math.log(models - 1)) / STEP, 0.5**steps, 0.0)


def epsilons(unlearned: np.ndarray, oracles: np.ndarray) -> np.ndarray:
    """Largest epsilon that an attacker shows at each point (points,), for margins (models, points).

    Takes memory and time of points times the square of the models.
    """
    count = unlearned.shape[1]
    at_once = max(1, CACHED // (len(unlearned) + len(oracles)) ** 2)
    parts = [slice(start, start + at_once) for start in range(0, count, at_once)]
    return np.concatenate([_epsilons(unlearned[:, part].T, oracles[:, part].T) for part in parts])


def _epsilons(unlearned: np.ndarray, oracles: np.ndarray) -> np.ndarray:
    """Of margins (points, models)."""
    oracle_above = np.median(oracles, axis=1) > np.median(unlearned, axis=1)
    ranges = np.ptp(unlearned, axis=1), np.ptp(oracles, axis=1)
    found = np.full(len(unlearned), -np.inf)
    for above, upper, lower, spread in (
        (oracle_above, oracles, unlearned, (ranges[1], ranges[0])),
        (~oracle_above, unlearned, oracles, ranges),
    ):
        # where both are as wide, the released code takes the lower one for the narrower
        wide = spread[0] >= spread[1]
        for rows, narrow, other in ((above & ~wide, upper, lower), (above & wide, lower, upper)):
            if rows.any():
                best = np.maximum(
                    _by_threshold(upper[rows], lower[rows]), _by_interval(narrow[rows], other[rows])
                )
                found[rows] = best
    found = np.where(np.isneginf(found), CAP, np.minimum(found, CAP))
    small, large = np.minimum(*ranges), np.maximum(*ranges)
    same = (large == 0) & (unlearned[:, 0] == oracles[:, 0])
    return np.where(same, 0.0, np.where(small < PEAKED * large, CAP, found))


def _by_threshold(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Largest epsilon (points,) of the attackers that call a margin "upper" from some margin on."""
    below_upper, _, below_lower, _, _ = _counts(upper, lower)
    table = _table(upper.shape[1], lower.shape[1])
    return table[below_upper, lower.shape[1] - below_lower].max(1)


def _by_interval(narrow: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Largest epsilon (points,) of the attackers that call a margin "narrow" between two margins."""
    below_narrow, to_narrow, below_wide, to_wide, margins = _counts(narrow, wide)
    table = _table(narrow.shape[1], wide.shape[1])
    # the place in the table of an interval is a part for its right end minus a part for its left end
    row = table.shape[1]
    right = (narrow.shape[1] - to_narrow) * row + to_wide
    left = below_wide - below_narrow * row
    # a right end anywhere up to the next margin does the same, a left end anywhere down to the one before;
    # tried is what has such ends within the buffer
    most, width = narrow.max(1, keepdims=True), np.ptp(narrow, axis=1)[:, None]
    infinite = np.full((len(margins), 1), np.inf)
    before = np.concatenate([-infinite, margins[:, :-1]], axis=1)
    after = np.concatenate([margins[:, 1:], infinite], axis=1)
    near = (margins <= most + BUFFER) & (after > most - BUFFER)
    lowest = np.where(near, np.maximum(margins, most - BUFFER) - width - BUFFER, np.inf)
    highest = np.minimum(after, most + BUFFER) - width + BUFFER
    tried = margins[:, :, None] >= lowest[:, None, :]
    tried &= before[:, :, None] < highest[:, None, :]
    tried &= np.tri(margins.shape[1], dtype=bool).T  # the left end is not right of the right one
    shown = table.ravel().take(right[:, None, :] - left[:, :, None], mode="clip")
    return np.where(tried, shown, -np.inf).max((1, 2))


def _counts(
    first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """At each margin of both, in order (points, models): how many of the first are below it and how many are
    up to it, the same for the second, and the margin."""
    both = np.concatenate([first, second], axis=1)
    order = np.argsort(both, axis=1, kind="stable")
    margins = np.take_along_axis(both, order, 1)
    at = np.arange(both.shape[1])
    new = np.diff(margins, axis=1, prepend=-np.inf) > 0  # equal margins cannot be told apart
    last = np.diff(margins, axis=1, append=np.inf) > 0
    start = np.maximum.accumulate(np.where(new, at, 0), axis=1)
    stop = np.minimum.accumulate(np.where(last, at + 1, both.shape[1])[:, ::-1], axis=1)[:, ::-1]
    of_first = np.concatenate(
        [np.zeros((len(both), 1), np.int64), np.cumsum(order < first.shape[1], axis=1)], axis=1
    )
    below, up_to = (np.take_along_axis(of_first, where, 1) for where in (start, stop))
    return below, up_to, start - below, stop - up_to, margins


def _table(positives: int, negatives: int) -> np.ndarray:
    """Epsilon for numbers of missed positives and wrongly called negatives; -inf where an attacker errs on
    one side only, which too few models make likely."""
    fnr = np.arange(positives + 1)[:, None] / positives
    fpr = np.arange(negatives + 1)[None] / negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.fmax(np.log(1 - DELTA - fpr) - np.log(fnr), np.log(1 - DELTA - fnr) - np.log(fpr))
    shown = np.fmax(shown, 0.0)
    shown[0], shown[:, 0] = -np.inf, -np.inf
    shown[0, 0] = CAP
    return shown


def _quality(pairs: list[Pair]) -> float:
    return float(np.mean([points(epsilons(*pair), min(map(len, pair))).mean() for pair in pairs]))


def _ratio(name: str, accuracy: tuple[float, float]) -> float:
    unlearned, oracle = accuracy
    if not (0 <= unlearned <= 1 and 0 < oracle <= 1):
        raise InputError(
            f"{name} is {tuple(accuracy)}, but it must be two shares, of unlearned models from 0 to 1 and of "
            "oracles above 0."
        )
    return unlearned / oracle
