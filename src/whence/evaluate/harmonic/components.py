"""What an estimator of the variance split returns, and how uncertain any combination of it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from whence.evaluate.harmonic.units import Units

Spread = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Components:
    """Variances by column, in squared units of the output.

    Attributes
    ----------
    linear, total : ``(columns,)`` variance of the best linear datamodel, and of a single retraining.
    seed : ``(columns,)`` variance between seeds of a mask; None where no mask was repeated.
    spread : ``spread(a, b, c)`` is the sampling variance, over masks and seeds, of ``a @ linear + b @ total +
        c @ seed``.
    linear_variance : ``(columns,)`` sampling variance of ``linear / total``.
    """

    linear: np.ndarray
    total: np.ndarray
    seed: np.ndarray | None
    spread: Spread
    linear_variance: np.ndarray


def seed_variance(units: Units) -> np.ndarray | None:
    """``(columns,)`` pooled variance between the seeds of a mask; None without repeats."""
    if not units.repeats:
        return None
    return (units.seeds - 1) @ units.within / units.repeats


def seed_influence(units: Units, seed: np.ndarray | None) -> np.ndarray:
    """``(u, columns)`` what each mask adds to the error of `seed_variance`."""
    if seed is None:
        return np.zeros_like(units.means)
    return (units.seeds - 1)[:, None] * (units.within - seed) / units.repeats


def precision_weights(units: Units) -> np.ndarray:
    """``(u,)`` weights with sum 1, by the precision of a mask's mean: more seeds count more where seeds are
    noisy."""
    seed = seed_variance(units)
    noisy = 0.0
    if seed is not None:
        single = units.means.var(axis=0, ddof=1).sum() + (seed * (1 - (1 / units.seeds).mean())).sum()
        noisy = float(np.clip(seed.sum() / max(single, 1e-300), 0, 1))
    weight = 1 / (1 - noisy + noisy / units.seeds) if noisy < 1 else units.seeds.astype(np.float64)
    return weight / weight.sum()
