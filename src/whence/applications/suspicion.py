"""From scores of pairs to a suspicion: how many pairs as extreme as this one chance alone would make.

For each target only its most extreme training example can be its duplicate, so the null is of row maxima.
Most targets have no duplicate; a Gumbel distribution (the limit of maxima) is fitted to the lower part of
their maxima, and the upper part is held against it. The suspicion is one minus the false discovery rate of
Benjamini and Hochberg 1995: of all targets at least as suspicious, about that share should be no chance find.
Where scores have lighter tails than the Gumbel's, as normal ones do, it errs on the cautious side.
"""

from __future__ import annotations

import numpy as np

_FITTED = np.linspace(0.1, 0.6, 26)  # quantiles of the maxima that duplicates are taken not to have reached

_CLOSEST = 0.01  # distances to 1 below this one say no more


def standardised(weight: np.ndarray) -> np.ndarray:
    """Rows (targets, train) with median 0 and unit spread, by the median deviation.

    The spread is taken to be at least a third of the row's rms, for half of a sparse row is zeros, and of the
    usual row's, or any weight of a target that hangs on nothing would look extreme.
    """
    centred = weight - np.median(weight, axis=1, keepdims=True)
    spread = 1.4826 * np.median(np.abs(centred), axis=1, keepdims=True)
    rms = np.sqrt(np.square(centred).mean(axis=1, keepdims=True))
    least = np.maximum(rms, np.median(rms)) / 3
    return centred / np.maximum(np.maximum(spread, least), 1e-12)


def stretched(likeness: np.ndarray) -> np.ndarray:
    """Likeness of at most 1 (a cosine, a correlation) on a scale on which halving the distance to 1 counts
    alike everywhere; other likeness as it is. Unlike weights it is comparable between targets, so rows
    stay."""
    if np.abs(likeness).max(initial=0.0) > 1 + 1e-3:
        return likeness
    return -np.log(np.maximum(1 - likeness, 0.0) + _CLOSEST)


def extremity(score: np.ndarray) -> np.ndarray:
    """(targets, train) scores in Gumbel units: 0 is a usual row maximum, each unit above e times rarer.

    Sums of such scores of several kinds weigh them by what their maxima are worth.
    """
    maxima = score.max(axis=1)
    # Gumbel quantiles are a straight line in -log(-log p): its slope is the scale.
    scale, location = np.polyfit(-np.log(-np.log(_FITTED)), np.quantile(maxima, _FITTED), 1)
    return (score - location) / max(float(scale), 1e-12)


def tail(extreme: np.ndarray) -> np.ndarray:
    """Probability that a target without duplicates has a pair this extreme."""
    return -np.expm1(-np.exp(-np.clip(extreme, -30, 700)))


def suspicion(extreme: np.ndarray, owners: np.ndarray, targets: int) -> np.ndarray:
    """1 - false discovery rate of pairs (m,) of these extremities, most extreme first.

    owners : (m,) which target each pair is of; a target counts as one find, however many pairs it has.
    """
    _, first = np.unique(owners, return_index=True)
    finds = np.cumsum(np.isin(np.arange(len(owners)), first))
    rate = targets * tail(extreme) / finds
    return 1 - np.minimum(np.minimum.accumulate(rate[::-1])[::-1], 1.0)


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under precision against recall of scores (m,), ties taken together; 0 without a positive."""
    order = np.argsort(-score, kind="stable")
    hits, values = np.cumsum(positive[order]), score[order]
    ends = np.r_[np.flatnonzero(np.diff(values)), len(values) - 1]
    if not hits[-1]:
        return 0.0
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())
