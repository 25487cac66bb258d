"""The exact harmonic expansion of an output over all subsets, where all subsets can be trained.

Let every example be kept by its own coin with probability p. The functions

    phi_T(z) = prod_{i in T} (z_i - p) / sqrt(p (1 - p))

are orthonormal, so an output f of the subset is ``sum_T c_T phi_T`` with ``c_T = E f phi_T``, and its
variance is the sum of the squares. The best linear datamodel keeps the sets T of one example; what it misses
is exactly the sum of squares over larger sets (Saunshi et al. 2023, section 3). With n examples there are 2^n
coefficients: this module is for small n, where it says what the estimators of this package should find.
"""

from __future__ import annotations

import numpy as np

from whence.errors import InputError


def coefficients(values: np.ndarray, keep: float) -> np.ndarray:
    """Coefficients c_T from the outputs on all subsets.

    Parameters
    ----------
    values : ``(2**n,)`` or ``(2**n, targets)``. Entry b is the output when example i is kept exactly where
        bit i of b is set; entry 0 is the empty training set.
    keep : probability with which each example is kept.

    Returns
    -------
    Same shape; entry b belongs to the set T of the examples whose bit is set in b. Units of the output.
    """
    if not 0 < keep < 1:
        raise InputError(f"keep must lie strictly between 0 and 1, received {keep}.")
    result = np.array(values, dtype=np.float64)
    n = _examples(result)
    spread = np.sqrt(keep * (1 - keep))
    for i in range(n):
        pairs = result.reshape(-1, 2, 1 << i, *result.shape[1:])
        out, kept = pairs[:, 0].copy(), pairs[:, 1].copy()
        pairs[:, 0] = (1 - keep) * out + keep * kept
        pairs[:, 1] = spread * (kept - out)
    return result


def degree_weights(coefs: np.ndarray) -> np.ndarray:
    """Variance by degree, ``(n + 1,)`` or ``(n + 1, targets)``: entry k sums c_T^2 over the sets of k
    examples.

    Entry 0 is the squared mean, entry 1 the variance that a linear datamodel can explain.
    """
    n = _examples(coefs)
    result = np.zeros((n + 1, *coefs.shape[1:]))
    np.add.at(result, degrees(n), coefs**2)
    return result


def best_linear(coefs: np.ndarray, keep: float) -> tuple[np.ndarray, np.ndarray]:
    """The best linear datamodel: weights ``(n,)`` or ``(targets, n)`` in 0/1 units, and bias ``()`` or
    ``(targets,)``.

    The weight of an example is its average effect, E[f | kept] - E[f | left out].
    """
    n = _examples(coefs)
    weight = coefs[1 << np.arange(n)] / np.sqrt(keep * (1 - keep))
    return weight.T, coefs[0] - keep * weight.sum(axis=0)


def degrees(n: int) -> np.ndarray:
    """Number of examples in the set that each entry stands for, ``(2**n,)``."""
    members = np.zeros(1 << n, dtype=np.int64)
    for i in range(n):
        members += np.arange(1 << n) >> i & 1
    return members


def _examples(values: np.ndarray) -> int:
    n = len(values).bit_length() - 1
    if len(values) != 1 << n or n < 1:
        raise InputError(
            f"values has {len(values)} entries, but there are 2**n subsets of n examples; pass one for each "
            f"subset."
        )
    return n
