"""Confident learning (Northcutt, Jiang and Chuang 2021): how many labels are wrong, and which others fit.

The number and the suggestions need no package; the ranking of the `cleanlab` package is there where it is
installed.
"""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np

from whence.applications.mislabels_rankings import thresholds
from whence.errors import InputError


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


def wrong_labels(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Estimated number of wrong labels: what lies off the diagonal of `confident_joint`."""
    joint = confident_joint(labels, probabilities)
    return float(joint.sum() - np.trace(joint))


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
