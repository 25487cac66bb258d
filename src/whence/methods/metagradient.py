"""MAGIC: the derivative of a trained model's output by the weight of each training example, exactly.

Ilyas and Engstrom 2025 (arXiv 2504.16430), on REPLAY of Engstrom et al. 2025 (arXiv 2503.13751).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, check_groups, first_output, group_rows, provenance
from whence.study.outputs import output_functions
from whence.subsets import Subsets
from whence.training.replay import Metagradient, differentiate
from whence.training.run import Group, Run

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Scores are held against a retraining without this share of the examples; a recipe is too rough if they
# explain less than half of what changes there. The growth of the adjoints tells only those recipes apart
# that explode, so it counts only where nothing was retrained (docs/methods.md has the recipes).
_LEFT_OUT, _EXPLAINED, _EXPLODED = 0.05, 0.5, 100.0
REMEDY = (
    "start from whence.networks.smooth_conv_net, or lower the learning rate, enlarge the batch, replace ReLU "
    "by GELU and maxima by averages, and scale the logits down"
)


class MAGIC(Method):
    """Metagradients by replay: what one more or less of an example does to **this** run, with its initial
    weights, order and augmentation.

    ``f(w) = f(1) + sum_i (w_i - 1) df/dw_i``, in absolute units. It predicts retrainings with the same
    training seed and ``subset="weighted"`` (`whence.retrain(..., training_seed=seed)`); a study with
    ``subset="shorter"`` is differentiated as if it were weighted, and is then not calibrated. `average` > 1
    gives the expectation instead: the mean of the derivatives of so many runs, each with its own seed and on
    its own random subset, which is what retrainings with fresh seeds call for.

    Cost: a training whose steps keep their graph (or, where graphs do not fit `memory`, one more without),
    and for each target or group one to two. It works where training is smooth in the weights; whether it is,
    is tested by retraining once without a random twentieth of the examples, and warned of.

    Parameters
    ----------
    seed : training seed of the run (of the first run).
    average : number of runs.
    keep : share of the training set in each of several runs; 1.0 varies the seed alone.
    groups : name -> ids of targets. The rows of the attribution are then these groups, and the output that
        is explained is its mean over a group; a group costs as much as a single target.
    check : test the scores by a retraining and warn if they predict little of it (one training more).
    memory : bytes that states, adjoints and the graphs of steps may take, a third each; what does not fit is
            computed again.
    adjoint : "float32", or "float64" where adjoints grow.
    together : targets that go through one step's graph at once; default as many as take 16 MB on a CPU, and
        `memory` bytes once more on a GPU.
    device : "cpu", "cuda", ...; default the CPU.
    """

    needs = ("training", "ids", "answers")

    def __init__(
        self,
        seed: int = 0,
        *,
        average: int = 1,
        keep: float = 0.5,
        groups: Mapping[str, Sequence[Any]] | None = None,
        check: bool = True,
        memory: int = 2**31,
        adjoint: str = "float32",
        together: int | None = None,
        device: str | None = None,
    ) -> None:
        if average < 1:
            raise InputError(f"average must be at least 1 run, received {average}.")
        if not 0 < keep <= 1:
            raise InputError(f"keep must lie in (0, 1], received {keep}.")
        if adjoint not in _DTYPES:
            raise InputError(f'adjoint must be "float32" or "float64", received {adjoint!r}.')
        if memory < 1 or (together is not None and together < 1):
            raise InputError(f"memory={memory} and together={together} must be at least 1.")
        self.seed, self.average, self.keep = seed, average, keep
        self.groups, self.check = check_groups(groups), check
        self.memory, self.adjoint, self.together, self.device = memory, adjoint, together, device

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        """As for every method; also a Recipe, and an output that is one number per target."""
        if hasattr(source, "trainer") and getattr(source, "recipe", None) is None:
            return ["a Recipe (pass a Study made with recipe=, whose steps can be differentiated)"]
        lacks = super().missing(source, output)
        if not lacks and first_output(source, output) not in set(output_functions(source.recipe.loss)) - {
            "logits"
        }:
            lacks.append(f"an output that is one number per target (not {first_output(source, output)!r})")
        return lacks

    def attribute(self, study: Any, output: str | None = None) -> Attribution:
        """Derivatives by the weights of all training examples; targets, or groups of them, are rows."""
        self.require(study, output)
        output = first_output(study, output)
        rows = self._rows(study)
        total, bias, growth = np.zeros((len(rows), study.n)), np.zeros(len(rows)), 0.0
        explained = None
        for i in range(self.average):
            mask = np.ones(study.n)
            if self.average > 1 and self.keep < 1:
                mask = Subsets.uniform(study.n, self.keep, self.seed).masks([i])[0].astype(np.float64)
            run = Run(study, self.seed + i, adjoint=_DTYPES[self.adjoint], device=self.device)
            found = self._differentiate(run, output, rows, mask)
            total = total + found.gradient / self.average
            bias = bias + (found.outputs - found.gradient @ mask) / self.average
            growth = max(growth, found.growth)
            if self.check and i == 0:
                explained = _explained(run, output, rows, mask, found)
        self._warn(growth, explained)
        return Attribution(
            np.asarray(total, np.float32),
            bias=np.asarray(bias, np.float32),
            target_ids=study.target_ids if self.groups is None else list(self.groups),
            train_ids=study.train_ids,
            output=output,
            units=None if self.groups is None else f"mean {output} per example",
            calibrated=study.recipe.subset == "weighted",
            method="MAGIC" if self.average == 1 else f"MAGIC (mean of {self.average} runs)",
            provenance=provenance(study, self, adjoint_growth=growth, explained=explained),
        )

    def _rows(self, study: Any) -> list[Group]:
        """Positions of the targets, or of those in each group."""
        if self.groups is None:
            return list(range(len(study.target_ids)))
        return [*group_rows(self.groups, study)]

    def _differentiate(self, run: Run, output: str, rows: list[Group], mask: np.ndarray) -> Metagradient:
        found = differentiate(run, output, rows, mask, together=self.together, memory=self.memory)
        if not (np.isfinite(found.gradient).all() and np.isfinite(found.outputs).all()):
            raise InputError(
                f"the derivatives of the run with seed {run.seed} are not finite, adjoints overflow on the "
                f"way back through training; {REMEDY}, and set eps_root for Adam."
            )
        return found

    def _warn(self, growth: float, explained: float | None) -> None:
        """The retraining decides; where there was none, adjoints that explode do."""
        if explained is not None and explained < _EXPLAINED:
            sign = (
                f"the scores explain {max(explained, 0.0):.0%} of what changes in a retraining without "
                f"{_LEFT_OUT:.0%} of the examples (adjoints grew {growth:.2g} times on the way back)"
            )
        elif explained is None and growth > _EXPLODED:
            sign = f"adjoints grew {growth:.2g} times on the way back"
        else:
            return
        warnings.warn(
            f"{sign}: the outcome of this training is not smooth in the weights of examples, so that its "
            f"derivatives predict little; {REMEDY}. whence.evaluate.metasmoothness(study) judges a recipe "
            "before anything is differentiated.",
            stacklevel=3,
        )


def _explained(run: Run, output: str, rows: list[Group], mask: np.ndarray, found: Metagradient) -> float:
    """Share of the squared changes of outputs, in a retraining without some examples, that the derivatives
    predict: 1 for all, below 0 where predicting no change would be nearer.

    The changes are taken to be at least as large as the derivatives expect over all draws of the examples, or
    few rows would now and then change by nearly nothing.
    """
    kept = np.flatnonzero(mask)
    gone = np.random.default_rng(run.seed).choice(kept, max(1, round(_LEFT_OUT * len(kept))), replace=False)
    fewer = mask.copy()
    fewer[gone] = 0
    change = run.means(run.final(fewer), output, rows) - found.outputs
    g = found.gradient[:, kept]
    expected = (len(gone) * g.mean(1)) ** 2 + len(gone) * (1 - len(gone) / len(kept)) * g.var(1)
    error = change + found.gradient[:, gone].sum(1)
    return float(1 - (error**2).sum() / max((change**2).sum(), expected.sum(), 1e-300))
