"""95 % intervals of means, of differences of two means and of shares."""

from __future__ import annotations

import math

import numpy as np


def mean_interval(values: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Mean of two or more `values` ``(k,)`` and its interval, in their units (Student 1908)."""
    mean = float(np.mean(values))
    half = student_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, (mean - half, mean + half)


def welch(first: np.ndarray, second: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Difference of two means and its 95 % interval, without assuming equal variances (Welch 1947)."""
    difference = float(first.mean() - second.mean())
    parts = [side.var(ddof=1) / len(side) for side in (first, second)]
    total = float(sum(parts))
    if total == 0:
        return difference, (difference, difference)
    freedom = total**2 / sum(p**2 / (len(s) - 1) for p, s in zip(parts, (first, second), strict=True))
    half = student_quantile(freedom) * total**0.5
    return difference, (difference - half, difference + half)


def student_quantile(freedom: float, level: float = 0.975) -> float:
    """Quantile of Student's t with `freedom` degrees of freedom, by bisection of its integrated density."""
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(
        freedom * math.pi
    )

    def above_zero(t: float) -> float:
        # substituting sqrt(freedom) tan(a) for t makes the integrand smooth whatever the tails
        angle = np.linspace(0, math.atan(t / math.sqrt(freedom)), 2001)
        return float(np.trapezoid(np.cos(angle) ** (freedom - 1), angle)) * constant * math.sqrt(freedom)

    low, high = 0.0, 1e4
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if above_zero(middle) < level - 0.5 else (low, middle)
    return low


def student_tail(t: float, freedom: float) -> float:
    """Probability that Student's t with `freedom` degrees of freedom exceeds `t`."""
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    angle = np.linspace(math.atan(t / math.sqrt(freedom)), math.pi / 2, 4001)
    return float(np.trapezoid(np.maximum(np.cos(angle), 0) ** (freedom - 1), angle)) * constant


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, p = 1.959963984540054, successes / trials
    middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)
