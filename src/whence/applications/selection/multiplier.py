"""Compute multiplier: with how much more random data a choice is on a par.

Engstrom, Feldmann, Madry 2024 (arXiv 2401.12926), section 4: a choice has a multiplier of c if training on
random data needs c times the compute to reach its loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from whence.errors import InputError
from whence.evaluate.result import Result

_DRAWS = 4000
# Runs that the common spread counts for, beside those of a mean itself. With 3 runs of each and noise that is
# equal or falls with the square root of compute, 95 % intervals then cover in 95 to 98 % of simulated cases
# (multipliers 1.5, 3 and 7, 1,000 cases each); with 0 in 98 to 100 %, half as wide again; with 4 in 92 to
# 98 %.
_COMMON = 2


@dataclass(frozen=True)
class ComputeMultiplier(Result):
    """A multiplier with its 95 % interval, censored where it leaves the measured multiples.

    Attributes
    ----------
    value, interval : never outside the measured multiples.
    below, above : whether value, low end and high end are in truth below the smallest or above the largest
        multiple: three flags each.
    multiples : those at which random choices were trained; `seeds`, how often each of them and the choice.
    """

    value: float
    interval: tuple[float, float]
    below: tuple[bool, bool, bool]
    above: tuple[bool, bool, bool]
    multiples: tuple[float, ...]
    seeds: int

    def __str__(self) -> str:
        value, low, high = (
            f"{'<' if below else '>' if above else ''}{number:.3g}"
            for number, below, above in zip((self.value, *self.interval), self.below, self.above, strict=True)
        )
        return f"{value}x [{low}, {high}]"


def compute_multiplier(
    random: Mapping[float, Sequence[float] | np.ndarray], losses: Sequence[float] | np.ndarray, seed: int = 0
) -> ComputeMultiplier:
    """The multiple of compute at which random choices reach the mean of `losses`.

    The mean loss of random choices is made non-increasing in compute (isotonic regression, weighted by the
    numbers of runs) and interpolated linearly in the logarithm of compute; where it is flat, the smaller
    multiple counts. The interval takes each mean as known up to Student's t, with its own variance moderated
    by the mean variance of all (Smyth 2004): a few runs tell little of their own spread.

    Parameters
    ----------
    random : multiple of the choice's compute -> losses of random choices of that size, one for each run.
    losses : of the choice itself, one for each run.
    seed : of the draws from Student's t.

    Raises
    ------
    InputError : fewer than two multiples, fewer than two runs of anything, numbers that are not finite.
    """
    multiples = np.array(sorted(random), np.float64)
    runs = [np.asarray(random[multiple], np.float64) for multiple in sorted(random)]
    own = np.asarray(losses, np.float64)
    if len(multiples) < 2 or not (multiples > 0).all():
        raise InputError(
            f"random has the multiples {multiples.tolist()}, but at least two positive ones are needed to "
            "interpolate between."
        )
    if any(one.ndim != 1 or len(one) < 2 or not np.isfinite(one).all() for one in (*runs, own)):
        raise InputError(
            "every multiple and the choice itself need at least two finite losses, one for each run; without "
            "repeats there is no interval."
        )
    rng = np.random.default_rng(seed)
    counts = np.array([len(one) for one in runs], np.float64)
    common = float(np.mean([one.var(ddof=1) for one in (*runs, own)]))
    curve = np.stack([_means(one, common, rng) for one in runs], 1)
    level = _means(own, common, rng)
    found = _reached(_decreasing(curve, counts), np.log(multiples), level)
    low, high = np.quantile(found[1:], [0.025, 0.975], method="nearest")
    three = np.array([found[0], low, high])
    ends = np.log(multiples[[0, -1]])
    value, low, high = np.exp(np.clip(three, *ends)).tolist()
    return ComputeMultiplier(
        value=value,
        interval=(low, high),
        below=tuple((three == -np.inf).tolist()),
        above=tuple((three == np.inf).tolist()),
        multiples=tuple(multiples.tolist()),
        seeds=int(min(len(own), counts.min())),
    )


def _means(values: np.ndarray, common: float, rng: np.random.Generator) -> np.ndarray:
    """(1 + draws,) the mean, and draws of what it may be."""
    freedom = len(values) - 1
    variance = (freedom * values.var(ddof=1) + _COMMON * common) / (freedom + _COMMON)
    spread = (variance / len(values)) ** 0.5
    return values.mean() + spread * np.r_[0.0, rng.standard_t(freedom + _COMMON, _DRAWS)]


def _decreasing(curve: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Non-increasing least-squares fit of each row, by the min-max formula (Barlow et al. 1972)."""
    points = curve.shape[1]
    found = np.full_like(curve, np.inf)
    for i in range(points):
        for first in range(i + 1):
            best = np.full(len(curve), -np.inf)
            for last in range(i, points):
                part = slice(first, last + 1)
                best = np.maximum(best, curve[:, part] @ weights[part] / weights[part].sum())
            found[:, i] = np.minimum(found[:, i], best)
    return found


def _reached(curve: np.ndarray, at: np.ndarray, level: np.ndarray) -> np.ndarray:
    """(rows,) the smallest place at which each non-increasing curve is at its level or lower; -inf where it
    starts lower, inf where it never gets there."""
    found = np.full(len(curve), np.inf)
    for i in range(len(at) - 1, 0, -1):
        high, low = curve[:, i - 1], curve[:, i]
        inside = (level >= low) & (level <= high)
        share = (high - level) / np.where(high > low, high - low, 1.0)
        found = np.where(inside, at[i - 1] + share * (at[i] - at[i - 1]), found)
    return np.where(level > curve[:, 0], -np.inf, found)
