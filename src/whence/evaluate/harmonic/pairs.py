"""The variance split from pairs of masks drawn with a known correlation: as published, and with less error.

For pairs whose masks agree with correlation rho, outputs have ``E f f' = sum_k lambda_k(rho) B_k``, with B_0
the squared mean, B_k the variance of terms of degree k and ``lambda_k(rho) = rho^k`` for independent coins.
So a polynomial fitted to mean products at a few rho gives B_1, the linear part (Saunshi et al. 2023, theorem
3.2). All depends on the choice of the rhos: near 0 the products are mostly noise, near 1 the degrees look
alike. The error does not depend on the number of training examples, which is what these estimators have over
`whence.evaluate.harmonic.overlap`.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from whence.errors import InputError
from whence.evaluate.harmonic.components import Components, seed_influence, seed_variance
from whence.evaluate.harmonic.kernel import eigenvalue
from whence.evaluate.harmonic.units import Units

_TIMES = 200
_HOW = "whence.Subsets.correlated(n, keep, rho=(0.3, 0.6, 0.9, 1))"

Products = dict[float, tuple[np.ndarray, np.ndarray]]


def pairs(units: Units, seed: int = 0) -> Components:
    """Outputs centred by their pooled mean, so that B_0 brings no noise; degree 3 over all rho above 0,
    weighted by the number of pairs. Masks that were trained more than once are pairs with rho 1."""
    _require_pairs(units)
    mean = units.by_family(units.means) / np.bincount(units.family)[:, None]
    centred = units.means - mean.mean(0)
    products = _products(units, centred)
    levels = [rho for rho in sorted(products) if rho > 0]
    degree = min(3, len(levels))
    if degree < 2:
        raise InputError(
            f"pairs are at rho {sorted(products)} only, which does not tell linear from non-linear; draw "
            f"them with {_HOW}."
        )
    # Centring takes the variance of the mean from every product.
    drift = ((mean - mean.mean(0)) ** 2).sum(0) / len(mean) ** 2
    return _polynomial(units, centred, products, levels, range(1, degree + 1), drift, seed)


def published(units: Units, seed: int = 0) -> Components:
    """The estimator of the paper: rho = 0, r and 2r, uncentred, degree 2; the total is the mean square less
    B_0.

    Raises
    ------
    InputError : the pairs were not drawn at rho = 0, r and 2r.
    """
    _require_pairs(units)
    products = _products(units, units.means)
    levels = [rho for rho in sorted(products) if rho < 1]
    if len(levels) != 3 or levels[0] != 0 or not np.isclose(levels[2], 2 * levels[1]):
        raise InputError(
            f'estimator="published" needs pairs at rho = 0, r and 2r below 1, but these are at {levels}; '
            "draw them with whence.Subsets.correlated(n, keep, rho=(0, 0.2, 0.4))."
        )
    return _polynomial(units, units.means, products, levels, range(3), np.zeros(units.means.shape[1]), seed)


def _polynomial(
    units: Units,
    outputs: np.ndarray,
    products: Products,
    levels: list[float],
    degrees: range,
    drift: np.ndarray,
    seed: int,
) -> Components:
    """Non-negative variances of `degrees` that fit the mean products; the spread by bootstrap over pairs of
    each rho."""
    powers = np.array([[eigenvalue(k, rho, units.subsets) for k in degrees] for rho in levels])
    root = np.sqrt([len(products[rho][0]) for rho in levels])
    if degrees[0] == 0:
        root = np.ones(len(levels))  # as published: unweighted
    w = units.seeds / units.seeds.sum()
    squares = outputs**2 + units.within * ((units.seeds - 1) / units.seeds)[:, None]
    square, weight = units.by_family(w[:, None] * squares), units.by_family(w)

    def estimate(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``(k, columns)`` linear and total, for counts ``(k, families)``."""
        means = []
        for rho in levels:
            family, values = products[rho]
            means.append(counts[:, family] @ values / counts[:, family].sum(1)[:, None] + drift)
        measured = np.stack(means)
        flat = root[:, None] * measured.reshape(len(levels), -1)
        found = nonnegative_least_squares(root[:, None] * powers, flat).reshape(-1, *measured.shape[1:])
        total = counts @ square / (counts @ weight)[:, None] + drift
        return found[list(degrees).index(1)], total - (found[0] if degrees[0] == 0 else 0)

    linear, total = (values[0] for values in estimate(np.ones((1, units.families))))
    rng = np.random.default_rng(seed)
    counts = np.ones((_TIMES, units.families))
    for rho in levels:
        members = products[rho][0]
        counts[:, members] = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=_TIMES
        )
    linears, totals = estimate(counts)
    noise = seed_variance(units)
    noise_by_family = units.by_family(seed_influence(units, noise))

    def spread(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
        return float((linears @ a + totals @ b).var()) + float(((noise_by_family @ c) ** 2).sum())

    safe = np.maximum(total, 1e-300)
    return Components(linear, total, noise, spread, ((linears - linear / safe * totals) / safe).var(0))


def nonnegative_least_squares(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """argmin ``|design @ b - values|`` over b >= 0, ``(k, columns)`` for values ``(rows, columns)``: all
    supports are tried, for k is at most 3."""
    k = design.shape[1]
    best = np.zeros((k, values.shape[1]))
    error = (values**2).sum(0)
    for size in range(1, k + 1):
        for chosen in combinations(range(k), size):
            part = np.linalg.lstsq(design[:, chosen], values, rcond=None)[0]
            rest = ((design[:, chosen] @ part - values) ** 2).sum(0)
            better = (part >= 0).all(0) & (rest < error)
            error = np.where(better, rest, error)
            full = np.zeros_like(best)
            full[list(chosen)] = part
            best = np.where(better, full, best)
    return best


def _require_pairs(units: Units) -> None:
    if (units.partner < 0).all():
        raise InputError(
            f"the bank's masks ({units.subsets.design}) are not drawn in pairs; leave estimator out, or "
            f"retrain with "
            f"subsets={_HOW}."
        )


def _products(units: Units, outputs: np.ndarray) -> Products:
    """rho -> (families ``(p,)``, products ``(p, columns)`` of the outputs of each pair)."""
    first = np.flatnonzero(units.partner > np.arange(len(units)))
    rho = np.array([units.subsets.rho_of(int(pair)) for pair in units.pair[first]])
    products = outputs[first] * outputs[units.partner[first]]
    found = {
        float(value): (units.family[first[rho == value]], products[rho == value]) for value in np.unique(rho)
    }
    twice = np.flatnonzero((units.seeds > 1) & (units.partner < 0))
    if twice.size:
        same = outputs[twice] ** 2 - units.within[twice] / units.seeds[twice, None]
        found[1.0] = (units.family[twice], same)
    return found
