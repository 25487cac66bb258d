"""The stacked step, recorded once as a plain list of tensor operations and replayed.

`torch.func.vmap` and `grad`, autocast and the network's own Python take each operation through many layers
before a number is touched, which is half of the time of a small model's step. The recording holds the
operations that came out at the bottom; replaying them gives the same bits. On a GPU starting each of them
takes longer than a small model's numbers do, so there the recording is captured as one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from whence.training.convolution import stacking
from whence.training.step import Batch, State, Step

Run = Callable[[State, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], State]


def stacked_step(step: Step, state: State, batch: Batch, weights: torch.Tensor) -> Run:
    """The step for a stack of states, as a function of state, inputs, labels, learning rate and weights.

    The arguments are examples: a recording is good for their shapes only, and is kept with `step`. Python
    that a network runs on its way (a counter, say) runs while recording, not while replaying. The state that
    it returns is the caller's until the next call; `own` makes it theirs for good.
    """
    key = (tuple(batch.x.shape), batch.x.dtype, batch.x.device)
    if key not in step.recordings:
        step.recordings[key] = _record(step, state, batch, weights)
    return step.recordings[key]


def own(state: State) -> State:
    """`state`, in memory that no captured step writes to again."""
    return _copy(state) if state.t.device.type == "cuda" else state


def _record(step: Step, state: State, batch: Batch, weights: torch.Tensor) -> Run:
    single = Step(
        step.model,
        step.recipe,
        step.mixed,
        transformed=True,
        objective=step.objective,
        training=step.training,
    )
    mapped = torch.func.vmap(single, in_dims=(0, Batch(0, 0, None), 0))  # type: ignore[arg-type]

    def run(state: State, x: torch.Tensor, y: torch.Tensor, lr: torch.Tensor, weights: torch.Tensor) -> State:
        return mapped(state, Batch(x, y, lr), weights)

    try:
        with stacking(batch.x.device):
            recording = _tidy(make_fx(run)(state, *batch, weights))
    except Exception:  # what cannot be recorded runs as it is, or says itself why not
        return run
    if batch.x.device.type != "cuda":
        return recording
    try:
        return _Captured(recording, state, *batch, weights)
    except RuntimeError:  # what asks the processor something on its way, or does not fit twice
        torch.cuda.synchronize(batch.x.device)
        return recording


class _Captured:
    """A recording as a CUDA graph, which reads its arguments from memory of its own and leaves the new state
    there, ready for the next step."""

    def __init__(self, run: Run, state: State, *others: Any) -> None:
        self.state = _copy(state)
        self.others = [tensor.clone() for tensor in others]
        self.run = run
        device = state.t.device
        with torch.cuda.device(device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):  # libraries set themselves up, which cannot be captured
                    run(self.state, *self.others)
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.body()

    def body(self) -> None:
        """One step, from the state to the state."""
        _fill(self.state, self.run(self.state, *self.others))

    def __call__(self, state: State, *others: torch.Tensor) -> State:
        """See `stacked_step`."""
        if state is not self.state:
            _fill(self.state, state)
        for there, here in zip(self.others, others, strict=True):
            there.copy_(here)
        self.graph.replay()
        return self.state


def _groups(state: State) -> list[dict[str, torch.Tensor]]:
    moments = [state.moments[name] for name in sorted(state.moments)]
    return [state.parameters, state.buffers, *moments, {"t": state.t}]


def _fill(there: State, here: State) -> None:
    for mine, theirs in zip(_groups(there), _groups(here), strict=True):
        for key, tensor in mine.items():
            tensor.copy_(theirs[key])


def _copy(state: State) -> State:
    def group(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: tensor.clone() for key, tensor in tensors.items()}

    moments = {name: group(tensors) for name, tensors in state.moments.items()}
    return State(group(state.parameters), group(state.buffers), moments, state.t.clone())


def _tidy(recording: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Without operations whose result nobody reads or which only say again what shape a tensor has."""
    idle = {torch.ops.aten.expand.default, torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default}
    for node in recording.graph.nodes:
        if node.op == "call_function" and node.target in idle and _shape(node) == _shape(node.args[0]):
            node.replace_all_uses_with(node.args[0])
    recording.graph.eliminate_dead_code()
    recording.recompile()
    return recording


def _shape(node: torch.fx.Node) -> tuple[int, ...] | None:
    known = node.meta.get("tensor_meta")
    return tuple(known.shape) if known is not None else None
