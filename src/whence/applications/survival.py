"""Kaplan-Meier curves and the log-rank test, for support sizes of which some are only known to be larger.

Kaplan and Meier 1958; intervals by Greenwood's variance on the log(-log) scale (Kalbfleisch and Prentice).
Mantel 1966 for the test. A target "survives" up to the smallest set whose removal flips it; a search that
ended without a flip is censored at the largest set that was tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.errors import InputError
from whence.evaluate.result import Result

_Z = 1.959963984540054  # of a 95 % interval


@dataclass(frozen=True)
class Curve(Result):
    """Share of targets flipped against set size: a step function that rises at each of `size`.

    Attributes
    ----------
    size : set sizes at which targets flip, ascending; flipped, low, high : the share flipped up to there and
        its pointwise 95 % interval.
    targets, censored : how many there are, and how many of them did not flip.
    largest : the largest size that was looked at; nothing is known beyond.
    """

    size: tuple[float, ...]
    flipped: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    targets: int
    censored: int
    largest: float

    def at(self, size: float) -> float:
        """Share flipped by sets of this size or smaller."""
        return max((f for s, f in zip(self.size, self.flipped, strict=True) if s <= size), default=0.0)

    def quantile(self, share: float = 0.5) -> float | None:
        """Smallest size that flips this share of the targets; None where the curve does not get there."""
        steps = zip(self.size, self.flipped, strict=True)
        return next((s for s, f in steps if f >= share - 1e-12), None)


def kaplan_meier(sizes: Sequence[float], found: Sequence[bool]) -> Curve:
    """Curve of `sizes` (t,), with `found` (t,) False where the target did not flip up to that size."""
    size, event = _checked(sizes, found)
    at_risk, deaths, times = _counts(size, event, np.unique(size[event]))
    surviving = np.cumprod(1 - deaths / at_risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        greenwood = np.cumsum(deaths / (at_risk * (at_risk - deaths)))
        spread = _Z * np.sqrt(greenwood) / np.abs(np.log(surviving))
        low, high = surviving ** np.exp(spread), surviving ** np.exp(-spread)
    # Where all have flipped the variance is not defined; the share is then 1 without an interval.
    low, high = (np.where(np.isfinite(end), end, surviving) for end in (low, high))
    return Curve(
        size=tuple(times.tolist()),
        flipped=tuple((1 - surviving).tolist()),
        low=tuple((1 - high).tolist()),
        high=tuple((1 - low).tolist()),
        targets=len(size),
        censored=int((~event).sum()),
        largest=float(size.max()),
    )


@dataclass(frozen=True)
class LogRank(Result):
    """Log-rank test that two rankers need sets of equal size.

    `observed` and `expected` are flips of the first one; more observed than expected says that it flips
    targets by smaller sets. `p` is two-sided, from chi-squared with one degree of freedom.
    """

    statistic: float
    p: float
    observed: float
    expected: float

    @property
    def ahead(self) -> bool:
        """Whether the first one flips targets by smaller sets, significant or not."""
        return self.observed > self.expected


def log_rank(
    first: tuple[Sequence[float], Sequence[bool]],
    second: tuple[Sequence[float], Sequence[bool]],
    paired: bool = False,
) -> LogRank:
    """Compare two groups, each (sizes, found) as in `kaplan_meier`.

    paired : entry i of both is the same target, and each target is a stratum of its own (the stratified
        test); without it the groups are taken as independent, which errs on the safe side for equal targets.
    """
    sides = [_checked(*first), _checked(*second)]
    if paired and len(sides[0][0]) != len(sides[1][0]):
        raise InputError(
            f"a paired test needs the same targets twice, received {len(sides[0][0])} and {len(sides[1][0])}."
        )
    strata = range(len(sides[0][0])) if paired else (slice(None),)
    observed = expected = variance = 0.0
    for stratum in strata:
        (a, a_event), (b, b_event) = (
            (np.atleast_1d(s[stratum]), np.atleast_1d(e[stratum])) for s, e in sides
        )
        times = np.unique(np.concatenate([a[a_event], b[b_event]]))
        risk_a, deaths_a, _ = _counts(a, a_event, times)
        risk_b, deaths_b, _ = _counts(b, b_event, times)
        risk, deaths = risk_a + risk_b, deaths_a + deaths_b
        observed += float(deaths_a.sum())
        expected += float((deaths * risk_a / risk).sum())
        more = risk > 1
        share = (risk_a / risk)[more]
        spare = (deaths * (risk - deaths))[more] / (risk - 1)[more]
        variance += float((share * (1 - share) * spare).sum())
    statistic = (observed - expected) ** 2 / variance if variance > 0 else 0.0
    return LogRank(statistic, math.erfc(math.sqrt(statistic / 2)), observed, expected)


def _counts(
    size: np.ndarray, event: np.ndarray, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each time: how many are at risk, how many flip; and the times."""
    at_risk = (size[None] >= times[:, None]).sum(1)
    deaths = ((size[None] == times[:, None]) & event[None]).sum(1)
    return at_risk, deaths, times


def _checked(sizes: Sequence[float], found: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    size, event = np.asarray(sizes, np.float64), np.asarray(found, bool)
    if size.ndim != 1 or size.shape != event.shape or not len(size):
        raise InputError(
            f"sizes and found must have one entry for each of one or more targets, received shapes "
            f"{size.shape} and {event.shape}."
        )
    if not np.isfinite(size).all():
        raise InputError("sizes must be finite; give the largest size tried where nothing flipped.")
    return size, event
