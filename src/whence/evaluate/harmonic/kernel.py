"""How alike two random masks are, in the units in which linear effects count.

Whitened masks x have ``E x = 0`` and covariance 1 on the space of linear functions of the mask, whose
dimension is d. For two independent masks then ``E (x . x')^2 = d``, and for any output f

    E f(S) f(S') (x . x') = variance of the best linear datamodel of f,

whatever f is: the product x . x' is the reproducing kernel of the linear functions. What the space is depends
on the design. Independent coins: n dimensions, ``x = (z - p) / sqrt(p (1 - p))``. Subsets of one fixed size
k: the number of kept examples never varies, so d = n - 1 and ``x = (z - k/n) / sqrt(k (n - k) / (n (n -
1)))``: the two differ by O(1/n). Fixed sizes within classes: the same in each class. Groups: groups take the
place of examples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from whence.subsets import Subsets

_COLUMNS = 2048  # whitened at a time


@dataclass(frozen=True)
class Whitening:
    """Columns of the masks that count, and how to whiten them: ``x = (z[:, columns] - shift) * scale``.

    `dimension` is that of the space of linear functions; at most the number of columns.
    """

    columns: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    dimension: int

    @classmethod
    def of(cls, subsets: Subsets) -> Whitening:
        """The whitening of a design (any but leave-out sets)."""
        columns = np.arange(subsets.n)
        if subsets.design == "grouped":
            columns = np.unique(subsets.options["groups"], return_index=True)[1]
        fixed = subsets.design != "bernoulli" and (
            subsets.design != "correlated" or bool(subsets.options.get("fixed_size"))
        )
        if not fixed:
            spread = np.sqrt(subsets.keep * (1 - subsets.keep))
            return cls(
                columns, np.full(len(columns), subsets.keep), np.full(len(columns), 1 / spread), len(columns)
            )
        strata = (
            subsets.options["labels"] if subsets.design == "stratified" else np.zeros(len(columns), np.int64)
        )
        size = np.bincount(strata).astype(np.float64)
        share = np.round(subsets.keep * size) / size
        scale = np.sqrt((size - 1) / size / (share * (1 - share)))
        return cls(columns, share[strata], scale[strata], len(columns) - len(size))

    def blocks(self, masks: np.ndarray) -> Iterator[np.ndarray]:
        """The whitened masks ``(m, b)`` float64, some columns at a time."""
        for start in range(0, len(self.columns), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            yield (masks[:, self.columns[part]] - self.shift[part]) * self.scale[part]


def eigenvalue(degree: int, rho: float, subsets: Subsets) -> float:
    """By what factor the variance of terms of `degree` comes back in the covariance of a pair of masks.

    ``rho ** degree`` for independent coins (Saunshi et al. 2023, section 3.2). For fixed sizes a pair is j
    swaps apart and the factor is the dual Hahn polynomial of the Johnson scheme, which tends to the same as n
    grows.
    """
    if not subsets.options.get("fixed_size"):
        return float(rho**degree)
    n, size = subsets.n, round(subsets.keep * subsets.n)
    swaps = round((1 - rho) * size * (n - size) / n)
    total, term = 0.0, 1.0
    for i in range(degree + 1):
        total += term
        grow = -(degree - i) * (n + 1 - degree - i) * (swaps - i)
        term *= grow / ((size - i) * (n - size - i) * (i + 1)) if i < degree and term else 0.0
    return total
