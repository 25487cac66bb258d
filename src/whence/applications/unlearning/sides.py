"""The two sides of a comparison, unlearned models and oracles, and the noise that two sets of oracles show.

A distance between two samples is not 0 where both come from one distribution, and how far it is from 0
depends on their sizes. So every measure here is also taken between two disjoint sets of oracles, its floor,
and once more between unlearned models and oracles at the size of that floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.result import Result

RESAMPLES = 500  # of the points, for intervals
ENOUGH = 1_000  # points times deals of the oracles for a floor
MOST_DEALS = 20
CHUNK = 4_000_000  # numbers at a time
AGAIN, HALVES = "a second set of oracles", "disjoint halves of the oracles"

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Comparisons:
    """What a measure is taken of.

    Attributes
    ----------
    floor : pairs (oracles, other oracles), each (models, points). matched : pairs (unlearned, oracles) of the
        same sizes. models : these sizes. source : where the floor's two sets come from.
    """

    floor: list[Pair]
    matched: list[Pair]
    models: tuple[int, int]
    source: str


@dataclass(frozen=True)
class Summary(Result):
    """Mean and 95th percentile of a measure over points, each with its 95 % interval.

    The intervals are bootstraps over points (None for a single one) and hold for these models; where points
    are few, such as in a small forget set, a 95th percentile is little more than the largest value.
    """

    mean: float
    mean_interval: tuple[float, float] | None
    p95: float
    p95_interval: tuple[float, float] | None
    points: int


def checked(
    unlearned: Any, oracles: Any, oracles_again: Any = None, fewest: int = 3
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Margins of each side as float64 (models, points), or an `InputError`."""
    sides = {"unlearned": unlearned, "oracles": oracles}
    if oracles_again is not None:
        sides["oracles_again"] = oracles_again
    found = {name: _margins(name, side, fewest) for name, side in sides.items()}
    points = found["unlearned"].shape[1]
    for name, side in found.items():
        if side.shape[1] != points:
            raise InputError(
                f"unlearned has {points} points and {name} {side.shape[1]}; pass margins of the same points "
                "in the same order."
            )
    _refuse_same(found["unlearned"], found["oracles"], "unlearned")
    again = found.get("oracles_again")
    if again is not None:
        _refuse_same(again, found["oracles"], "oracles_again")
        _refuse_same(again, found["unlearned"], "oracles_again", "unlearned")
    return found["unlearned"], found["oracles"], again


def comparisons(
    unlearned: np.ndarray, oracles: np.ndarray, again: np.ndarray | None, seed: int
) -> Comparisons:
    """Pairs for the floor, and pairs of the same sizes for what is held against it.

    With a second set of oracles these are as large as the sides themselves, or as the second set is. Without
    one the oracles are halved. Where points are few, the oracles are dealt out again, several times.
    """
    rng = np.random.default_rng(seed)
    halves = again is None
    if again is None:
        half = len(oracles) // 2
        order = rng.permutation(len(oracles))
        again, oracles = oracles[order[half : 2 * half]], oracles[order[:half]]
        unlearned = unlearned[rng.permutation(len(unlearned))]
    models = min(len(unlearned), len(again))
    floor, matched = [(again[:models], oracles)], [(unlearned[:models], oracles)]
    pool = np.concatenate([oracles, again])
    for _ in range(1, min(MOST_DEALS, -(-ENOUGH // pool.shape[1]))):
        order = rng.permutation(len(pool))
        second = pool[order[: len(oracles)]]
        floor.append((pool[order[len(oracles) : len(oracles) + models]], second))
        matched.append((unlearned[rng.permutation(len(unlearned))[:models]], second))
    return Comparisons(floor, matched, (models, len(oracles)), HALVES if halves else AGAIN)


def summarise(values: np.ndarray, drawn: np.ndarray | None) -> Summary:
    """Of values (deals, points) taken together, and what `resampled` drew of them."""
    mean, p95 = float(values.mean()), float(np.percentile(values, 95))
    intervals = (None, None) if drawn is None else (ends(drawn[0]), ends(drawn[1]))
    return Summary(mean, intervals[0], p95, intervals[1], values.shape[1])


def resampled(values: np.ndarray, seed: int) -> np.ndarray | None:
    """Means and 95th percentiles (2, 500) of resampled points, of values (deals, points); None for one point.

    The same points are drawn for the same `seed`, so that differences of two measures can be taken.
    """
    points = values.shape[1]
    if points < 2:
        return None
    rng = np.random.default_rng(seed)
    found = np.empty((2, RESAMPLES))
    at_once = max(1, CHUNK // (points * MOST_DEALS))
    for start in range(0, RESAMPLES, at_once):
        part = slice(start, min(start + at_once, RESAMPLES))
        drawn = values[:, rng.integers(0, points, (part.stop - start, points))]
        found[:, part] = drawn.mean((0, 2)), np.percentile(drawn, 95, axis=(0, 2))
    return found


def ends(values: np.ndarray) -> tuple[float, float]:
    """Of the 95 % interval, of resampled values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _margins(name: str, side: Any, fewest: int) -> np.ndarray:
    if hasattr(side, "detach"):
        side = side.detach().cpu().numpy()
    margins = np.asarray(side, np.float64)
    if margins.ndim != 2 or not margins.shape[1]:
        raise InputError(f"{name} has shape {margins.shape}, but it must be (models, points).")
    if len(margins) < fewest:
        raise InputError(f"{name} has {len(margins)} models, but at least {fewest} are needed.")
    wrong = ~np.isfinite(margins)
    if wrong.any():
        model, point = np.argwhere(wrong)[0]
        raise InputError(
            f"{name} holds {int(wrong.sum())} non-finite margins, the first of model {model} at point "
            f"{point}; leave such models out of the comparison and report how many there were."
        )
    return margins


def _refuse_same(first: np.ndarray, second: np.ndarray, name: str, other: str = "oracles") -> None:
    """A model compared with itself is at distance 0, which says nothing."""
    known = {row.tobytes() for row in np.ascontiguousarray(second)}
    if len(known) < len(second):
        return  # of a learner whose models coincide, equal rows are no sign of a mistake
    same = sum(row.tobytes() in known for row in np.ascontiguousarray(first))
    if same:
        raise InputError(
            f"{same} of {len(first)} models in {name} are also in {other}; a model compared with itself is "
            "at distance 0, so pass models trained with other seeds."
        )
