"""Leave-one-out: train with everything, train without one example, compare.

Cook 1977, "Detection of influential observation in linear regression"; what influence functions approximate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, lacking, output_ids, provenance

DESIGN = "leaving_out"


class LeaveOneOut(Method):
    """The output with everything minus the output without the example, averaged over training seeds.

    From a Study it trains (1 + examples) x seeds models, one after the other; from a Bank it reads those made
    by whence.retrain(..., subsets=Subsets.leaving_out(n, [[], [0], [1], ...])), with at least one empty set.
    For more than some hundred models make a bank: it trains in stacks and on all cores, and resumes.
    One example changes an output less than the training seed does: look at the standard errors before the
    values. An example that was never left out alone has value 0 and an infinite standard error.

    Parameters
    ----------
    examples : positions of the training examples to leave out (default all); only for a Study
    seeds : training seeds of each model; only for a Study. Standard errors need at least 2
    first_seed : the seeds are first_seed, first_seed + 1, ...
    device : where a Study is trained, "cpu", "cuda", ...; default the CPU
    """

    needs = ("ids",)

    def __init__(
        self,
        *,
        examples: Sequence[int] | None = None,
        seeds: int = 1,
        first_seed: int = 0,
        device: str | None = None,
    ) -> None:
        if seeds < 1:
            raise InputError(f"seeds is {seeds}, but every model needs at least 1.")
        self.examples = None if examples is None else [int(i) for i in examples]
        self.seeds = seeds
        self.first_seed = first_seed
        self.device = device

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        lacks = super().missing(source, output)
        if not lacking(source, ("training",)):
            return lacks
        subsets = getattr(getattr(source, "plan", None), "subsets", None)
        if lacking(source, ("retrainings",)) or getattr(subsets, "design", None) != DESIGN:
            lacks.append(
                "retrainings without one example (pass a Study to train them here, or a Bank whose subsets "
                "are Subsets.leaving_out(n, [[], [0], [1], ...]))"
            )
        return lacks

    def attribute(self, source: Any, output: str | None = None) -> Attribution:
        """Effects (target[, output], train); rows are targets."""
        self.require(source, output)
        output = first_output(source, output)
        trained = hasattr(source, "trainer")
        masks, seeds, outputs = (self._train if trained else _read)(source, output)
        weight, error, bias = leave_one_out(masks, seeds, outputs)
        return Attribution(
            weight.astype(np.float32),
            bias=bias.astype(np.float32),
            standard_error=error.astype(np.float32),
            target_ids=source.target_ids,
            train_ids=source.train_ids,
            output_ids=output_ids(source, outputs.shape[1:]),
            output=output,
            calibrated=False,
            method="leave-one-out",
            keep=1.0,
            provenance=provenance(source, self, models=len(masks)),
        )

    def _train(self, study: Any, output: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = len(study.train_ids)
        examples = range(n) if self.examples is None else self.examples
        wrong = [i for i in examples if not 0 <= i < n]
        if wrong:
            raise InputError(f"examples names {wrong[0]}, but positions run from 0 to {n - 1}.")
        sets: list[list[int]] = [[], *([i] for i in examples)]
        masks = np.ones((len(sets), n), bool)
        for mask, left_out in zip(masks, sets, strict=True):
            mask[left_out] = False
        masks = np.repeat(masks, self.seeds, axis=0)
        seeds = np.tile(np.arange(self.first_seed, self.first_seed + self.seeds), len(sets))
        # One at a time: which way is fastest depends on the moment, and the last bits on the way.
        trainer, outputs = study.trainer(self.device), []
        for run, seed in zip(trainer.train(masks, seeds), seeds, strict=True):
            if run.error is not None or not np.isfinite(run.outputs[output]).all():
                raise InputError(
                    f"training with seed {seed} failed ({run.error or 'non-finite outputs'}), so its effect "
                    "is not known; change the recipe."
                )
            outputs.append(run.outputs[output])
        return masks, seeds, np.stack(outputs)


def _read(bank: Any, output: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sample = bank.select(None, output)
    return sample.masks, sample.seed, sample.outputs


def leave_one_out(
    masks: np.ndarray, seeds: np.ndarray, outputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects and their standard errors (t[, classes], n), and a bias (t[, classes]) with which everything
    included gives the mean full output.

    masks (m, n) of full sets and of sets without one example (others are passed over), seeds (m,), outputs
    (m, t[, classes]). Models of the same seed are compared pairwise where every seed of the example has its
    full model; else means are compared and variances added.
    """
    left = (~masks.astype(bool)).sum(1)
    full = left == 0
    if not full.any():
        raise InputError(
            "there is no model of the whole training set to compare with; add an empty set to leaving_out."
        )
    whole = outputs[full].astype(np.float64)
    n = masks.shape[1]
    shape = (*outputs.shape[1:], n)
    weight, error = np.zeros(shape), np.full(shape, np.inf)
    of_seed = {int(seed): y for seed, y in zip(seeds[full], whole, strict=True)}
    out = np.where(left == 1, np.argmin(masks, axis=1), -1)
    for i in np.unique(out[out >= 0]):
        rows = np.flatnonzero(out == i)
        without = outputs[rows].astype(np.float64)
        if all(int(seed) in of_seed for seed in seeds[rows]):
            changes = np.stack([of_seed[int(seed)] for seed in seeds[rows]]) - without
            weight[..., i] = changes.mean(0)
            variance = _of_mean(changes)
        else:
            weight[..., i] = whole.mean(0) - without.mean(0)
            variance = _of_mean(whole) + _of_mean(without)
        error[..., i] = np.sqrt(variance)
    return weight, error, whole.mean(0) - weight.sum(-1)


def _of_mean(rows: np.ndarray) -> np.ndarray:
    """Variance of the mean over rows; infinite for a single row."""
    if len(rows) < 2:
        return np.full(rows.shape[1:], np.inf)
    return rows.var(0, ddof=1) / len(rows)
