"""How well a score finds a known few among many: the area under the ROC curve, with intervals.

Scores are ``(n,)``, larger = rather one of the known; ties count half. Intervals and paired differences are
those of DeLong, DeLong and Clarke-Pearson 1988, over the draw of examples on both sides.
"""

from __future__ import annotations

import math

import numpy as np

from whence.errors import InputError
from whence.evaluate.correlation import average_ranks

_NORMAL = 1.959963984540054


def auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a random positive has the larger score than a random negative.

    positive : (n,) boolean, with both kinds in it
    """
    return float(_placements(score, positive)[0].mean())


def auc_interval(score: np.ndarray, positive: np.ndarray) -> tuple[float, tuple[float, float]]:
    """`auc` and its 95 % interval."""
    value, (low, high) = _estimate(*_placements(score, positive))
    return value, (max(low, 0.0), min(high, 1.0))


def auc_difference(
    first: np.ndarray, second: np.ndarray, positive: np.ndarray
) -> tuple[float, tuple[float, float]]:
    """How much larger the area of `first` is than that of `second` on the same examples, and its 95 %
    interval."""
    pairs = zip(_placements(first, positive), _placements(second, positive), strict=True)
    above, below = (a - b for a, b in pairs)
    return _estimate(above, below)


def precision_at(score: np.ndarray, positive: np.ndarray, count: int) -> float:
    """Share of positives among the `count` largest scores; what is tied at the cut is drawn at random."""
    score, positive = _checked(score, positive)
    if not 0 < count <= len(score):
        raise InputError(f"count is {count}, but it must be a whole number from 1 to {len(score)}.")
    cut = np.partition(score, len(score) - count)[len(score) - count]
    above, tied = score > cut, score == cut
    hits = positive[above].sum() + (count - above.sum()) * positive[tied].mean()
    return float(hits / count)


def _placements(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each positive the share of negatives below it, for each negative the share of positives above."""
    score, positive = _checked(score, positive)
    high, low = score[positive], score[~positive]
    if not len(high) or not len(low):
        raise InputError(
            f"positive marks {len(high)} of {len(score)} examples; a ranking is judged where some are marked "
            "and some are not."
        )
    joint, of_high, of_low = (
        average_ranks(part[:, None])[:, 0].astype(np.float64) for part in (score, high, low)
    )
    return (joint[positive] - of_high) / len(low), 1 - (joint[~positive] - of_low) / len(high)


def _estimate(of_positives: np.ndarray, of_negatives: np.ndarray) -> tuple[float, tuple[float, float]]:
    mean = float(of_positives.mean())
    parts = [float(part.var(ddof=1)) / len(part) for part in (of_positives, of_negatives) if len(part) > 1]
    half = _NORMAL * math.sqrt(sum(parts))
    return mean, (mean - half, mean + half)


def _checked(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    score, positive = np.asarray(score, np.float64), np.asarray(positive)
    if score.ndim != 1 or positive.shape != score.shape or positive.dtype != bool:
        raise InputError(
            f"score and positive must be numbers and booleans of one length, received shapes {score.shape} "
            f"and {positive.shape}, dtype {positive.dtype}."
        )
    if np.isnan(score).any():
        raise InputError(f"score holds {int(np.isnan(score).sum())} NaN, which have no rank.")
    return score, positive
