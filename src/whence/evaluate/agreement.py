"""Agreement of realised with predicted changes, with intervals that respect which rows belong together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.evaluate.correlation import correlations, percentile_interval
from whence.evaluate.result import Result


@dataclass(frozen=True)
class Agreement(Result):
    """Realised against predicted changes of a pool of removals: ``realised = intercept + slope * predicted``.

    Intervals are 95 %, by bootstrap over targets (all rows of a target together); None with fewer than 3
    targets. With fewer than about 10 targets they are too narrow.
    """

    rows: int
    spearman: float
    spearman_interval: tuple[float, float] | None
    pearson: float
    pearson_interval: tuple[float, float] | None
    slope: float
    slope_interval: tuple[float, float] | None
    intercept: float


def agreement(
    predicted: np.ndarray, realised: np.ndarray, owners: np.ndarray, bootstrap: int, seed: int
) -> Agreement:
    """Agreement of ``(m,)`` changes; rows with one owner (a target) are resampled together."""
    spearman, pearson, slope = _statistics(predicted, realised)
    intervals: list[tuple[float, float] | None] = [None, None, None]
    groups = [np.flatnonzero([owner == name for owner in owners]) for name in dict.fromkeys(owners.tolist())]
    if bootstrap and len(groups) >= 3:
        rng = np.random.default_rng(seed)
        draws = []
        for _ in range(bootstrap):
            drawn = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
            draws.append(_statistics(predicted[drawn], realised[drawn]))
        intervals = [percentile_interval(column) for column in np.array(draws).T]
    return Agreement(
        rows=len(predicted),
        spearman=spearman,
        spearman_interval=intervals[0],
        pearson=pearson,
        pearson_interval=intervals[1],
        slope=slope,
        slope_interval=intervals[2],
        intercept=float(realised.mean() - slope * predicted.mean()),
    )


def _statistics(predicted: np.ndarray, realised: np.ndarray) -> tuple[float, float, float]:
    x, y = predicted[:, None], realised[:, None]
    centred = predicted - predicted.mean()
    spread = float(centred @ centred)
    slope = float(centred @ realised) / spread if spread > 0 else 0.0
    return float(correlations(x, y)[0]), float(correlations(x, y, "pearson")[0]), slope
