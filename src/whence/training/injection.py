"""A run into which examples are injected late: one step on them with weight 0, whose derivative tells what a
little of each would do.

The count surrogate of metagradient descent (Engstrom et al. 2025, arXiv 2503.13751) as DataMIL's release uses it:
train on what is included, inject at step K, train on to step T, and go back from the end to K only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from whence.errors import InputError
from whence.training.order import generator
from whence.training.replay import Metagradient, differentiate
from whence.training.run import Group, Run
from whence.training.step import Batch

if TYPE_CHECKING:
    from whence.study.study import Study


class InjectedRun(Run):
    """A run of `steps` steps on the `included` examples with one step on the `injected` ones at step `at`.

    Weights are ``(2 n,)``: 1 for the examples as they are trained on, then 0 for the same examples as they
    are injected. With Adam the injected step still moves the parameters, by its momentum.

    Parameters
    ----------
    study : of a Recipe; its batch size, optimizer and schedule are used, its epochs are not.
    included : positions of the examples that are trained on, again and again in new orders.
    injected : positions of the examples of the injected batch.
    steps : T, the injected step counted.
    at : K, how many steps come before it.
    """

    def __init__(
        self,
        study: Study,
        included: np.ndarray,
        injected: np.ndarray,
        *,
        steps: int,
        at: int,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        if not 0 <= at < steps:
            raise InputError(f"at={at} must be a step of the run, 0 to {steps - 1}.")
        if not len(included) or not len(injected):
            raise InputError("included and injected must name at least one example each.")
        self._plan = torch.as_tensor(included), torch.as_tensor(injected), steps, at
        super().__init__(study, seed, device=device)
        self.examples, self.n = self.n, 2 * self.n

    def _batches(self) -> list[tuple[torch.Tensor, dict[str, torch.Tensor], float]]:
        included, injected, steps, at = self._plan
        stream, size = generator(self.seed), self.recipe.batch_size
        found: list[tuple[torch.Tensor, dict[str, torch.Tensor], float]] = []
        rest = included[:0]
        for t in range(steps):
            lr = self.recipe.optimizer.lr * self.recipe.schedule.factor(t, steps)
            if t == at:
                index = injected + self.n
            else:
                while len(rest) < size:
                    rest = torch.cat([rest, included[torch.randperm(len(included), generator=stream)]])
                index, rest = rest[:size], rest[size:]
            found.append((index.to(self.device), {}, lr))
        return found

    def batch(self, t: int, dtype: torch.dtype) -> Batch:
        """What step `t` trains on."""
        index, _, lr = self.batches[t]
        index = index % self.examples
        x = self.data.inputs(index)
        return Batch(x.to(dtype) if x.is_floating_point() else x, self.data.y[index], lr)

    def differentiate(self, output: str, targets: list[Group], memory: int = 2**31) -> Metagradient:
        """Outputs ``(targets,)`` at the end, and their derivatives ``(targets, n)`` by the weights of the injected
        examples at 0; 0 for those that were not injected."""
        weights = np.concatenate([np.ones(self.examples), np.zeros(self.examples)])
        found = differentiate(self, output, targets, weights, memory=memory, since=self._plan[3])
        return Metagradient(found.outputs, found.gradient[:, self.examples :], found.norms)
