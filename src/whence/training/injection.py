"""A run into which examples are injected late: one step on them with weight 0, whose derivative tells what a
little of each would do.

The count surrogate of metagradient descent (Engstrom et al. 2025, arXiv 2503.13751) as DataMIL's release uses
it: train on what is included, inject at step K, train on to step T, and go back from the end to K only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from whence.errors import InputError
from whence.training.optimizers import Tensors, update
from whence.training.order import generator
from whence.training.replay import Metagradient, differentiate
from whence.training.run import Adjoint, Group, Recorded, Run, Snapshot, _leaves, _map, floating
from whence.training.step import Batch, State, cross_entropy

if TYPE_CHECKING:
    from whence.study.study import Study

_TOGETHER = 8192  # injected examples


class InjectedRun(Run):
    """A run of `steps` steps on the `included` examples with one step on the `injected` ones at step `at`.

    Weights are ``(2 n,)``: 1 for the examples as they are trained on, then 0 for the same examples as they
    are injected. The injected step has a gradient of zero (with Adam its momentum still moves the parameters)
    and leaves buffers as they are, so its transposed derivative is that of the optimizer, and a product of
    the examples' gradients with one direction: no graph of the whole batch is kept.

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

    def record(self, at: Snapshot, t: int, weights: torch.Tensor) -> Recorded:
        """See `Run.record`; the injected step does without the graph of its batch."""
        if t != self._plan[3]:
            return super().record(at, t, weights)
        leaves, state = _leaves(at.state, self.adjoint)
        nothing = {
            key: torch.zeros_like(value, requires_grad=True) for key, value in state.parameters.items()
        }
        lr = self.batches[t][2]
        parameters, moments = update(
            self.recipe.optimizer, state.parameters, nothing, state.moments, lr, state.t + 1
        )
        after = State(parameters, state.buffers, moments, state.t + 1)
        plain = _map(after, lambda v: v.detach().to(self.dtype) if v.is_floating_point() else v)
        found = _Injection(leaves, floating(after), self._snapshot(plain))
        found.run, found.state, found.nothing, found.t = self, state, nothing, t
        return found

    def directional(self, state: State, t: int, direction: Tensors) -> torch.Tensor:
        """Derivative ``(b,)`` of each injected example's loss along a direction of the parameters."""
        batch, parts = self.batch(t, self.adjoint), []
        parameters, buffers = (
            {key: value.detach() for key, value in group.items()}
            for group in (state.parameters, state.buffers)
        )

        def losses(given: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            outputs = torch.func.functional_call(self.step.model, (given, buffers), (x,))
            if self.step.objective is None:
                return cross_entropy(outputs, y, self.recipe.label_smoothing)
            return self.step.objective(outputs, y)

        for start in range(0, len(batch.y), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            x, y = batch.x[part], batch.y[part]
            parts.append(torch.func.jvp(lambda p, x=x, y=y: losses(p, x, y), (parameters,), (direction,))[1])
        return torch.cat(parts) / len(batch.y)

    def differentiate(self, output: str, targets: list[Group], memory: int = 2**31) -> Metagradient:
        """Outputs ``(targets,)`` at the end, and their derivatives ``(targets, n)`` by the weights of the
        injected examples at 0; 0 for those that were not injected."""
        weights = np.concatenate([np.ones(self.examples), np.zeros(self.examples)])
        found = differentiate(self, output, targets, weights, memory=memory, since=self._plan[3])
        return Metagradient(found.outputs, found.gradient[:, self.examples :], found.norms)


class _Injection(Recorded):
    """The injected step: what it needs of the optimizer's graph, and the run that knows its examples."""

    run: InjectedRun
    state: State
    nothing: Tensors
    t: int

    def pull_back(self, adjoint: Adjoint, together: int | None = None) -> tuple[Adjoint, torch.Tensor]:
        """See `Recorded.pull_back`."""
        live = [i for i, tensor in enumerate(self.results) if tensor.requires_grad]
        sources, before, shares = [*self.leaves, *self.nothing.values()], [], []
        for target in range(len(adjoint[0])):
            found = torch.autograd.grad(
                [self.results[i] for i in live],
                sources,
                [adjoint[i][target] for i in live],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )
            direction = dict(zip(self.nothing, found[len(self.leaves) :], strict=True))
            before.append(found[: len(self.leaves)])
            shares.append(self.run.directional(self.state, self.t, direction))
        return [torch.stack(parts) for parts in zip(*before, strict=True)], torch.stack(shares)
