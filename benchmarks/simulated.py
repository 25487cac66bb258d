"""A simulated learner whose linear, quadratic, cubic and seed parts are known, for `benchmarks.harmonic`."""

from __future__ import annotations

import numpy as np

import whence
from whence.bank import Sample
from whence.evaluate.harmonic.overlap import overlap
from whence.evaluate.harmonic.pairs import pairs, published
from whence.evaluate.harmonic.units import of_sample

PARTS = {"linear": 0.6, "quadratic": 0.15, "cubic": 0.05, "seed": 0.2}
MEAN = 1.0
ESTIMATORS = {"published": published, "pairs": pairs, "overlap": overlap}
DESIGNS = {
    "published, rho 0, 0.1, 0.2": ("published", (0, 0.1, 0.2)),
    "published, rho 0, 0.2, 0.4": ("published", (0, 0.2, 0.4)),
    "published, rho 0, 0.4, 0.8": ("published", (0, 0.4, 0.8)),
    "pairs, rho 0.2, 0.4, 0.6, 0.8": ("pairs", (0.2, 0.4, 0.6, 0.8)),
    "pairs, rho 0.3, 0.6, 0.9, 1": ("pairs", (0.3, 0.6, 0.9, 1)),
    "overlap, independent masks": ("overlap", None),
}


def learner(n: int, keep: float, rng: np.random.Generator):
    """``outputs(masks) -> (m, 1)``: ``1 + linear + product of two linear forms + product of three + noise``,
    of total variance 1. The forms of a product are of disjoint examples, which makes it purely of degree 2 or
    3 under independent coins."""
    forms = rng.normal(size=(6, n))
    owner = rng.permutation(n) % 5
    for i in range(5):
        forms[1 + i, owner != i] = 0
    forms /= np.linalg.norm(forms, axis=1, keepdims=True)
    root = {part: np.sqrt(share) for part, share in PARTS.items()}

    def outputs(masks):
        x = (masks - keep) / np.sqrt(keep * (1 - keep)) @ forms.T
        value = root["linear"] * x[:, 0] + root["quadratic"] * x[:, 1] * x[:, 2]
        value += root["cubic"] * x[:, 3] * x[:, 4] * x[:, 5] + root["seed"] * rng.normal(size=len(masks))
        return MEAN + value[:, None]

    return outputs


def estimates(design: str, n: int, trainings: int, keep: float, runs: int) -> np.ndarray:
    """``(runs,)`` estimated linear shares, each from its own learner and retrainings."""
    estimator, rho = DESIGNS[design]
    found = []
    for run in range(runs):
        if rho is None:
            subsets = whence.Subsets.bernoulli(n, keep, seed=run)
        else:
            subsets = whence.Subsets.correlated(n, keep, rho, seed=run)
        rows = np.arange(trainings)
        masks = subsets.masks(rows)
        outputs = learner(n, keep, np.random.default_rng(run))(masks)
        found.append(linear_share(Sample(masks, outputs, rows, 0 * rows, rows, rows), subsets, estimator)[0])
    return np.array(found)


def linear_share(sample: Sample, subsets: whence.Subsets, estimator: str) -> tuple[float, np.ndarray]:
    """The linear share pooled over targets, and of each target, from rows at hand."""
    found = ESTIMATORS[estimator](of_sample(sample, subsets))
    return float(found.linear.sum() / found.total.sum()), found.linear / found.total
