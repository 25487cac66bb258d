"""Banzhaf values from the retrainings of a bank, by maximum sample reuse.

Wang and Jia 2023, "Data Banzhaf" (arXiv 2205.15466), section 4; for keep other than 1/2 the weighted values
of Li and Yu 2023 (arXiv 2305.17169).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import (
    Method,
    first_output,
    flat_outputs,
    keep_of,
    output_ids,
    provenance,
    retrainings,
    unflatten,
)
from whence.methods.difference import difference_of_means

# Where every example is kept by its own coin. Others tie examples together: see `Banzhaf`.
INDEPENDENT = ("bernoulli",)


class Banzhaf(Method):
    """The effect of an example averaged over all subsets of the others: E[y | in] - E[y | out], each
    retraining used for every example.

    Exact in expectation under Subsets.bernoulli. Subsets of one fixed size exchange an example for another,
    so there each target's values are lower by one number, about the mean value (exact for linear outputs);
    their order within a target stands. `provenance` says which. Retrainings of one mask with several seeds
    are averaged first, so that standard errors (Welch's) count subsets, not seeds.

    Parameters
    ----------
    mean : also restore the mean value of each target under fixed-size subsets, from the output of the full
        and of the empty training set: (output with everything, output with nothing), numbers or (t,) arrays
    """

    needs = ("retrainings", "ids")

    def __init__(self, *, mean: tuple[Any, Any] | None = None) -> None:
        self.mean = mean

    def attribute(self, bank: Any, output: str | None = None) -> Attribution:
        """Values (target[, output], train) from the train and validation parts of `bank`."""
        self.require(bank, output)
        output = first_output(bank, output)
        parts = [retrainings(bank, part, output) for part in ("train", "validation")]
        masks, outputs = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        columns, shape = flat_outputs(outputs)
        masks, columns = by_mask(masks, columns)
        if len(masks) < 4:
            raise InputError(
                f"bank has {len(masks)} different subsets to compare, but Banzhaf values need 4 or more."
            )
        fit = difference_of_means(masks, columns)
        weight, bias = fit.weight, fit.bias
        if self.mean is not None:
            full, empty = (np.broadcast_to(np.asarray(y, float), shape).reshape(-1) for y in self.mean)
            weight = weight + ((full - empty) / masks.shape[1] - weight.mean(1))[:, None]
            bias = columns.mean(0, dtype=np.float64) - weight @ masks.mean(0)
        design = getattr(getattr(getattr(bank, "plan", None), "subsets", None), "design", "unknown")
        exact = design in INDEPENDENT or self.mean is not None
        return Attribution(
            np.asarray(unflatten(weight, shape), np.float32),
            bias=np.asarray(unflatten(bias, shape), np.float32),
            standard_error=np.asarray(unflatten(fit.standard_error, shape), np.float32),
            target_ids=bank.target_ids,
            train_ids=bank.train_ids,
            output_ids=output_ids(bank, shape),
            output=output,
            calibrated=False,
            method="Banzhaf (maximum sample reuse)",
            keep=keep_of(bank, masks),
            provenance=provenance(
                bank,
                self,
                subsets=len(masks),
                design=design,
                values="absolute" if exact else "up to one number per target",
            ),
        )

    def __repr__(self) -> str:
        return f"Banzhaf(mean={'given' if self.mean is not None else None})"


def by_mask(masks: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different masks (g, n) in order of their first row, and their mean outputs (g, ...), float64."""
    _, first, group = np.unique(
        np.packbits(masks.astype(bool), axis=1), axis=0, return_index=True, return_inverse=True
    )
    rank = np.argsort(np.argsort(first))[group.reshape(-1)]
    total = np.zeros((len(first), *outputs.shape[1:]))
    np.add.at(total, rank, outputs)
    counts = np.bincount(rank).reshape(-1, *[1] * (outputs.ndim - 1))
    return masks[np.sort(first)], total / counts
