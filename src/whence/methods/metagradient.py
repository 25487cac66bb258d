"""MAGIC: the derivative of a trained model's output by the weight of each training example, exactly.

Ilyas and Engstrom 2025 (arXiv 2504.16430), on REPLAY of Engstrom et al. 2025 (arXiv 2503.13751).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, provenance
from whence.study.outputs import OUTPUTS
from whence.subsets import Subsets
from whence.training.replay import Metagradient, differentiate
from whence.training.run import Run

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_EXPLODED = 1e4  # growth of adjoints beyond which single-precision derivatives are mostly rounding


class MAGIC(Method):
    """Metagradients by replay: what one more or less of an example does to **this** run, with its initial
    weights, order and augmentation.

    ``f(w) = f(1) + sum_i (w_i - 1) df/dw_i``, in absolute units. It predicts retrainings with the same
    training seed and ``subset="weighted"`` (`whence.retrain(..., training_seed=seed)`); a study with
    ``subset="shorter"`` is differentiated as if it were weighted, and is then not calibrated. `average` > 1
    gives the expectation instead: the mean of the derivatives of so many runs, each with its own seed and on
    its own random subset, which is what retrainings with fresh seeds call for.

    Cost: one training, and per target two to three passes, shared where they can be; it works where training
    is smooth in the weights.

    Parameters
    ----------
    seed : training seed of the run (of the first run).
    average : number of runs.
    keep : share of the training set in each of several runs; 1.0 varies the seed alone.
    memory : bytes that states and adjoints may take; what does not fit is computed again.
    adjoint : "float32", or "float64" where adjoints grow.
    together : targets that go through one step's graph at once.
    device : "cpu", "cuda", ...; default the CPU.
    """

    needs = ("training", "ids", "labels")

    def __init__(
        self,
        seed: int = 0,
        *,
        average: int = 1,
        keep: float = 0.5,
        memory: int = 2**30,
        adjoint: str = "float32",
        together: int = 16,
        device: str | None = None,
    ) -> None:
        if average < 1:
            raise InputError(f"average must be at least 1 run, received {average}.")
        if not 0 < keep <= 1:
            raise InputError(f"keep must lie in (0, 1], received {keep}.")
        if adjoint not in _DTYPES:
            raise InputError(f'adjoint must be "float32" or "float64", received {adjoint!r}.')
        if memory < 1 or together < 1:
            raise InputError(f"memory={memory} and together={together} must be at least 1.")
        self.seed, self.average, self.keep = seed, average, keep
        self.memory, self.adjoint, self.together, self.device = memory, adjoint, together, device

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        """As for every method; also a Recipe, and an output that is one number per target."""
        if hasattr(source, "trainer") and getattr(source, "recipe", None) is None:
            return ["a Recipe (pass a Study made with recipe=, whose steps can be differentiated)"]
        lacks = super().missing(source, output)
        if not lacks and first_output(source, output) not in set(OUTPUTS) - {"logits"}:
            lacks.append(f"an output that is one number per target (not {first_output(source, output)!r})")
        return lacks

    def attribute(self, study: Any, output: str | None = None) -> Attribution:
        """Derivatives by the weights of all training examples; targets are rows."""
        self.require(study, output)
        output = first_output(study, output)
        total = np.zeros((len(study.target_ids), study.n))
        bias, growth = np.zeros(len(study.target_ids)), 0.0
        for i in range(self.average):
            mask = np.ones(study.n)
            if self.average > 1 and self.keep < 1:
                mask = Subsets.uniform(study.n, self.keep, self.seed).masks([i])[0].astype(np.float64)
            run = Run(study, self.seed + i, adjoint=_DTYPES[self.adjoint], device=self.device)
            found = self._differentiate(run, output, mask)
            total = total + found.gradient / self.average
            bias = bias + (found.outputs - found.gradient @ mask) / self.average
            growth = max(growth, found.growth)
        if growth > _EXPLODED:
            warnings.warn(
                f"the adjoints grew {growth:.0e} times on the way back through training, so its outcome is "
                "not smooth in the weights of examples and these scores predict little; lower the learning "
                "rate or make the network smoother (average pooling, small final logits).",
                stacklevel=2,
            )
        return Attribution(
            np.asarray(total, np.float32),
            bias=np.asarray(bias, np.float32),
            target_ids=study.target_ids,
            train_ids=study.train_ids,
            output=output,
            calibrated=study.recipe.subset == "weighted",
            method="MAGIC" if self.average == 1 else f"MAGIC (mean of {self.average} runs)",
            provenance=provenance(study, self, adjoint_growth=growth),
        )

    def _differentiate(self, run: Run, output: str, mask: np.ndarray) -> Metagradient:
        targets = range(len(run.queries.y))
        found = differentiate(run, output, targets, mask, together=self.together, memory=self.memory)
        if not (np.isfinite(found.gradient).all() and np.isfinite(found.outputs).all()):
            raise InputError(
                f"the derivatives of the run with seed {run.seed} are not finite, adjoints overflow on the "
                "way back through training; lower the learning rate, set eps_root for Adam, or make the "
                "network smoother (average pooling, small final logits)."
            )
        return found
