"""Column-wise correlations and their two-way bootstrap: rows are masks, columns are targets."""

from __future__ import annotations

from typing import Literal

import numpy as np

from whence.errors import InputError

Rank = Literal["spearman", "pearson"]

# Above this many multiply-adds the bootstrap would take minutes; fewer resamples then, never fewer than 200.
_WORK = 4e8
# float32 predictions of a subset-independent value differ in their last bits; ranks of such dust mean
# nothing.
_DUST = {2: 2e-3, 4: 1e-6, 8: 1e-12}


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks 1..m within each column of ``(m, t)``; ties share the average of their ranks."""
    return np.stack(
        [_ranks(column, np.ones((len(column), 1), np.float32))[:, 0] for column in values.T], axis=1
    )


def is_constant(values: np.ndarray) -> np.ndarray:
    """Which columns of ``(m, t)`` do not vary beyond the rounding of their type: boolean ``(t,)``."""
    dust = _DUST.get(values.dtype.itemsize, 1e-12) if values.dtype.kind == "f" else 0.0
    return np.ptp(values, axis=0) <= dust * np.abs(values).max(axis=0)


def correlations(a: np.ndarray, b: np.ndarray, rank: Rank = "spearman") -> np.ndarray:
    """Correlation of each column of `a` with the same column of `b`, both ``(m, t)``: ``(t,)`` float64.

    A constant column has correlation 0 by convention: it orders nothing, so it earns nothing.
    """
    check_rank(rank)
    defined = ~(is_constant(a) | is_constant(b))
    if rank == "spearman":
        a, b = average_ranks(a), average_ranks(b)
    a = a - a.mean(axis=0, dtype=np.float64)
    b = b - b.mean(axis=0, dtype=np.float64)
    return np.where(defined, _ratio((a * b).sum(0), (a * a).sum(0), (b * b).sum(0)), 0.0)


class Resamples:
    """Bootstrap draws shared by everything that is compared: how often each mask and each target was drawn.

    Masks and targets are resampled independently with replacement (the pigeonhole bootstrap, Owen 2007), so
    an interval says what other held-out masks *and* other targets of the same kind would have given. It errs
    on the wide side. `masks` is ``(times, m)`` and `targets` ``(times, t)``, both of counts.
    """

    def __init__(self, masks: int, targets: int, times: int, seed: int) -> None:
        if times < 0 or 0 < times < 100:
            raise InputError(
                f"bootstrap is {times}, but it must be 0 (no interval) or at least 100 resamples."
            )
        self.times = int(min(times, max(200, _WORK / (masks * targets))))
        rng = np.random.default_rng(seed)
        self.masks = rng.multinomial(masks, np.full(masks, 1 / masks), size=self.times)
        self.targets = rng.multinomial(targets, np.full(targets, 1 / targets), size=self.times)

    def correlations(self, a: np.ndarray, b: np.ndarray, rank: Rank = "spearman") -> np.ndarray:
        """Correlation of every column in every resample of the masks, ranks taken anew: ``(times, t)``."""
        counts = np.ascontiguousarray(self.masks.T, dtype=np.float32)
        defined = ~(is_constant(a) | is_constant(b))
        result = np.zeros((self.times, a.shape[1]), np.float32)
        for column in np.flatnonzero(defined):
            x, y = a[:, column], b[:, column]
            if rank == "spearman":
                u, v = _ranks(x, counts), _ranks(y, counts)
                u -= (len(x) + 1) / 2  # average ranks keep their mean, whatever the ties
                v -= (len(y) + 1) / 2
            else:
                u = _centred(x, counts)
                v = _centred(y, counts)
            weighted = counts * u
            xx, xy = np.einsum("mb,mb->b", weighted, u), np.einsum("mb,mb->b", weighted, v)
            yy = np.einsum("mb,mb,mb->b", counts, v, v)
            result[:, column] = _ratio(xy, xx, yy)
        return result

    def mean_over_targets(self, values: np.ndarray) -> np.ndarray:
        """Means ``(times,)`` of ``(times, t)`` over each resample's targets."""
        return np.einsum("bt,bt->b", values, self.targets, dtype=np.float64) / self.targets.shape[1]

    def interval(self, draws: np.ndarray, estimate: float) -> tuple[float, float] | None:
        """The central 95 % of ``(times,)`` draws, moved so that their mean is `estimate`; None without draws.

        Fewer different masks lower a rank correlation a little, and a resample holds only 63 % of them.
        Averaged over many targets this shift is no longer small against the interval's width, and is the same
        for all draws.
        """
        if not self.times:
            return None
        return percentile_interval(draws - draws.mean() + estimate)


def percentile_interval(draws: np.ndarray) -> tuple[float, float]:
    """The central 95 % of bootstrap draws."""
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def check_rank(rank: str) -> None:
    if rank not in ("spearman", "pearson"):
        raise InputError(f'rank is {rank!r}, but it must be "spearman" or "pearson".')


def _ranks(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average ranks of ``(m,)`` values when value i occurs ``counts[i, b]`` times in resample b: ``(m,
    times)``.

    The values are sorted once; a resample only changes how many copies stand below, so its ranks are a
    running sum.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    copies = counts[order]
    upto = np.cumsum(copies, axis=0, dtype=copies.dtype)
    starts = np.r_[True, ordered[1:] != ordered[:-1]]
    if starts.all():
        ranks = upto - 0.5 * copies
    else:
        first = np.maximum.accumulate(np.where(starts, np.arange(len(values)), 0))
        last = np.r_[np.flatnonzero(starts)[1:] - 1, len(values) - 1][np.cumsum(starts) - 1]
        ranks = 0.5 * (upto[first] - copies[first] + upto[last])
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return ranks[inverse] + copies.dtype.type(0.5)


def _centred(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64) - values.mean(dtype=np.float64)
    values = (values / max(float(np.abs(values).max()), 1e-300)).astype(counts.dtype)
    return values[:, None] - (values @ counts) / counts.sum(axis=0)


def _ratio(xy: np.ndarray, xx: np.ndarray, yy: np.ndarray) -> np.ndarray:
    scale = np.sqrt(xx) * np.sqrt(yy)
    return np.clip(np.divide(xy, scale, out=np.zeros_like(scale), where=scale > 0), -1.0, 1.0)
