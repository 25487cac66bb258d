"""What a cluster does to success as a function of its ranks under some rules, fitted to noisy policies.

A policy's success says little, and a pool has thousands of clusters: their single effects drown. But rules
that rank clusters for a target put like beside like: first the target's own good episodes, then its worse
ones, then all others. So the effect of cluster c is sum_g f_g(log r_gc) + h_c, with r_gc its rank by rule g,
smooth functions f_g (Gaussian processes on a few knots) and a small part h_c of its own, and the success of a
policy the sum of the effects of what it was trained on. All is Gaussian, so the effects have a posterior that
is known in closed form; how large they are and how noisy policies are is set by the marginal likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

KNOTS = 11  # of each function, evenly over the logarithms of the ranks
_SMOOTH = 1.5  # knots over which a function bends
_STRATA = 8
_OWN = (0.1, 0.5, 1.5)  # standard deviation of a cluster's own part, in those of a function
_SCALES = (0.1, 0.2, 0.4, 0.8, 1.6)  # of a function: success if the whole choice were such clusters
_NOISES = (0.01, 0.02, 0.035, 0.06)  # variance of a policy's success


def probe(ranks: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """One choice ``(clusters,)`` of `count` clusters: by one of the rules, ranks ``(rules, clusters)`` from
    1, each of some strata of near ranks (wider the further) is in or out as a coin falls, and what lies
    beyond all strata fills up."""
    n = ranks.shape[1]
    rank = ranks[rng.integers(len(ranks))]
    first, last = max(1.0, count / 36), min(4 * count, n)
    edges: np.ndarray = np.unique(np.round(np.geomspace(min(first, last), last, _STRATA)))
    stratum = np.searchsorted(edges, rank)
    inside = rng.random(len(edges) + 1) < 0.5
    turn = np.where(inside[stratum], 0, 2)
    turn[stratum == len(edges)] = 1
    mask = np.zeros(n, dtype=bool)
    mask[np.argsort(turn + rng.random(n))[:count]] = True
    return mask


def best(effects: np.ndarray, count: int) -> np.ndarray:
    """The choice ``(clusters,)`` of the `count` clusters of most effect."""
    mask = np.zeros(len(effects), dtype=bool)
    mask[np.argsort(-effects, kind="stable")[:count]] = True
    return mask


class Profiles:
    """The posterior of the clusters' effects.

    Parameters
    ----------
    ranks : ``(rules, clusters)``, from 1, the best first.
    masks : choices ``(policies, clusters)``, all of one size. success : of the policies ``(policies,)``.
    """

    def __init__(self, ranks: np.ndarray, masks: np.ndarray, success: np.ndarray) -> None:
        count = int(masks[0].sum())
        self.knots = knots(ranks.shape[1], count)
        self._features = _features(ranks, self.knots)
        self._design = (masks - masks.mean(0)) / count
        self._y = success - success.mean()
        shared = self._design @ self._features
        smooth, own = shared @ shared.T, self._design @ self._design.T
        found = []
        for part, scale, noise in product(_OWN, _SCALES, _NOISES):
            root = np.linalg.cholesky(scale**2 * (smooth + part**2 * own) + noise * np.eye(len(success)))
            half = np.linalg.solve(root, self._y)
            found.append((-0.5 * half @ half - np.log(np.diag(root)).sum(), part, scale, noise, root))
        self.evidence, self.own, self.scale, self.noise, self._root = max(found, key=lambda one: one[0])

    def mean(self) -> np.ndarray:
        """Posterior mean ``(clusters,)``: what a choice of nothing but such clusters would succeed more often
        than the policies did on average."""
        return self._back(self._solve(self._y))

    def functions(self) -> np.ndarray:
        """Posterior mean ``(rules, KNOTS)`` of each rule's part, at the ranks `knots`."""
        shared = (self._design @ self._features).T @ self._solve(self._y)
        return self.scale**2 * shared.reshape(-1, KNOTS) @ _root().T

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Effects ``(clusters,)`` drawn from the posterior (Matheron's rule)."""
        effects = self.scale * (
            self._features @ rng.normal(size=self._features.shape[1])
            + self.own * rng.normal(size=len(self._features))
        )
        noise = np.sqrt(self.noise) * rng.normal(size=len(self._y))
        return effects + self._back(self._solve(self._y - self._design @ effects - noise))

    def left_out(self) -> np.ndarray:
        """What is foretold of each policy ``(policies,)`` from all others, above their mean."""
        inverse = self._solve(np.eye(len(self._y)))
        return self._y - inverse @ self._y / np.diag(inverse)

    def _solve(self, right: np.ndarray) -> np.ndarray:
        return np.linalg.solve(self._root.T, np.linalg.solve(self._root, right))

    def _back(self, right: np.ndarray) -> np.ndarray:
        """The prior covariance of effects with what the policies show, times `right`."""
        by_cluster = self._design.T @ right
        return self.scale**2 * (self._features @ (self._features.T @ by_cluster) + self.own**2 * by_cluster)


def knots(clusters: int, count: int) -> np.ndarray:
    """Ranks ``(KNOTS,)`` between which the functions are linear in the logarithm; below the first they are
    constant."""
    return np.geomspace(max(1.0, count / 72), clusters, KNOTS)


def _features(ranks: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``(clusters, rules * KNOTS)``: with standard normal coefficients, the sum of the functions."""
    place = np.interp(np.log(ranks), np.log(at), np.arange(KNOTS))
    hats = np.maximum(0, 1 - np.abs(place[..., None] - np.arange(KNOTS)))
    return np.concatenate(list(hats @ _root()), axis=1)


def _root() -> np.ndarray:
    """Of the covariance of a smooth function at the knots."""
    number = np.arange(KNOTS)
    covariance = np.exp(-0.5 * (np.subtract.outer(number, number) / _SMOOTH) ** 2)
    return np.linalg.cholesky(covariance + 1e-6 * np.eye(KNOTS))


def ranks_of(scores: Sequence[np.ndarray]) -> np.ndarray:
    """``(rules, clusters)`` from 1 of scores ``(clusters,)`` each, higher = first."""
    ranks = np.empty((len(scores), len(scores[0])))
    for row, one in zip(ranks, scores, strict=True):
        row[np.argsort(-one, kind="stable")] = np.arange(1, len(one) + 1)
    return ranks
