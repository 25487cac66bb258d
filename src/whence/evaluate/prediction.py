"""Prediction error: are predicted outputs right in absolute terms, and how much of what can be explained
is?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError
from whence.evaluate.alignment import heldout, predictions
from whence.evaluate.correlation import Resamples
from whence.evaluate.result import Result, with_interval

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank


@dataclass(frozen=True)
class PredictionError(Result):
    """Error of predicted outputs on held-out masks, against outputs averaged over the seeds of each mask.

    Attributes
    ----------
    mse : mean squared error, mean over targets, in squared units of the output; includes the seed noise of
        the means.
    noise : the part of `mse` that seeds alone cause and no predictor avoids (variance / seeds); None with one
        seed.
    r2, interval : share of the variance over masks that is predicted, pooled over targets (total error over
        total variance, so that a target without variance cannot blow it up), with its bootstrap 95 %
        interval.
    explained, explained_interval : share of the *explainable* variance that is predicted, ``r2 /
        reliability``, pooled over targets; None with one seed, or where
        seed noise hides all signal. 1 means that nothing but seed noise is left.
    mse_per_target, r2_per_target : ``(t,)``; r2 is NaN for a target whose output does not vary.
    """

    mse: float
    noise: float | None
    r2: float
    interval: tuple[float, float] | None
    explained: float | None
    explained_interval: tuple[float, float] | None
    mse_per_target: np.ndarray
    r2_per_target: np.ndarray
    target_ids: np.ndarray
    n: int
    n_masks: int
    seeds: int
    keep: float
    method: str
    output: str

    def __str__(self) -> str:
        if self.explained is None and self.seeds > 1:
            share = "no variance beyond seed noise to explain"
        elif self.explained is None:
            share = "share of the explainable variance unknown: it needs 2 seeds a mask (held_out_seeds=2)"
        else:
            share = (
                f"{with_interval(self.explained, self.explained_interval)} of what seed noise leaves to "
                f"explain"
            )
        noise = "" if self.noise is None else f", {self.noise:.4g} of it seed noise"
        return (
            f"R2 {with_interval(self.r2, self.interval)}, {share}; MSE {self.mse:.4g}{noise} "
            f"({self.method or 'unnamed method'}, {self.output})\n"
            f"n={self.n:,}, keep={self.keep:g}, {self.n_masks} held-out masks x {self.seeds} seeds, "
            f"{len(self.mse_per_target):,} targets"
        )


def prediction_error(
    attribution: Attribution,
    bank: Bank,
    part: str = "held_out",
    output: str | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> PredictionError:
    """MSE, R2 and the share of explainable variance on held-out retrainings.

    Only for calibrated attributions; others are right up to scale at most, use `lds`. R2 compares with each
    target's own held-out mean (unbiased variance over masks). Intervals resample masks and targets.

    Raises
    ------
    InputError : `attribution` is not calibrated, or does not belong to `bank` (as in `lds`).
    """
    if not attribution.calibrated:
        raise InputError(
            f"attribution ({attribution.method or 'unnamed method'}) is not calibrated, so its predictions "
            f"have no scale to "
            "be wrong in; use whence.evaluate.lds, or fit its scale to a validation part first."
        )
    held = heldout(attribution, bank, part, output)
    predicted = held.columns(predictions(attribution, bank, held).astype(np.float64))
    means = held.columns(held.means)
    squared = (means - predicted) ** 2
    centred = means - means.mean(0)
    noise = None
    if held.seeds > 1:
        noise = held.columns(held.outputs.astype(np.float64)).var(axis=1, ddof=1) / held.seeds
    resamples = Resamples(len(held.masks), held.targets, bootstrap, seed)
    width = means.shape[1] // held.targets
    ones = np.ones((1, len(means))), np.ones((1, held.targets))
    r2, explained = _shares(*ones, squared, centred, noise, width)
    interval = explained_interval = None
    if resamples.times:
        draws = _shares(resamples.masks, resamples.targets, squared, centred, noise, width, inflate=True)
        interval = resamples.interval(draws[0], float(r2[0]))
        # Some resamples without any signal: the interval has no upper end, and a part of it would mislead.
        if explained is not None and draws[1] is not None and np.isfinite(draws[1]).all():
            explained_interval = resamples.interval(draws[1], float(explained[0]))
    mse_per_target = _per_target(squared.mean(0), held.targets)
    variance = _per_target(centred.var(axis=0, ddof=1), held.targets)
    varies = variance > 1e-12 * (1 + _per_target(means.mean(0) ** 2, held.targets))
    ratio = np.divide(mse_per_target, variance, out=np.full(held.targets, np.nan), where=varies)
    return PredictionError(
        mse=float(squared.mean()),
        noise=None if noise is None else float(noise.mean()),
        r2=float(r2[0]),
        interval=interval,
        explained=None if explained is None or np.isnan(explained[0]) else float(explained[0]),
        explained_interval=explained_interval,
        mse_per_target=mse_per_target,
        r2_per_target=1 - ratio,
        target_ids=held.target_ids,
        n=int(held.masks.shape[1]),
        n_masks=len(means),
        seeds=held.seeds,
        keep=float(bank.plan.subsets.keep),
        method=attribution.method,
        output=held.output,
    )


def _per_target(values: np.ndarray, targets: int) -> np.ndarray:
    return values.reshape(targets, -1).mean(axis=1)


def _shares(
    masks: np.ndarray,
    targets: np.ndarray,
    squared: np.ndarray,
    centred: np.ndarray,
    noise: np.ndarray | None,
    width: int,
    inflate: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Pooled R2 and explained share ``(k,)`` for counts of masks ``(k, g)`` and of targets ``(k, t)``."""
    g = masks.shape[1]
    weights = np.repeat(targets, width, axis=1)
    # Resampling with replacement shrinks a variance by (g - 1) / g in expectation; undo it where we
    # resampled.
    scale = (g / (g - 1)) ** (2 if inflate else 1)

    def pooled(values: np.ndarray) -> np.ndarray:
        return np.einsum("kt,kt->k", masks @ values / g, weights)

    error = pooled(squared)
    spread = (masks @ centred**2 / g - (masks @ centred / g) ** 2) * scale
    variance = np.einsum("kt,kt->k", spread, weights)
    tiny = np.finfo(np.float64).tiny
    r2 = 1 - error / np.maximum(variance, tiny)
    if noise is None:
        return r2, None
    signal = variance - pooled(noise)
    # Without measurable signal the share is not a number, and saying 0 would be a claim.
    return r2, np.where(signal > 0, (variance - error) / np.where(signal > 0, signal, 1.0), np.nan)
