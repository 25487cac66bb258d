"""Baselines of backdoor detection: what a single model says about its training examples.

Each function returns ``(n,)`` scores, larger is more suspicious. Those of representations work class by class
and need no more than the features ``(n, d)`` of the training examples and their labels; the defences of the
literature take the inputs of the last layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.study.variants import self_targets, with_outputs

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

SMALLEST = 5  # examples of a class below which nothing can be said of their spread
EXCESS = 1.5  # times the suspected poison is trimmed away


def spectral_signatures(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared projection on the top singular vector of the centred features of the class (Tran, Li, Madry
    2018, arXiv 1811.00636, algorithm 1)."""

    def one(x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(0)
        return np.square(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])

    return _by_class(features, labels, one)


def activation_clustering(
    features: np.ndarray, labels: np.ndarray, dimensions: int = 10, seed: int = 0
) -> np.ndarray:
    """How clearly an example belongs to the smaller of two clusters of its class, times how well the class
    falls into two (Chen et al. 2019, arXiv 1811.03728: 2-means after a reduction to ten dimensions, here by
    principal components; the silhouette tells poisoned classes).

    Scores lie between -1 and 1 times the silhouette, 0 half way between the centres.
    """

    def one(x: np.ndarray) -> np.ndarray:
        z = _principal(x, dimensions)
        member, centres = _two_means(z, np.random.default_rng(seed))
        small = int(member.sum() <= len(z) / 2)
        axis = centres[small] - centres[1 - small]
        side = 2 * (z - centres.mean(0)) @ axis / np.square(axis).sum()
        return np.clip(side, -1, 1) * max(_silhouette(z, member), 0.0)

    return _by_class(features, labels, one)


def whitened_outliers(
    features: np.ndarray,
    labels: np.ndarray,
    poisoned: int | None = None,
    dimensions: int = 100,
    alpha: float = 4.0,
) -> np.ndarray:
    """Quantum entropy scores of robustly whitened features (SPECTRE: Hayase, Kong, Somani, Oh 2021, arXiv
    2104.11315).

    The class is projected on its first k principal components, whitened by a mean and covariance of its
    central part, and each example scored by ``x^T Q x / tr Q`` with ``Q = exp(alpha (S - I) / (|S| - 1))``,
    S the covariance of all whitened examples. Of ten k that k is taken whose highest scores, when they are
    removed, make the class stand out most from what is left. In place of the paper's robust estimator the
    central part is found by trimming: mean and covariance of the examples nearest to the last ones, again
    until they stay.

    Parameters
    ----------
    poisoned : how many poisoned examples to reckon with; 1.5 times as many are trimmed, and removed to
        compare the k. Default a tenth of the class. At most half of a class is trimmed.
    dimensions : k at most; also no more than a third of the class.
    """

    def one(x: np.ndarray) -> np.ndarray:
        count = len(x)
        trimmed = min(round(EXCESS * (poisoned if poisoned is not None else count / 10)), count // 2)
        whole = _principal(x, min(dimensions, max(1, count // 3)))
        best, most = np.zeros(count), -np.inf
        for k in np.unique(np.rint(np.linspace(1, whole.shape[1] ** 0.5, 10) ** 2).astype(int)):
            score, _ = _entropy(_white(whole[:, :k], _central(whole[:, :k], trimmed)), alpha)
            left = np.sort(np.argsort(score, kind="stable")[: count - trimmed])
            _, excess = _entropy(_white(whole, left), alpha)
            if excess > most:
                best, most = score, excess
        return best

    return _by_class(features, labels, one)


def losses(study: Study, seed: int = 0) -> np.ndarray:
    """Loss of each training example under one model trained on all, in nats."""
    asked = with_outputs(self_targets(study), ["loss"])
    (run,) = asked.trainer().train(np.ones((1, study.n), bool), np.array([seed], np.int64))
    if run.error is not None:
        raise InputError(f"the model could not be trained: {run.error}")
    return np.asarray(run.outputs["loss"], np.float64)


def self_influence(attribution: Attribution) -> np.ndarray:
    """How much each training example helps its own output, the diagonal of a train x train attribution.

    Raises
    ------
    InputError : the targets are not the training examples, in their order.
    """
    if attribution.weight.ndim != 2 or not np.array_equal(
        attribution.target_ids.astype(str), attribution.train_ids.astype(str)
    ):
        raise InputError(
            f"attribution has shape {attribution.shape} and must be train x train with a scalar output; "
            "estimate it for whence.study.variants.self_targets(study)."
        )
    diagonal = np.diagonal(attribution.weight).astype(np.float64)
    return -diagonal if attribution.lower_is_better else diagonal


def at_random(n: int, seed: int = 0) -> np.ndarray:
    """What chance gives."""
    return np.random.default_rng(seed).random(n)


def baselines(
    study: Study, attribution: Attribution | None = None, *, poisoned: int | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """All of the above for one study: name -> scores ``(n,)``.

    Parameters
    ----------
    study : with a recipe, whose network ends in a linear layer; two models of it are trained, on everything.
    attribution : train x train, for self-influence; without it that row is left out.
    poisoned : how many poisoned examples SPECTRE reckons with; the paper takes the true number.
    seed : of the models, of the clustering and of chance.
    """
    from whence.training import features

    inside, _ = features(study, seed=seed)
    labels = np.asarray(study.train_labels)
    found = {
        "spectral signatures": spectral_signatures(inside, labels),
        "activation clustering": activation_clustering(inside, labels, seed=seed),
        "SPECTRE": whitened_outliers(inside, labels, poisoned),
        "loss": losses(study, seed),
        "random": at_random(study.n, seed),
    }
    if attribution is not None:
        found["self-influence"] = self_influence(attribution)
    return found


def _by_class(
    features: np.ndarray, labels: np.ndarray, score: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Scores of each class on its own; 0 for classes too small to have a spread."""
    x, labels = np.asarray(features, np.float64), np.asarray(labels)
    if x.ndim != 2 or labels.shape != (len(x),):
        raise InputError(
            f"features and labels must be (n, d) and (n,), received shapes {x.shape} and {labels.shape}."
        )
    if not np.isfinite(x).all():
        raise InputError("features hold NaN or infinite values; look at the network that made them.")
    scores = np.zeros(len(x))
    for label in np.unique(labels):
        inside = labels == label
        if inside.sum() >= SMALLEST and np.ptp(x[inside], axis=0).any():
            scores[inside] = score(x[inside])
    return scores


def _principal(x: np.ndarray, dimensions: int) -> np.ndarray:
    """Coordinates ``(n, r)`` on the first principal components, of those that have any variance."""
    u, values, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    kept = min(dimensions, int((values > values[0] * 1e-6).sum()))
    return u[:, :kept] * values[:kept]


def _central(z: np.ndarray, trimmed: int) -> np.ndarray:
    """Positions of all but `trimmed` rows, those nearest to their own mean in their own covariance."""
    kept = np.arange(len(z))
    for _ in range(20):
        distance = np.square(_white(z, kept)).sum(1)
        nearest = np.sort(np.argsort(distance, kind="stable")[: len(z) - trimmed])
        if np.array_equal(nearest, kept):
            break
        kept = nearest
    return kept


def _white(z: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """All rows, whitened by mean and covariance of some."""
    covariance = np.cov(z[kept].T, ddof=0).reshape(z.shape[1], -1)
    values, vectors = np.linalg.eigh(covariance)
    # directions in which the central part does not vary at all would make any outlier infinitely far
    root = vectors / np.sqrt(np.maximum(values, values[-1] * 1e-6)) @ vectors.T
    return (z - z[kept].mean(0)) @ root


def _entropy(white: np.ndarray, alpha: float) -> tuple[np.ndarray, float]:
    """Quantum entropy scores of whitened rows, and their mean (Dong, Hopkins, Li 2019, arXiv 1906.11366)."""
    values, vectors = np.linalg.eigh(white.T @ white / len(white))
    excess = values[-1] - 1
    weight = np.exp(alpha * (values - values[-1]) / excess) if excess > 1e-9 else np.ones(len(values))
    score = np.square(white @ vectors) @ weight / weight.sum()
    return score, float(score.mean())


def _two_means(z: np.ndarray, rng: np.random.Generator, restarts: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Cluster ``(n,)`` bool and centres ``(2, r)`` of the best of several runs of Lloyd's algorithm."""
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    for _ in range(restarts):
        centres = z[rng.choice(len(z), 2, replace=False)]
        member = np.zeros(len(z), bool)
        for _ in range(100):
            distance = np.square(z[:, None] - centres).sum(2)
            fresh = distance[:, 1] < distance[:, 0]
            if not 0 < fresh.sum() < len(z) or np.array_equal(fresh, member):
                break
            member = fresh
            centres = np.stack([z[~member].mean(0), z[member].mean(0)])
        inertia = float(np.square(z[:, None] - centres).sum(2).min(1).sum())
        if member.any() and (best is None or inertia < best[0]):
            best = inertia, member, centres
    if best is None:  # all examples but copies of one
        member = np.zeros(len(z), bool)
        member[int(np.square(z - z.mean(0)).sum(1).argmax())] = True
        best = 0.0, member, np.stack([z[~member].mean(0), z[member].mean(0)])
    return best[1], best[2]


def _silhouette(z: np.ndarray, member: np.ndarray) -> float:
    """Mean silhouette of two clusters (Rousseeuw 1987)."""
    square = np.square(z).sum(1)
    distance = np.sqrt(np.maximum(square[:, None] + square[None] - 2 * z @ z.T, 0))
    inside = {side: distance[:, member == side] for side in (False, True)}
    values: list[Any] = []
    for side in (False, True):
        own, other = inside[side][member == side], inside[not side][member == side]
        if len(own) == 1:
            values.append(np.zeros(1))  # a cluster of one has silhouette 0 by definition
            continue
        a, b = own.sum(1) / (len(own) - 1), other.mean(1)
        values.append((b - a) / np.maximum(np.maximum(a, b), 1e-300))
    return float(np.concatenate(values).mean())
