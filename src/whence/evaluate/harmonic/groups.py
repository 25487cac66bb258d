"""What leaving out or adding a whole group does on average, over random subsets: exactly, and by a linear
datamodel.

Let S be a random subset in which each example is kept with probability p, and I a group. With
``u = sqrt((1 - p) / p)`` and ``v = -sqrt(p / (1 - p))``, the values of phi_i for a kept and for a left-out
example, and sums over the non-empty subsets T of I,

    deletion   E f(S without I) - E f(S)          =  sum_T c_T v^|T|
    addition   E f(S with I) - E f(S)             =  sum_T c_T u^|T|
    inclusion  E f(S with I) - E f(S without I)   =  sum_T c_T (u^|T| - v^|T|)

A linear datamodel keeps the terms of one example: ``-p sum w``, ``(1 - p) sum w`` and ``sum w``. The factor
is there because an example that S lacks already cannot be left out of it. At p = 1/2 inclusion has no terms
of even degree, so it looks additive even where pairs interact; deletion shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whence.errors import InputError
from whence.evaluate.harmonic.fourier import degrees

if TYPE_CHECKING:
    from whence.attribution import Attribution

Contrast = Literal["deletion", "addition", "inclusion"]
CONTRASTS = ("deletion", "addition", "inclusion")


def exact_group_effect(
    coefs: np.ndarray, group: Sequence[int], keep: float, contrast: Contrast = "deletion"
) -> np.ndarray:
    """Average change of the output, from all coefficients of the output (`coefficients`).

    Parameters
    ----------
    coefs : ``(2**n,)`` or ``(2**n, targets)``.
    group : positions of examples. keep : the probability that `coefs` were made with.
    contrast : "deletion" (the group is left out, against random subsets), "addition" (it is put in, against
        random subsets) or "inclusion" (put in, against left out).

    Returns
    -------
    ``()`` or ``(targets,)``, in units of the output.
    """
    n = len(coefs).bit_length() - 1
    inside = np.unique(np.asarray(group, dtype=np.int64))
    if inside.size and not 0 <= inside[0] <= inside[-1] < n:
        raise InputError(f"group is {list(group)}, but positions run from 0 to {n - 1}.")
    mask = int(np.bitwise_or.reduce(1 << inside)) if inside.size else 0
    sets = np.arange(1, 1 << n)
    sets = sets[sets & ~mask == 0]
    size = degrees(n)[sets]
    return np.tensordot(_factor(size, keep, contrast), coefs[sets], axes=1)


def group_effect(
    attribution: Attribution,
    groups: Sequence[Sequence[Any]],
    contrast: Contrast = "deletion",
    keep: float | None = None,
) -> np.ndarray:
    """Average change of each target's output that a linear datamodel predicts for each group.

    The counterpart of `exact_group_effect`: right up to the terms of two and more examples, which no linear
    datamodel has. `Attribution.effect_of_removing` is about leaving examples out of the *full* set; this is
    about random subsets, hence the factor.

    Parameters
    ----------
    attribution : calibrated, weights (target[, output], train) in 0/1 units.
    groups : lists of train ids.
    contrast : as in `exact_group_effect`.
    keep : kept fraction of the random subsets; by default the one that the attribution was estimated at.

    Returns
    -------
    ``(target[, output], groups)`` in units of the output.

    Raises
    ------
    InputError : not calibrated, an unknown id, an id twice in a group, or no `keep` known.
    """
    if not attribution.calibrated:
        raise InputError(
            f"attribution ({attribution.method or 'unnamed method'}) is not calibrated, so sums of its "
            f"weights are no "
            "amounts; use a regression such as Datamodel."
        )
    keep = attribution.keep if keep is None else keep
    if keep is None or not 0 < keep < 1:
        raise InputError(
            f"keep must lie strictly between 0 and 1, received {keep}; pass keep=0.5 for halves."
        )
    factor = float(_factor(np.array([1]), keep, contrast)[0]) * np.sqrt(keep * (1 - keep))
    columns = []
    for number, group in enumerate(groups):
        at = attribution.train_index(list(group))
        if len(np.unique(at)) < len(at):
            raise InputError(f"groups[{number}] names a training example twice.")
        columns.append(factor * attribution.weight[..., at].sum(axis=-1, dtype=np.float64))
    return np.stack(columns, axis=-1)


def _factor(size: np.ndarray, keep: float, contrast: str) -> np.ndarray:
    kept, left_out = np.sqrt((1 - keep) / keep) ** size, (-np.sqrt(keep / (1 - keep))) ** size
    factors = {"deletion": left_out, "addition": kept, "inclusion": kept - left_out}
    if contrast not in factors:
        raise InputError(f"contrast is {contrast!r}, but it must be one of {', '.join(CONTRASTS)}.")
    return factors[contrast]
