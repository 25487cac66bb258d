"""Principal components and clusters of an attribution: which targets lean on the same training examples.

Ilyas et al. 2022 (arXiv 2202.00622), section 4.3: the weights of a target are an embedding of it in which
every coordinate means something, one training example.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.errors import InputError


@dataclass(frozen=True)
class Components:
    """Principal components of unit rows.

    Attributes
    ----------
    directions : ``(r, n)``, unit vectors over training examples.
    projections : ``(t, r)`` of the targets on them, about the mean target.
    explained : ``(r,)`` shares of the variance.
    silent : how many targets have no weight at all; they lie at the origin and count for nothing.
    """

    directions: np.ndarray
    projections: np.ndarray
    explained: np.ndarray
    silent: int


def principal_components(weight: np.ndarray, components: int, normalise: bool = True) -> Components:
    """PCA of weights ``(t, n)``.

    normalise : scale each row to length 1 first, so that a component is a direction that many targets share
        and not the few targets with the largest weights.
    """
    rows, loud = unit_rows(weight)
    if not normalise:
        rows = np.asarray(weight, np.float64)
    if loud.sum() <= components or components < 1:
        raise InputError(
            f"components is {components}, but it must be from 1 to {max(int(loud.sum()) - 1, 1)}: "
            f"{int(loud.sum())} of {len(rows)} targets have any weight."
        )
    centred = np.where(loud[:, None], rows - rows[loud].mean(0), 0.0)
    # The Gram matrix of targets is small where n is large; its eigenvectors give the directions exactly.
    values, left = np.linalg.eigh(centred @ centred.T)
    values, left = values[::-1][:components], left[:, ::-1][:, :components]
    if values[-1] <= values[0] * 1e-12:
        raise InputError(
            f"components is {components}, but the weights span only "
            f"{int((values > values[0] * 1e-12).sum())} dimensions; ask for fewer."
        )
    lengths = np.sqrt(values)
    directions = (left / lengths).T @ centred
    projections = left * lengths
    # The sign of a component is arbitrary: its heaviest target lies at the positive end.
    heaviest = np.abs(projections).argmax(0)
    sign = np.where(projections[heaviest, np.arange(components)] < 0, -1.0, 1.0)
    return Components(
        directions * sign[:, None],
        projections * sign,
        values / max(float((centred**2).sum()), np.finfo(float).tiny),
        int((~loud).sum()),
    )


def unit_rows(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``(t, n)`` of length 1 in float64, and which targets ``(t,)`` have any weight."""
    rows = np.asarray(weight, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1), lengths[:, 0] > 0


def nearest(weight: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar other targets of each: positions and cosines, ``(t, k)`` each, nearest first."""
    if not 1 <= k < len(weight):
        raise InputError(f"neighbours is {k}, but it must be from 1 to {len(weight) - 1}.")
    rows, _ = unit_rows(weight)
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosine, order, 1)


def spectral_clusters(weight: np.ndarray, clusters: int, neighbours: int = 10, seed: int = 0) -> np.ndarray:
    """Cluster numbers ``(t,)``, the largest cluster first: spectral clustering of the graph that joins each
    target to its nearest ones in cosine (von Luxburg 2007, normalised Laplacian). Needs scikit-learn."""
    try:
        from sklearn.cluster import SpectralClustering
    except ImportError:
        raise InputError("clustering targets needs scikit-learn; pip install 'whence[sklearn]'.") from None
    if not 2 <= clusters < len(weight):
        raise InputError(f"clusters is {clusters}, but it must be from 2 to {len(weight) - 1}.")
    order, cosine = nearest(weight, min(neighbours, len(weight) - 1))
    graph = np.zeros((len(weight), len(weight)))
    np.put_along_axis(graph, order, np.maximum(cosine, 0), 1)
    graph = np.maximum(graph, graph.T) + 1e-6  # a trace of affinity everywhere keeps the graph in one piece
    found = SpectralClustering(
        clusters, affinity="precomputed", assign_labels="kmeans", random_state=seed
    ).fit_predict(graph)
    sizes = np.bincount(found, minlength=clusters)
    rank = np.empty(clusters, int)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(clusters)
    return rank[found]


def purity(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Share of targets whose label is the commonest one of their cluster."""
    return float(
        sum(np.unique(labels[clusters == c], return_counts=True)[1].max() for c in np.unique(clusters))
        / len(labels)
    )


def chance_purity(clusters: np.ndarray, labels: np.ndarray, seed: int = 0, times: int = 200) -> float:
    """Mean purity when labels are shuffled: what clusters of these sizes reach without knowing anything."""
    rng = np.random.default_rng(seed)
    return float(np.mean([purity(clusters, rng.permutation(labels)) for _ in range(times)]))
