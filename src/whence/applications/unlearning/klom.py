"""KLoM: how far the margins of unlearned models are from those of models retrained without the forget set.

For each point, the Kullback-Leibler divergence between two histograms of margins (Georgiev et al. 2024, arXiv
2410.23232; binned as in the EasyDUB benchmark, arXiv 2602.16400, but for its largest sample, which
falls outside the last bin there and is counted here).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.applications.unlearning.sides import (
    Pair,
    Summary,
    checked,
    comparisons,
    ends,
    resampled,
    summarise,
)
from whence.errors import InputError
from whence.evaluate.result import Result, with_interval

DIRECTION, REVERSE = "KL(unlearned || oracle)", "KL(oracle || unlearned)"
BINS = 20  # of the published protocol, with 100 models a side
A_BIN = 5  # models for each bin: the floor of two normal samples is then about 0.35 nats on average
FEWEST = 2 * A_BIN
CLIP = 100.0  # margins beyond it are moved to it
LEAST = 1e-5  # share in a bin that the second distribution leaves empty, so that no value exceeds 11.52


@dataclass(frozen=True)
class KLoM(Result):
    """Distances between unlearned models and oracles, in nats, over points; 0 is best, 11.51 the most.

    Attributes
    ----------
    forward : KL(unlearned || oracle), the published direction. reverse : KL(oracle || unlearned).
    floor : KL between two disjoint sets of oracles, of `floor_models` models each; where they come from is
        `floor_from`. Compare it with `at_floor_size`, KL(unlearned || oracle) for as many models, and with
        `forward` only where the sizes agree.
    excess, excess_interval : 95th percentile of `at_floor_size` above that of the floor, about 0 for a
        perfect method; the interval is over points.
    bins : of each histogram. unlearned, oracles : numbers of models.
    values : (points,) of `forward`.
    """

    forward: Summary
    reverse: Summary
    floor: Summary
    at_floor_size: Summary
    excess: float
    excess_interval: tuple[float, float] | None
    floor_models: tuple[int, int]
    floor_from: str
    bins: int
    unlearned: int
    oracles: int
    values: np.ndarray = field(repr=False, compare=False)

    def __str__(self) -> str:
        first, second = self.floor_models
        lines = [
            f"{DIRECTION} over {self.forward.points:,} points, {self.bins} bins, {self.unlearned} unlearned "
            f"models, {self.oracles} oracles",
            f"  P95 {with_interval(self.forward.p95, self.forward.p95_interval)}, mean "
            f"{with_interval(self.forward.mean, self.forward.mean_interval)}",
            f"  floor with {first} and {second} models ({self.floor_from}): P95 "
            f"{with_interval(self.floor.p95, self.floor.p95_interval)}, mean "
            f"{with_interval(self.floor.mean, self.floor.mean_interval)}",
        ]
        lines.append(
            f"  unlearned with as many: P95 "
            f"{with_interval(self.at_floor_size.p95, self.at_floor_size.p95_interval)}, mean "
            f"{with_interval(self.at_floor_size.mean, self.at_floor_size.mean_interval)}; P95 above the "
            f"floor {with_interval(self.excess, self.excess_interval)}"
        )
        lines.append(f"  {REVERSE}: P95 {self.reverse.p95:.3f}, mean {self.reverse.mean:.3f}")
        return "\n".join(lines)


def klom(
    unlearned: Any,
    oracles: Any,
    *,
    oracles_again: Any = None,
    bins: int | None = None,
    seed: int = 0,
) -> KLoM:
    """KLoM over points, with its floor.

    Parameters
    ----------
    unlearned : (models, points) margins ``log(p / (1 - p))`` of the true label, of unlearned models with
        different seeds.
    oracles : the same points, for models retrained without the forget set.
    oracles_again : as many oracles again with other seeds. With them the floor has the size of the
        comparison; without them the oracles are halved, and the floor is that of half as many models, which
        is two to three times higher.
    bins : of each histogram, equally spaced over both sides' range at a point; default `suggest_bins` of the
        smallest set in any comparison, the published 20 from 100 models on.
    seed : of the halving and of the intervals.

    Raises
    ------
    InputError : too few models for the bins, different points, margins that are not finite, models that are
        on both sides.
    """
    unlearned, oracles, again = checked(unlearned, oracles, oracles_again)
    compared = comparisons(unlearned, oracles, again, seed)
    models = min(len(unlearned), len(oracles))
    if bins is None:
        bins = suggest_bins(min(models, *compared.models))
    elif bins < 2 or models < A_BIN * bins:
        raise InputError(
            f"bins is {bins} for {models} models a side, but a bin needs {A_BIN} of them or noise is all "
            f"that is seen; pass {max(2, models // A_BIN)} bins or fewer (at least 2), or "
            f"{A_BIN * max(bins, 2)} models."
        )
    p, q = binned(unlearned, oracles, bins)
    measured = {
        "forward": divergence(p, q)[None],
        "reverse": divergence(q, p)[None],
        "floor": np.stack([klom_values(*pair, bins) for pair in compared.floor]),
        "at_floor_size": np.stack([klom_values(*pair, bins) for pair in compared.matched]),
    }
    drawn = {name: resampled(values, seed) for name, values in measured.items()}
    found = {name: summarise(values, drawn[name]) for name, values in measured.items()}
    level, unlearned_level = drawn["floor"], drawn["at_floor_size"]
    return KLoM(
        **found,
        excess=found["at_floor_size"].p95 - found["floor"].p95,
        excess_interval=None
        if level is None or unlearned_level is None
        else ends(unlearned_level[1] - level[1]),
        floor_models=compared.models,
        floor_from=compared.source,
        bins=bins,
        unlearned=len(unlearned),
        oracles=len(oracles),
        values=measured["forward"][0],
    )


def suggest_bins(models: int) -> int:
    """Bins for `models` models a side: one for every five of them, from 2 to the published 20."""
    if models < FEWEST:
        raise InputError(
            f"the smallest set to compare has {models} models, but a histogram needs {FEWEST}; without "
            f"oracles_again the oracles are halved, so pass them, or {2 * FEWEST} oracles."
        )
    return min(BINS, models // A_BIN)


def klom_values(unlearned: np.ndarray, oracles: np.ndarray, bins: int = BINS) -> np.ndarray:
    """KL(unlearned || oracle) for each point (points,), for margins (models, points), however few models."""
    return divergence(*binned(unlearned, oracles, bins))


def binned(unlearned: np.ndarray, oracles: np.ndarray, bins: int) -> Pair:
    """Shares (points, bins) of either side in equal bins from the smallest to the largest margin of both.

    The last bin holds its upper edge, so that shares add up to 1.
    """
    sides = [np.clip(side, -CLIP, CLIP) for side in (unlearned, oracles)]
    low = np.minimum(*(side.min(0) for side in sides))
    span = np.maximum(*(side.max(0) for side in sides)) - low
    scale = np.divide(bins, span, out=np.zeros_like(span), where=span > 0)
    points = len(low)
    first = np.arange(points) * bins
    shares = []
    for side in sides:
        at = ((side - low) * scale).astype(np.intp)
        at = np.minimum(at, bins - 1) + first
        counts = np.bincount(at.ravel(), minlength=points * bins).reshape(points, bins)
        shares.append(counts / len(side))
    return shares[0], shares[1]


def divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) in nats over the last axis; shares of `q` below 1e-5 count as 1e-5."""
    ratio = np.divide(p, np.maximum(q, LEAST), out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(-1)
