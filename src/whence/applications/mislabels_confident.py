"""From out-of-fold class probabilities: how many labels are wrong, and which others fit.

Confident learning (Northcutt, Jiang and Chuang 2021) counts; where the model is weak it takes the model's
mistakes for wrong labels, so there is a second estimate that knows what wrong labels would look like. Both
need no package; the ranking of the `cleanlab` package is there where it is installed.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from whence.applications.mislabels_rankings import confident_margin, thresholds
from whence.errors import InputError

FEWEST, FEWEST_SHARE = 10, 0.005  # examples, and share of all, that an estimate of `wrong_labels` rests on


def confident_joint(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(classes, classes) estimated counts of given label i and true label j (equations 1 to 3).

    An example counts where the probability of some class reaches that class's threshold, for the likeliest of
    those that do. Rows are then scaled to the counts of the given labels.

    Parameters
    ----------
    labels : (n,) given labels. probabilities : (n, classes), out of fold.
    """
    count = probabilities.shape[1]
    reaches = probabilities >= thresholds(labels, probabilities) - 1e-6  # of one example it is the mean
    likeliest = np.where(reaches, probabilities, -np.inf).argmax(1)
    sure = reaches.any(1)
    joint = np.zeros((count, count))
    np.add.at(joint, (labels[sure], likeliest[sure]), 1)
    # a class of whose examples none is sure keeps its labels
    np.fill_diagonal(joint, np.maximum(np.diag(joint), 1))
    return joint / joint.sum(1, keepdims=True) * np.bincount(labels, minlength=count)[:, None]


def confused_labels(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Confident learning's number of wrong labels: what lies off the diagonal of `confident_joint`."""
    joint = confident_joint(labels, probabilities)
    return float(joint.sum() - np.trace(joint))


def wrong_labels(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """The largest number of wrong labels that the most suspicious examples leave room for.

    The probabilities of an example do not depend on its own label, for it was left out; so its suspicion
    under any other label is known, and such are the suspicions of wrong labels (other labels weighted as
    `confident_joint` confuses classes). If a share s of these lies above a level, N wrong labels make at
    least s N suspicions above it: the smallest ratio over levels is N (mixture proportion estimation,
    Blanchard, Lee and Scott 2010). Too low where people go wrong just where the model does.
    """
    n, count = probabilities.shape
    rows, usual = np.arange(n), thresholds(labels, probabilities)
    weight = (confident_joint(labels, probabilities).T + 1)[labels]  # (true, given); no pair is impossible
    weight[rows, labels] = 0
    weight /= weight.sum(1, keepdims=True)
    under = [confident_margin(np.full(n, label), probabilities, usual) for label in range(count)]
    score, share = np.stack(under, axis=1).ravel(), weight.ravel()
    order = np.argsort(-score)
    own = confident_margin(labels, probabilities)
    levels = np.sort(own)[::-1]
    observed = np.searchsorted(-levels, -levels, side="right") / n
    expected = np.r_[0.0, share[order].cumsum()][np.searchsorted(-score[order], -levels, side="right")] / n
    ratio = np.full(n, 1.0)
    np.divide(observed, expected, out=ratio, where=expected > 0)
    # The smallest of many noisy ratios is too small, so the upper end of each one's interval decides.
    fewest = min(max(FEWEST, round(FEWEST_SHARE * n)), n)
    upper = ratio * (1 + 1.96 / np.sqrt(n * observed))
    best = fewest - 1 + int(upper[fewest - 1 :].argmin())
    # Of an example that is wrong now one other label is the right one, and looks like it.
    first = own >= levels[best]
    right = weight[rows, suggested_labels(labels, probabilities)][first].mean()
    return float(n * min(ratio[best] / (1 + ratio[best] * right), 1.0))


def suggested_labels(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(n,) likeliest label other than the given one."""
    others = probabilities.astype(np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    return others.argmax(1)


def cleanlab_is_there() -> bool:
    """Whether the `cleanlab` package can be imported."""
    return find_spec("cleanlab") is not None


def cleanlab_ranking(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The order in which `cleanlab` lists label issues (pruning by noise rate, then self-confidence), what it
    does not list after them by self-confidence: (n,), larger = more suspicious."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        raise InputError(
            "confident learning's own ranking needs cleanlab; pip install 'whence[labels]'."
        ) from None
    listed = find_label_issues(labels, probabilities, filter_by="prune_by_noise_rate", n_jobs=1)
    return listed + 1 - get_label_quality_scores(labels, probabilities, method="self_confidence")
