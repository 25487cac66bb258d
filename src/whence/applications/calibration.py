"""How predicted support sizes relate to verified ones: a slope and a spread, fitted to verified targets.

Weights were fitted around subsets of the training set and the largest of them are too large (they were chosen
for it), so a sum of weights overstates what removing its examples does to a model of the full set. Ilyas et
al. 2022 enlarge every set by a fifth. Here the slope and the scatter of sizes around it are estimated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch

from whence.errors import InputError
from whence.evaluate.result import Result

FEWEST = 5  # verified targets for a fit
_SLOPES = np.exp(np.linspace(-4, 4, 401))
_SPREADS = np.geomspace(0.05, 3, 50)


@dataclass(frozen=True)
class Verified:
    """What retraining found of one target.

    Attributes
    ----------
    base : its mean output after training on everything.
    drops : (cap,) predicted fall of the output when the first 1, 2, ..., cap examples of its ranking go.
    low, high : the output stayed above 0 without the first `low` of them and not without the first `high`;
        None where it stayed above 0 up to the cap.
    """

    base: float
    drops: np.ndarray
    low: int
    high: int | None


@dataclass(frozen=True)
class Calibration(Result):
    """``log(true size) = log(size at which slope * predicted fall = base) + spread * noise``, noise normal.

    `slope` turns predicted falls into realised ones where the output crosses 0, in the units of both (for an
    attribution that is right up to scale it supplies the scale); `spread` is in logarithms of set size.
    """

    slope: float
    spread: float
    targets: int
    method: str

    def size(self, base: float, drops: np.ndarray, certainty: float = 0.95) -> int | None:
        """Examples to remove so that the output falls below 0 with this probability; None beyond the cap.

        base, drops : as in `Verified`.
        """
        if not 0 < certainty < 1:
            raise InputError(f"certainty is {certainty}, but it is a probability between 0 and 1.")
        margin = NormalDist().inv_cdf(certainty) * self.spread * math.sqrt(1 + 1 / self.targets)
        size = max(1, math.ceil(float(crossing(base, drops, self.slope)) * math.exp(margin) - 1e-9))
        return size if size <= len(drops) else None


def crossing(base: float, drops: np.ndarray, slope: float | np.ndarray) -> np.ndarray:
    """Set size, not rounded, at which `slope` times the predicted fall reaches `base`.

    Past the cap falls go on in a straight line through the origin.
    """
    if not len(drops) or not drops[-1] > 0:
        return np.full(np.shape(slope), np.inf)
    needed = base / np.asarray(slope, np.float64)
    inside = np.interp(needed, np.r_[0.0, drops], np.arange(len(drops) + 1.0))
    return np.where(needed > drops[-1], len(drops) * needed / drops[-1], inside)


def calibrate(verified: Sequence[Verified], method: str = "") -> Calibration:
    """Most likely slope and spread (a censored regression of log sizes), by a search over a grid."""
    usable = [one for one in verified if len(one.drops) and one.drops[-1] > 0 and one.base > 0]
    found = [one for one in usable if one.high is not None]
    if len(found) < FEWEST:
        raise InputError(
            f"a calibration needs {FEWEST} targets that removals were found to flip, received {len(found)} "
            f"of {len(verified)}; verify more targets, or allow larger sets."
        )
    start = float(np.median([one.base / one.drops[one.high - 1] for one in found if one.high]))
    slopes, spreads = start * _SLOPES, _SPREADS[:, None]
    total = np.zeros((len(_SPREADS), len(slopes)))
    for one in usable:
        centre = np.log(crossing(one.base, one.drops, slopes))
        lower = _normal((math.log(one.low + 0.5) - centre) / spreads)
        upper = 1.0 if one.high is None else _normal((math.log(one.high + 0.5) - centre) / spreads)
        total += np.log(np.maximum(upper - lower, 1e-12))
    best_spread, best_slope = np.unravel_index(int(total.argmax()), total.shape)
    return Calibration(float(slopes[best_slope]), float(_SPREADS[best_spread]), len(usable), method)


def _normal(z: np.ndarray) -> np.ndarray:
    return torch.special.ndtr(torch.as_tensor(z)).numpy()
