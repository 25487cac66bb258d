"""A simulated learner whose linear, quadratic, cubic and seed parts are known, for `benchmarks.harmonic`."""

from __future__ import annotations

import numpy as np

import whence
from whence.evaluate import variance_split

PARTS = {"linear": 0.6, "quadratic": 0.15, "cubic": 0.05, "seed": 0.2}
MEAN = 1.0
DESIGNS = {
    "published, rho 0, 0.1, 0.2": ("published", (0, 0.1, 0.2)),
    "published, rho 0, 0.2, 0.4": ("published", (0, 0.2, 0.4)),
    "published, rho 0, 0.4, 0.8": ("published", (0, 0.4, 0.8)),
    "pairs, rho 0.2, 0.4, 0.6, 0.8": ("pairs", (0.2, 0.4, 0.6, 0.8)),
    "pairs, rho 0.3, 0.6, 0.9, 1": ("pairs", (0.3, 0.6, 0.9, 1)),
    "overlap, independent masks": ("overlap", None),
}


def learner(n: int, keep: float, seed: int) -> whence.Study:
    """One target; ``1 + linear + product of two linear forms + product of three + noise``, of total variance
    1.

    The forms of a product are of disjoint examples, which makes it purely of degree 2 or 3 under independent
    coins."""
    rng = np.random.default_rng(seed)
    forms = rng.normal(size=(6, n))
    owner = rng.permutation(n) % 5
    for i in range(5):
        forms[1 + i, owner != i] = 0
    forms /= np.linalg.norm(forms, axis=1, keepdims=True)
    root = {part: np.sqrt(share) for part, share in PARTS.items()}

    def train(mask, seed):
        x = forms @ ((mask - keep) / np.sqrt(keep * (1 - keep)))
        noise = np.random.default_rng(seed).normal()
        value = root["linear"] * x[0] + root["quadratic"] * x[1] * x[2] + root["cubic"] * x[3] * x[4] * x[5]
        return np.array([MEAN + value + root["seed"] * noise])

    return whence.Study.from_function(train, n=n, targets=1)


def estimates(design: str, n: int, trainings: int, keep: float, runs: int, folder) -> np.ndarray:
    """``(runs,)`` estimated linear shares, each from its own learner and retrainings."""
    estimator, rho = DESIGNS[design]
    found = []
    for run in range(runs):
        subsets = (
            whence.Subsets.bernoulli(n, keep, seed=run)
            if rho is None
            else whence.Subsets.correlated(n, keep, rho, seed=run)
        )
        bank = whence.retrain(
            learner(n, keep, run),
            trainings,
            to=folder / f"{len(list(folder.iterdir()))}.zarr",
            subsets=subsets,
            seed=run,
            held_out_seeds=2 if rho is None else 1,
            block=trainings,
            workers=0,
            progress=False,
        )
        found.append(variance_split(bank, estimator=estimator).linear.value)
    return np.array(found)
