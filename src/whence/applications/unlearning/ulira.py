"""U-LiRA: can an attacker who knows both distributions tell an unlearned model from a retrained one?

The per-example likelihood-ratio attack on unlearning (Hayes et al. 2024, arXiv 2403.01218). For each point a
normal distribution is fitted to the margins of unlearned models and one to those of oracles; a model is
called what is likelier. The attacked model is left out of the fit on its side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.applications.unlearning.sides import checked, comparisons
from whence.evaluate.intervals import student_quantile
from whence.evaluate.result import Result, with_interval

FEWEST = 5  # models a side: without one group and the attacked one a variance is left
GROUPS = 10  # of models, left out in turn for the interval
NARROWEST = 1e-6  # standard deviation, as a share of the range of both sides


@dataclass(frozen=True)
class ULiRA(Result):
    """Accuracy of the attack over points, unlearned models and oracles counting equally; 0.5 is best.

    Attributes
    ----------
    accuracy, interval : mean over points, with its 95 % interval over models (a jackknife by groups of
        models; near 0.5 it is wider than it need be).
    floor : between two disjoint sets of oracles, of `floor_models` models; from where says `floor_from`.
        Compare it with `at_floor_size`, the attack with as many models.
    values : (points,) accuracy for each point.
    """

    accuracy: float
    interval: tuple[float, float]
    floor: float
    at_floor_size: float
    floor_models: tuple[int, int]
    floor_from: str
    unlearned: int
    oracles: int
    values: np.ndarray = field(repr=False, compare=False)

    def __str__(self) -> str:
        first, second = self.floor_models
        return (
            f"U-LiRA accuracy {with_interval(self.accuracy, self.interval)} over {len(self.values):,} "
            f"points, {self.unlearned} unlearned models, {self.oracles} oracles; {self.floor:.3f} between "
            f"{first} and {second} oracles ({self.floor_from}), {self.at_floor_size:.3f} for as many "
            "unlearned models"
        )


def ulira(unlearned: Any, oracles: Any, *, oracles_again: Any = None, seed: int = 0) -> ULiRA:
    """Attack every model at every point.

    Parameters
    ----------
    unlearned, oracles, oracles_again, seed : as in `klom`.

    Raises
    ------
    InputError : fewer than 5 models (10 without `oracles_again`), different points, margins that are not
        finite, models that are on both sides.
    """
    # halves of oracles are attacked too
    unlearned, oracles, again = checked(
        unlearned, oracles, oracles_again, FEWEST if oracles_again is not None else 2 * FEWEST
    )
    compared = comparisons(unlearned, oracles, again, seed)
    values = _by_point(unlearned, oracles)
    accuracy = float(values.mean())
    half = _half_width(unlearned, oracles, seed)
    return ULiRA(
        accuracy=accuracy,
        interval=(max(accuracy - half, 0.0), min(accuracy + half, 1.0)),
        floor=float(np.mean([_by_point(*pair) for pair in compared.floor])),
        at_floor_size=float(np.mean([_by_point(*pair) for pair in compared.matched])),
        floor_models=compared.models,
        floor_from=compared.source,
        unlearned=len(unlearned),
        oracles=len(oracles),
        values=values,
    )


def attack(unlearned: np.ndarray, oracles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each unlearned model and each oracle was recognised at each point: 1, 0, or 1/2 where both
    sides are equally likely; shapes as the margins (models, points)."""
    narrowest = NARROWEST * np.ptp(np.concatenate([unlearned, oracles]), axis=0)
    return _recognised(unlearned, oracles, narrowest), _recognised(oracles, unlearned, narrowest)


def _recognised(own: np.ndarray, other: np.ndarray, narrowest: np.ndarray) -> np.ndarray:
    count, centre = len(own), own.mean(0)
    away = own - centre
    squares = (away**2).sum(0)
    # the mean and the variance of a side without one of its models, in closed form
    mean = centre - away / (count - 1)
    variance = np.maximum(squares - away**2 * count / (count - 1), 0) / (count - 2)
    mine = _log_density(own, mean, variance, narrowest)
    theirs = _log_density(own, other.mean(0), other.var(0, ddof=1), narrowest)
    return np.where(mine == theirs, 0.5, mine > theirs)


def _log_density(x: np.ndarray, mean: np.ndarray, variance: np.ndarray, narrowest: np.ndarray) -> np.ndarray:
    """Of a normal distribution, up to a constant."""
    variance = np.maximum(variance, np.maximum(narrowest**2, np.finfo(float).tiny))
    return -0.5 * ((x - mean) ** 2 / variance + np.log(variance))


def _by_point(unlearned: np.ndarray, oracles: np.ndarray) -> np.ndarray:
    hit, held = attack(unlearned, oracles)
    return (hit.mean(0) + held.mean(0)) / 2


def _half_width(unlearned: np.ndarray, oracles: np.ndarray, seed: int) -> float:
    """Half of the 95 % interval of the mean accuracy, over models.

    Models are drawn afresh and points are not: what is asked about is this forget set. That each is
    attacked with a fit to all others ties their outcomes together, so that their spread alone would give
    an interval that is far too narrow; leaving out groups of models does not.
    """
    rng = np.random.default_rng(seed)
    groups = min(GROUPS, len(unlearned), len(oracles))
    first, second = (rng.permutation(len(side)) % groups for side in (unlearned, oracles))
    without = np.array([_by_point(unlearned[first != k], oracles[second != k]).mean() for k in range(groups)])
    error = math.sqrt((groups - 1) ** 2 / groups * without.var())
    return student_quantile(groups - 1) * error
