"""One training run with example weights, step by step, and the transposed derivative of each step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from whence.errors import InputError
from whence.study._random import fork
from whence.study.outputs import output_functions
from whence.training.batchnorm import closed_form, differentiable_statistics
from whence.training.curvature import twice_differentiable
from whence.training.order import epochs
from whence.training.reproducible import reproducible
from whence.training.step import Batch, State, Step, initial_state
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.study.study import Study

Group = int | Sequence[int]  # position of a target, or positions of several whose mean is meant
Adjoint = list[torch.Tensor]  # one (targets, ...) tensor for each floating tensor of a State

_AT_ONCE = 512  # targets


class Snapshot(NamedTuple):
    """A state and the random state before its step, from which the step comes out again bit for bit."""

    state: State
    random: torch.Tensor
    random_cuda: torch.Tensor | None


class Run:
    """One training run of a study, with example weights, that can be differentiated.

    The run has the batches of the full training set whatever the weights, and its loss is divided by the size
    of the batch (``subset="weighted"``), in float32 or float64.

    Parameters
    ----------
    seed : training seed.
    dtype : of the run itself, float32 as in any training or float64.
    adjoint : of the backward pass; float64 guards against rounding where adjoints grow.
    """

    def __init__(
        self,
        study: Study,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        adjoint: torch.dtype | None = None,
        device: str | None = None,
    ) -> None:
        if study.recipe is None:
            raise InputError(
                f"a run is differentiated step by step, so the study needs a Recipe, received {study!r}."
            )
        study = copy.copy(study)
        assert study.recipe is not None
        study.recipe = replace(study.recipe, subset="weighted", precision="float32")
        self.trainer = RecipeTrainer(study, device)  # checks the network, batch norm included
        self.recipe, self.device = study.recipe, self.trainer.device
        self.n, self.seed, self.dtype, self.adjoint = study.n, seed, dtype, adjoint or dtype
        self.trainer._count_steps(np.ones((1, self.n), dtype=bool))
        self.data, self.queries = self.trainer.data, self.trainer.queries
        self.step = Step(self.trainer.model, self.recipe, graph=True)
        self.batches = self._batches()

    def _batches(self) -> list[tuple[torch.Tensor, dict[str, torch.Tensor], float]]:
        found: list[tuple[torch.Tensor, dict[str, torch.Tensor], float]] = []
        total, size = self.recipe.steps(self.n), self.recipe.batch_size
        shape = tuple(self.data.x.shape[1:])
        for order, draws in epochs(torch.arange(self.n), self.recipe, shape, self.seed):
            for start in range(0, len(order), size):
                part = slice(start, start + size)
                lr = self.recipe.optimizer.lr * self.recipe.schedule.factor(len(found), total)
                drawn = {key: value[part].to(self.device) for key, value in draws.items()}
                found.append((order[part].to(self.device), drawn, lr))
        return found

    def __len__(self) -> int:
        """Number of steps T."""
        return len(self.batches)

    def start(self) -> Snapshot:
        """The state before the first step; sets the global random state, so call it inside `fork`."""
        torch.manual_seed(self.seed)
        return self._snapshot(_cast(initial_state(self.recipe.model(), self.recipe, self.device), self.dtype))

    @contextmanager
    def fork(self) -> Iterator[None]:
        """A context in which the random state may be set (the user's comes back afterwards), and in which a
        GPU repeats its steps."""
        with fork(), reproducible(self.device):
            yield

    def _snapshot(self, state: State) -> Snapshot:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return Snapshot(state, torch.get_rng_state(), cuda)

    def _seat(self, at: Snapshot) -> None:
        torch.set_rng_state(at.random)
        if at.random_cuda is not None:
            torch.cuda.set_rng_state(at.random_cuda, self.device)

    def batch(self, t: int, dtype: torch.dtype) -> Batch:
        """What step `t` trains on."""
        index, draws, lr = self.batches[t]
        x = self.data.inputs(index, draws)
        return Batch(x.to(dtype) if x.is_floating_point() else x, self.data.y[index], lr)

    def advance(self, at: Snapshot, t: int, weights: torch.Tensor) -> Snapshot:
        """The snapshot after step `t`."""
        self._seat(at)
        mine = weights[self.batches[t][0]]
        plain = None if bool((mine == 1).all()) else mine  # ordinary layers are the faster ones
        with closed_form():
            return self._snapshot(self.trainer.step(at.state, self.batch(t, self.dtype), plain))

    def final(self, weights: torch.Tensor | np.ndarray | None = None) -> State:
        """Train from start to end with `weights` ``(n,)`` (default: all 1)."""
        with self.fork():
            at, chosen = self.start(), self.weights(weights)
            for t in range(len(self)):
                at = self.advance(at, t, chosen)
        return at.state

    def weights(self, weights: torch.Tensor | np.ndarray | None) -> torch.Tensor:
        """Example weights ``(n,)`` on the device, checked."""
        if weights is None:
            return torch.ones(self.n, dtype=self.dtype, device=self.device)
        found = torch.as_tensor(weights).to(self.device, self.dtype)
        if found.shape != (self.n,) or not torch.isfinite(found).all():
            raise InputError(
                f"weights must be finite and of shape ({self.n},), one for each training example, received "
                f"shape {tuple(found.shape)}."
            )
        return found

    def outputs(self, state: State, output: str, targets: Sequence[int] | slice) -> torch.Tensor:
        """The output ``(targets,)`` of the network in evaluation mode, differentiable in `state`."""
        index = torch.arange(len(self.queries.y))[targets].to(self.device)
        x = self.queries.inputs(index)
        dtype = next(iter(state.parameters.values())).dtype
        self.step.model.eval()
        try:
            with differentiable_statistics(), reproducible(self.device):
                logits = torch.func.functional_call(
                    self.step.model,
                    {**state.parameters, **state.buffers},
                    (x.to(dtype) if x.is_floating_point() else x,),
                )
        finally:
            self.step.model.train()
        return output_functions(self.recipe.loss)[output](logits, self.queries.y[index])

    def means(self, state: State, output: str, targets: Sequence[Group]) -> np.ndarray:
        """The output ``(targets,)``, the mean where one is a group."""
        with torch.no_grad():
            parts = [[self.outputs(state, output, part).sum() for part in _parts(group)] for group in targets]
        return np.array([float(sum(sums)) / _size(group) for sums, group in zip(parts, targets, strict=True)])

    def terminal(self, state: State, output: str, targets: Sequence[Group]) -> tuple[np.ndarray, Adjoint]:
        """Outputs ``(targets,)`` at the end and their gradients by the final state, where adjoints start."""
        values, rows = np.zeros(len(targets)), []
        for i, group in enumerate(targets):
            leaves, rebuilt = _leaves(state, self.adjoint)
            row = [torch.zeros_like(leaf) for leaf in leaves]
            for part in _parts(group):
                value = self.outputs(rebuilt, output, part).sum() / _size(group)
                for total, more in zip(
                    row, torch.autograd.grad(value, leaves, allow_unused=True), strict=True
                ):
                    if more is not None:
                        total += more
                values[i] += float(value.detach())
            rows.append(row)
        return values, [torch.stack(parts) for parts in zip(*rows, strict=True)]

    def record(self, at: Snapshot, t: int, weights: torch.Tensor) -> Recorded:
        """Step `t` with its graph, for its transposed derivative."""
        self._seat(at)
        leaves, state = _leaves(at.state, self.adjoint)
        mine = weights[self.batches[t][0]].to(self.adjoint).requires_grad_()
        with differentiable_statistics(), twice_differentiable():
            after = self.step(state, self.batch(t, self.adjoint), mine)
        plain = _map(after, lambda v: v.detach().to(self.dtype) if v.is_floating_point() else v)
        return Recorded([*leaves, mine], floating(after), self._snapshot(plain))

    def graph_bytes(self, at: Snapshot, weights: torch.Tensor, t: int = 0) -> int:
        """About how much memory the graph of step `t` takes, which starts at `at`."""
        with _Footprint() as footprint:
            self.record(at, t, weights)
        return footprint.bytes


class Recorded(NamedTuple):
    """A step's graph: what it started from (the floating tensors of a state, then the weights of its batch),
    the floating tensors that it came to, and these as a snapshot without a graph."""

    leaves: list[torch.Tensor]
    results: list[torch.Tensor]
    after: Snapshot

    def pull_back(self, adjoint: Adjoint, together: int | None = None) -> tuple[Adjoint, torch.Tensor]:
        """Adjoints before the step from those after it, and its share ``(targets, b)`` of the gradient by the
        weights of its batch. The graph is used up.

        `together` targets go through it at once (None: all).
        """
        live = [i for i, tensor in enumerate(self.results) if tensor.requires_grad]
        count, parts = len(adjoint[0]), []
        together = together or count
        for start in range(0, count, together):
            part = slice(start, min(start + together, count))
            single = part.stop - start == 1
            parts.append(
                torch.autograd.grad(
                    [self.results[i] for i in live],
                    self.leaves,
                    [adjoint[i][start] if single else adjoint[i][part] for i in live],
                    retain_graph=part.stop < count,
                    is_grads_batched=not single,
                    allow_unused=True,
                    materialize_grads=False,
                )
            )
            if single:
                parts[-1] = tuple(None if g is None else g[None] for g in parts[-1])
        *before, share = (
            torch.cat(pieces) if pieces[0] is not None else leaf.new_zeros(count, *leaf.shape)
            for pieces, leaf in zip(zip(*parts, strict=True), self.leaves, strict=True)
        )
        return list(before), share


class _Footprint(TorchDispatchMode):
    """Bytes of all places in memory to which something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, list | tuple) else [found]:
            if isinstance(tensor, torch.Tensor):
                place, size = tensor.untyped_storage().data_ptr(), tensor.untyped_storage().nbytes()
                self.places[place] = max(size, self.places.get(place, 0))
        return found

    @property
    def bytes(self) -> int:
        return sum(self.places.values())


def _size(group: Group) -> int:
    return 1 if isinstance(group, int) else len(group)


def _parts(group: Group) -> list[Sequence[int]]:
    """The positions of a group, as many at a time as go through the network at once."""
    positions = [group] if isinstance(group, int) else group
    return [positions[start : start + _AT_ONCE] for start in range(0, len(positions), _AT_ONCE)]


def floating(state: State) -> list[torch.Tensor]:
    """The tensors of a state that are differentiated, in a fixed order: parameters first."""
    groups = (state.parameters, state.buffers, *state.moments.values())
    return [tensor for group in groups for tensor in group.values() if tensor.is_floating_point()]


def _leaves(state: State, dtype: torch.dtype) -> tuple[list[torch.Tensor], State]:
    """Copies of a state's floating tensors to differentiate by, and the state made of them."""
    fresh = _map(state, lambda v: v.detach().to(dtype).requires_grad_() if v.is_floating_point() else v)
    fresh = fresh._replace(t=state.t)
    return floating(fresh), fresh


def _cast(state: State, dtype: torch.dtype) -> State:
    return _map(state, lambda v: v.to(dtype) if v.is_floating_point() else v)


def _map(state: State, change: Callable[[torch.Tensor], torch.Tensor]) -> State:
    def one(group: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: change(value) for key, value in group.items()}

    moments = {name: one(group) for name, group in state.moments.items()}
    return State(one(state.parameters), one(state.buffers), moments, state.t)
