"""The linear part from the chance overlap of independent masks: every two retrainings are a pair.

Two independent random masks agree a little more or a little less than expected, and outputs agree with them
just as far as they are linear in the mask. With the kernel of `whence.evaluate.harmonic.kernel`,

    linear variance = E f(S) f(S') (x . x')

exactly, for any output and any n: no rho has to be chosen and no degree to be cut off. K masks make K^2 / 2
such pairs, so its standard error, about ``sqrt(2 d) / K`` of the variance, falls with K itself and not with
its root. The same moment gives the additive share of a trait from unrelated people in quantitative genetics
(Haseman & Elston 1972; Yang et al. 2010); the use here is ours. It needs no designed pairs: any bank of
random masks will do.
"""

from __future__ import annotations

import numpy as np

from whence.evaluate.harmonic.components import Components, precision_weights, seed_influence, seed_variance
from whence.evaluate.harmonic.kernel import Whitening, eigenvalue
from whence.evaluate.harmonic.units import Units


def overlap(units: Units) -> Components:
    """Variance components from all pairs of masks of different families.

    Notes
    -----
    The linear part is a U-statistic with outputs centred by their weighted mean; the factor that centring
    costs is known and divided out, so it is unbiased (exactly so when masks weigh the same and seeds do not).
    Its variance is Hoeffding's two terms: one from the masks, by their influence, one from the pairs, which
    the influence counts twice.
    """
    whitening = Whitening.of(units.subsets)
    w = precision_weights(units)
    centred = units.means - w @ units.means
    partner = np.where(units.partner >= 0, units.partner, np.arange(len(units)))
    alone = units.partner < 0

    # products[i] = sum over masks j of other families of w_j (x_i . x_j) f_j
    products = np.zeros_like(centred)
    own, other = np.zeros(len(units)), np.zeros(len(units))
    for x in whitening.blocks(units.masks):
        products += x @ (x.T @ (w[:, None] * centred))
        own += np.einsum("ij,ij->i", x, x)
        other += np.einsum("ij,ij->i", x, x[partner])
    other[alone] = 0
    products -= (own * w)[:, None] * centred + (other * w[partner])[:, None] * centred[partner]

    s = w + np.where(alone, 0.0, w[partner] * _correlations(units))
    pairs = _pairs_weight(units, w, s)
    terms = centred * products
    linear = w @ terms / pairs
    # A mean square about the weighted mean misses the mean's own variance.
    inside = units.within * ((units.seeds - 1) / units.seeds)[:, None]
    squares = (centred**2 + inside) / (1 - w @ s)
    total = w @ squares
    seed = seed_variance(units)

    influence = (
        2 * w[:, None] * (terms / pairs - linear),
        w[:, None] * (squares - total),
        seed_influence(units, seed),
    )

    def pair_noise(a: np.ndarray) -> float:
        """Variance from pairs of masks of ``a @ linear``, all a of one sign: ``E (x . x')^2 = d`` for every
        pair."""
        scaled = (w[:, None] * centred) * np.sqrt(np.abs(a))
        everything = (
            ((scaled.T @ scaled) ** 2).sum() if scaled.shape[1] < len(w) else ((scaled @ scaled.T) ** 2).sum()
        )
        return 2 * whitening.dimension * float(everything - ((scaled**2).sum(1) ** 2).sum()) / pairs**2

    def spread(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
        per_mask = influence[0] @ a + influence[1] @ b + influence[2] @ c
        noise = pair_noise(a)
        return max(float((units.by_family(per_mask) ** 2).sum()) - noise, noise)

    # the same for the linear share of each column alone
    safe = np.maximum(total, 1e-300)
    per_family = units.by_family((influence[0] - linear / safe * influence[1]) / safe)
    parts = (w[:, None] * centred) ** 2 / safe
    noise = 2 * whitening.dimension * (parts.sum(0) ** 2 - (parts**2).sum(0)) / pairs**2
    linear_variance = np.maximum((per_family**2).sum(0) - noise, noise)
    return Components(linear, total, seed, spread, linear_variance)


def _correlations(units: Units) -> np.ndarray:
    """``(u,)`` correlation of a mask with its partner, 0 where it has none."""
    if (units.pair < 0).all():
        return np.zeros(len(units))
    rho = np.array([eigenvalue(1, units.subsets.rho_of(int(pair)), units.subsets) for pair in units.pair])
    return np.where(units.partner >= 0, rho, 0.0)


def _pairs_weight(units: Units, w: np.ndarray, s: np.ndarray) -> float:
    """Sum over pairs of different families of ``w_i w_j (1 - s_i - s_j + 2 s_i s_j)``: what the statistic is
    to be divided by, `s` being the share of a mask's linear effect that the mean takes with it."""
    ws, fw, fs = float(w @ s), units.by_family(w), units.by_family(w * s)
    everything = 1 - 2 * ws + 2 * ws**2
    return everything - float((fw**2 - 2 * fw * fs + 2 * fs**2).sum())
