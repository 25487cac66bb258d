"""Rankings of training examples by how wrong their labels look: ``(n,)``, larger = more suspicious.

One function each. Amounts are comparable within a ranking only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from whence.applications.mislabels_folds import Folds
from whence.errors import InputError
from whence.evaluate.correlation import average_ranks
from whence.training.dynamics import Dynamics

if TYPE_CHECKING:
    from whence.attribution import Attribution


# --- From an attribution ---


def self_influence(attribution: Attribution) -> np.ndarray:
    """What training on an example does for its own output, in the order of the attribution's training ids.

    An example whose label only its own presence teaches is an exception to the others, or wrong (Koh and
    Liang 2017, section 5.4; Pruthi et al. 2020, section 4.1). The attribution is train x train, of any
    method: ``method.attribute(whence.study.variants.self_targets(study))``.
    """
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); self-influence is of a scalar one "
            "such as margin."
        )
    if set(attribution.train_ids.tolist()) - set(attribution.target_ids.tolist()):
        raise InputError(
            f"attribution is of {attribution.shape[0]} targets that lack some of its {attribution.shape[1]} "
            "training examples; make it of whence.study.variants.self_targets(study)."
        )
    own = attribution.self_influence().values.astype(np.float64)
    return -own if attribution.lower_is_better else own


# --- From the retrainings of a bank ---


def out_of_fold_margin(folds: Folds) -> np.ndarray:
    """Minus the mean margin over the retrainings that left the example out."""
    return -folds.out_margin


def in_fold_margin(folds: Folds) -> np.ndarray:
    """Minus the mean margin over the retrainings that trained on the example: what is not even learnt."""
    return -folds.in_margin


def memorisation(folds: Folds) -> np.ndarray:
    """How much likelier the given label is where the example was trained on (Feldman and Zhang 2020, equation
    1, with the probability of the label in place of a correct prediction)."""
    return folds.in_chance - folds.out_chance


# --- From training dynamics ---


def area_under_margin(dynamics: Dynamics) -> np.ndarray:
    """Minus AUM, the margin averaged over epochs (Pleiss et al. 2020, equation 1) and runs."""
    return -_over_runs(dynamics.margin.mean(1, dtype=np.float64), dynamics.counts)


def data_map(dynamics: Dynamics) -> np.ndarray:
    """1 - confidence, the probability of the given label averaged over epochs and runs (Swayamdipta et al.
    2020, section 2; section 6 finds wrong labels by confidence alone)."""
    return 1 - _over_runs(dynamics.probability.mean(1, dtype=np.float64), dynamics.counts)


def variability(dynamics: Dynamics) -> np.ndarray:
    """The other axis of a data map: standard deviation of that probability over epochs. Wrong labels are of
    low confidence and low variability; of low confidence and high variability is what is learnt late."""
    return _over_runs(dynamics.probability.std(1, dtype=np.float64), dynamics.counts)


def threshold_of(dynamics: Dynamics, percentile: float = 99.0) -> float:
    """The AUM below which labels are not to be believed: that percentile of the examples that were given the
    threshold class (Pleiss et al. 2020, section 4)."""
    if not dynamics.has_threshold_class:
        raise InputError("dynamics has no threshold class; make it with threshold_class=True and runs=2.")
    area = dynamics.margin.mean(1, dtype=np.float64)
    return float(np.percentile(area[~dynamics.counts], percentile))


def _over_runs(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean over the runs (runs, n) that tell of an example's own label."""
    return np.where(counts, values, 0.0).sum(0) / counts.sum(0)


# --- From class probabilities out of fold ---


def self_confidence(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """1 - probability of the given label, of out-of-fold `probabilities` (n, classes)."""
    return 1 - probabilities[np.arange(len(labels)), labels]


def normalised_margin(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Probability of the likeliest other label less that of the given one (Northcutt et al. 2021, section
    3)."""
    return _margin(labels, probabilities)


def confident_margin(
    labels: np.ndarray, probabilities: np.ndarray, usual: np.ndarray | None = None
) -> np.ndarray:
    """`normalised_margin` of probabilities less what is `usual` for each class, (classes,): what is usual
    makes no suspicion. Default: the `thresholds`."""
    usual = thresholds(labels, probabilities) if usual is None else usual
    return _margin(labels, probabilities - usual)


def thresholds(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(classes,) mean probability of each class over the examples that are labelled so (Northcutt et al.
    2021, equation 2); 1 for a class without examples."""
    count = probabilities.shape[1]
    sums = np.bincount(labels, probabilities[np.arange(len(labels)), labels], minlength=count)
    sizes = np.bincount(labels, minlength=count)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), 1.0)


def _margin(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    rows = np.arange(len(labels))
    others = values.astype(np.float64)
    own = others[rows, labels].copy()
    others[rows, labels] = -np.inf
    return others.max(1) - own


# --- Together ---


def mean_rank(rankings: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the ranks in several rankings, as a share of n (Borda's count): no amounts, nothing to fit."""
    ranks = average_ranks(np.stack(rankings, axis=1))
    return ranks.mean(1) / len(ranks)
