"""Retrainings gathered by mask: what the estimators of the variance split read from a bank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from whence.errors import InputError

if TYPE_CHECKING:
    from whence.bank import Bank, Sample
    from whence.subsets import Subsets

FEWEST_MASKS = 8


@dataclass(frozen=True)
class Units:
    """Distinct masks, each with the mean output over its seeds; columns are targets (times outputs).

    Attributes
    ----------
    masks : boolean ``(u, n)``.
    means : ``(u, columns)``, outputs averaged over the seeds of a mask.
    within : ``(u, columns)``, unbiased variance between the seeds of a mask; 0 with one seed.
    seeds : ``(u,)`` retrainings of each mask.
    family : ``(u,)`` masks of one family were drawn together, those of different families independently.
    subsets : how the masks were drawn.
    pair : ``(u,)`` number of the pair in a correlated stream, else -1.
    """

    masks: np.ndarray
    means: np.ndarray
    within: np.ndarray
    seeds: np.ndarray
    family: np.ndarray
    subsets: Subsets
    pair: np.ndarray

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def repeats(self) -> int:
        """Retrainings beyond the first of each mask: the degrees of freedom of the seed variance."""
        return int((self.seeds - 1).sum())

    @cached_property
    def partner(self) -> np.ndarray:
        """``(u,)`` position of the other mask of the family, -1 where there is none."""
        order = np.argsort(self.family, kind="stable")
        same = np.flatnonzero(np.diff(self.family[order]) == 0)
        found = np.full(len(self), -1)
        found[order[same]], found[order[same + 1]] = order[same + 1], order[same]
        return found

    @cached_property
    def families(self) -> int:
        return int(self.family.max()) + 1

    def by_family(self, values: np.ndarray) -> np.ndarray:
        """Sums ``(families, ...)`` of ``(u, ...)`` values."""
        sums = np.zeros((self.families, *values.shape[1:]))
        np.add.at(sums, self.family, values)
        return sums


def gather(bank: Bank, output: str) -> Units:
    """All good retrainings of `bank` by mask. Raises InputError where there are too few, or masks are not
    random."""
    subsets = bank.plan.subsets
    if subsets.design in ("leaving_out", "given"):
        raise InputError(
            "the bank was retrained on chosen or leave-out sets, but a variance split is about random "
            "subsets; retrain with keep=0.5, or with subsets=whence.Subsets.correlated(...)."
        )
    units = of_sample(bank.select(None, output), subsets)
    if units.families < FEWEST_MASKS:
        raise InputError(
            f"the bank has {units.families} independent masks, but a variance split needs at least "
            f"{FEWEST_MASKS} "
            "(hundreds for a useful interval); retrain more."
        )
    return units


def of_sample(sample: Sample, subsets: Subsets) -> Units:
    """`gather` for rows at hand; the rows of one mask become one unit."""
    outputs = sample.outputs.reshape(len(sample), -1).astype(np.float64)
    index = np.asarray(sample.mask_index)
    paired = subsets.design == "correlated"
    if paired:  # a pair with rho 1 is one mask
        twins = np.array([subsets.rho_of(int(pair)) == 1 for pair in index // 2])
        index = np.where(twins, index // 2 * 2, index)
    found, first, inverse = np.unique(index, return_index=True, return_inverse=True)
    seeds = np.bincount(inverse)
    means = np.zeros((len(found), outputs.shape[1]))
    np.add.at(means, inverse, outputs)
    means /= seeds[:, None]
    within = np.zeros_like(means)
    np.add.at(within, inverse, (outputs - means[inverse]) ** 2)
    within /= np.maximum(seeds - 1, 1)[:, None]
    pair = found // 2 if paired else np.full(len(found), -1)
    family = np.unique(pair, return_inverse=True)[1] if paired else np.arange(len(found))
    return Units(sample.masks[first], means, within, seeds, family, subsets, pair)
