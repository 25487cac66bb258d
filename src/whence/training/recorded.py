"""The stacked step, recorded once as a plain list of tensor operations and replayed.

`torch.func.vmap` and `grad`, autocast and the network's own Python take each operation through many layers
before a number is touched, which is half of the time of a small model's step. The recording holds the
operations that came out at the bottom; replaying them gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from whence.training.convolution import stacking
from whence.training.step import Batch, State, Step

Run = Callable[[State, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], State]


def stacked_step(step: Step, state: State, batch: Batch, weights: torch.Tensor) -> Run:
    """The step for a stack of states, as a function of state, inputs, labels, learning rate and weights.

    The arguments are examples: a recording is good for their shapes only, and is kept with `step`. Python
    that a network runs on its way (a counter, say) runs while recording, not while replaying.
    """
    key = (tuple(batch.x.shape), batch.x.dtype, batch.x.device)
    if key not in step.recordings:
        step.recordings[key] = _record(step, state, batch, weights)
    return step.recordings[key]


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
            return _tidy(make_fx(run)(state, *batch, weights))
    except Exception:  # what cannot be recorded runs as it is, or says itself why not
        return run


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
