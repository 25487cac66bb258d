"""A learner with a closed form, trained on every subset: the truth that estimators are held against."""

from itertools import combinations

import numpy as np


def all_masks(n):
    """``(2**n, n)``, row b has the bits of b."""
    return (np.arange(1 << n)[:, None] >> np.arange(n) & 1).astype(bool)


def fixed_masks(n, size):
    """All masks that keep `size` of n."""
    masks = np.zeros((0, n), bool)
    rows = [np.isin(np.arange(n), chosen) for chosen in combinations(range(n), size)]
    return np.vstack([masks, *rows])


def ridge_outputs(masks, targets=3, seed=0, penalty=0.3):
    """Predictions ``(m, targets)`` of ridge regression trained on each subset: far from linear in the
    mask."""
    rng = np.random.default_rng(seed)
    n = masks.shape[1]
    x, queries = rng.normal(size=(n, 4)), rng.normal(size=(targets, 4))
    y = x @ rng.normal(size=4) + rng.normal(size=n)
    gram = np.einsum("mn,ni,nj->mij", masks.astype(float), x, x) + penalty * np.eye(4)
    moment = np.einsum("mn,ni,n->mi", masks.astype(float), x, y)
    return np.linalg.solve(gram, moment[..., None])[..., 0] @ queries.T


def probabilities(masks, keep):
    """Of each mask under independent coins."""
    return np.where(masks, keep, 1 - keep).prod(1)


def projected(masks, values, weights, degree):
    """The best polynomial of `degree` in the mask, as values on `masks` (weighted least squares)."""
    n = masks.shape[1]
    columns = [
        masks[:, list(chosen)].all(1) for k in range(degree + 1) for chosen in combinations(range(n), k)
    ]
    design, root = np.stack(columns, 1).astype(float), np.sqrt(weights)[:, None]
    return design @ np.linalg.lstsq(root * design, root * values, rcond=None)[0]
