"""What the weights of one recipe hold beyond those of another: residual rows, their components, a null.

Shah et al. 2023 (ModelDiff, arXiv 2211.12491), section 2. Rows are scaled to length 1 before, and a row
without weights is left out (the released code divides by 0 there); the null and the matching are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.applications.components import Components, principal_components, unit_rows
from whence.errors import InputError

SAME = 1e-9  # of unit rows: less is rounding


@dataclass(frozen=True)
class Direction:
    """One component of what recipe `of` has beyond recipe `against`.

    Attributes
    ----------
    of, against : names of the recipes. number : of the component, from 0, largest first.
    share, share_against : of the variance of either recipe's unit rows that lies along it.
    gap : the first less the second. gap_other_half : the same where the component was found in one half of
        the retrainings and the shares measured in the other, averaged over halves and splits.
    largest_null : the largest gap between two halves of the retrainings of one recipe, along directions that
        were found without them.
    match : |cosine| of the components that two disjoint halves find in its place, averaged over splits.
    passes : whether both `match` and `gap_other_half` are beyond their limits.
    """

    of: str
    against: str
    number: int
    share: float
    share_against: float
    gap: float
    gap_other_half: float
    largest_null: float
    match: float
    passes: bool


def residual(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Unit rows of `first` ``(t, n)`` less their projection on the rows of `second`; 0 where either is."""
    a, loud_a = unit_rows(first)
    b, loud_b = unit_rows(second)
    rest = a - (a * b).sum(1, keepdims=True) * b
    return np.where((loud_a & loud_b)[:, None], rest, 0.0)


def residual_components(first: np.ndarray, second: np.ndarray, components: int) -> Components:
    """Principal components of the residual; projections are those of the unit rows of `first`, ``(t, r)``.

    Raises
    ------
    InputError : rows of both that differ at most in scale, so that nothing is left; too few rows.
    """
    silent = [~np.any(weight, axis=1) for weight in (first, second)]
    if (silent[0] | silent[1]).all():
        raise InputError(
            f"no target has weights in both attributions ({silent[0].sum()} and {silent[1].sum()} of "
            f"{len(first)} have none); there is nothing to compare."
        )
    rest = residual(first, second)
    if np.abs(rest).max() < SAME:
        raise InputError(
            "the two attributions agree up to scale in every target that both explain, so there is no "
            "difference to look into; are they the same one?"
        )
    found = principal_components(rest, components, normalise=False)
    projections = unit_rows(first)[0] @ found.directions.T
    return Components(found.directions, projections, found.explained, int((silent[0] | silent[1]).sum()))


def shares(weight: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Share ``(r,)`` of the variance of unit rows that lies along each of unit `directions` ``(r, n)``."""
    rows, loud = unit_rows(weight)
    centred = rows[loud] - rows[loud].mean(0)
    total = float((centred**2).sum())
    return ((centred @ directions.T) ** 2).sum(0) / max(total, np.finfo(float).tiny)


def gaps(first: np.ndarray, second: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Share along each direction in `first` less that in `second`, ``(r,)``."""
    return shares(first, directions) - shares(second, directions)


def null_gaps(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    others: Sequence[tuple[np.ndarray, np.ndarray]],
    components: int,
) -> np.ndarray:
    """The largest gap between two halves of one recipe, once for each of `pairs` and each order of `others`.

    The directions are those in which halves of the other recipe differ, so that they were found without the
    halves that are measured. If the recipes are alike, this is the very situation in which `replicate`
    measures gaps.
    """
    found = []
    for (one, other), (c, d) in zip(pairs, others, strict=True):
        for a, b in ((c, d), (d, c)):
            if np.abs(residual(a, b)).max() < SAME:  # without noise
                found.append(0.0)
                continue
            directions = residual_components(a, b, components).directions
            found.append(float(np.abs(gaps(one, other, directions)).max()))
    return np.array(found)


def replicate(
    directions: np.ndarray,
    pairs_a: Sequence[tuple[np.ndarray, np.ndarray]],
    pairs_b: Sequence[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    """Whether halves of the retrainings find `directions` ``(r, n)`` again: match and gap, ``(r,)`` each.

    In each half of a split the component nearest to a direction takes its place. `match` is the |cosine| of
    the two; they share no retraining, while each shares half of them with the direction itself. `gap` is of a
    component on the half that did not find it, which makes it unbiased.
    """
    match, gap = np.zeros(len(directions)), np.zeros(len(directions))
    for halves_a, halves_b in zip(pairs_a, pairs_b, strict=True):
        chosen = []
        for a, b in zip(halves_a, halves_b, strict=True):
            found = residual_components(a, b, len(directions)).directions
            chosen.append(found[np.abs(directions @ found.T).argmax(1)])
        match += np.abs((chosen[0] * chosen[1]).sum(1)) / len(pairs_a)
        for mine, other in ((0, 1), (1, 0)):
            gap += gaps(halves_a[other], halves_b[other], chosen[mine]) / (2 * len(pairs_a))
    return match, gap
