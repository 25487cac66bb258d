"""The driver that differentiates a whole run with respect to the weights of its examples.

REPLAY (Engstrom et al. 2025, arXiv 2503.13751, section 3): reverse mode through training, ``delta_t =
(ds_{t+1} / ds_t)^T delta_{t+1}`` and ``df/dw = sum_t (ds_{t+1} / dw)^T delta_{t+1}``, with the states brought
back from checkpoints by training again, for the step is deterministic.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from whence.errors import InputError
from whence.training.run import Adjoint, Group, Run, Snapshot, floating
from whence.training.step import State

_CACHE = 2**24


@dataclass
class Metagradient:
    """Outputs ``(targets,)`` of a run, their derivatives ``(targets, n)`` by example weights, and how the
    adjoints fared: ``norms`` ``(T + 1,)``, the largest over targets before each step and after the last."""

    outputs: np.ndarray
    gradient: np.ndarray
    norms: np.ndarray

    @property
    def growth(self) -> float:
        """How many times longer the adjoint of the parameters became on its way to the start."""
        return float(self.norms.max() / max(self.norms[-1], 1e-300))


def differentiate(
    run: Run,
    output: str,
    targets: Sequence[Group],
    weights: torch.Tensor | np.ndarray | None = None,
    fanout: int | None = None,
    together: int | None = None,
    memory: int = 2**31,
    since: int = 0,
) -> Metagradient:
    """Outputs of a run and their derivatives by all example weights, at `weights` (default: all 1).

    Targets share one way back, as many as fit. A third of `memory` each is for the adjoints, one for each
    target; for states, ``(fanout - 1) log_fanout(T) + 1``; and for the graphs of the last steps, which are
    kept from the way there, so that these steps are not computed again. The run is trained ``log_fanout(T)``
    times on top of the backward steps.

    Parameters
    ----------
    targets : positions of targets; a sequence of positions in the place of one stands for the mean over
        them, and costs as much as a single target.
    fanout : children of each node in the tree of checkpoints; default what fits a third of `memory` bytes,
        all states if they do.
    together : targets that go through a step's graph at once; default what takes 16 MB on a CPU, whose caches
        more would overflow, and what takes `memory` on a GPU.
    since : go back to this step only: derivatives are by the weights of the batches from it on, with the
        state before it held fixed.
    """
    chosen = run.weights(weights)
    with run.fork():
        first = run.start()
        for t in range(since):
            first = run.advance(first, t, chosen)
        size = state_bytes(first.state)
        passes = max(1, memory // 3 // size)  # targets whose adjoints fit
        steps = len(run) - since
        graph = max(1, run.graph_bytes(first, chosen, len(run) - 1))
        graphs = min(steps, memory // 3 // graph)
        if together is None:  # each target takes about as much as the graph itself
            room = _CACHE if run.device.type == "cpu" else memory
            together = max(1, room // graph)
        fanout = fanout or fanout_for(steps - graphs, size, memory // 3)
        if fanout < 2:
            raise InputError(f"fanout must be at least 2, received {fanout}.")
        parts = [
            _one_pass(
                run, first, output, targets[start : start + passes], chosen, fanout, graphs, together, since
            )
            for start in range(0, len(targets), passes)
        ]
    return Metagradient(
        np.concatenate([part.outputs for part in parts]),
        np.concatenate([part.gradient for part in parts]),
        np.max([part.norms for part in parts], axis=0),
    )


def _one_pass(
    run: Run,
    first: Snapshot,
    output: str,
    targets: Sequence[Group],
    weights: torch.Tensor,
    fanout: int,
    graphs: int,
    together: int | None,
    since: int,
) -> Metagradient:
    walk = _backwards(run, first, weights, fanout, len(run) - graphs, since)
    kept, at = [], next(walk)[1]
    for t in range(len(run) - graphs, len(run)):
        kept.append(run.record(at, t, weights))
        at = kept[-1].after
    values, adjoint = run.terminal(at.state, output, targets)
    gradient = torch.zeros(len(targets), run.n, dtype=torch.float64, device=run.device)
    names = len(first.state.parameters)
    norms = [_norm(adjoint[:names])]
    for t in reversed(range(since, len(run))):
        step = kept.pop() if kept else run.record(next(walk)[1], t, weights)
        adjoint, share = step.pull_back(adjoint, together)
        gradient.index_add_(1, run.batches[t][0], share.to(torch.float64))
        norms.append(_norm(adjoint[:names]))
    return Metagradient(values, gradient.cpu().numpy(), np.array(norms[::-1]))


def _backwards(
    run: Run, first: Snapshot, weights: torch.Tensor, fanout: int, steps: int, since: int = 0
) -> Iterator[tuple[int, Snapshot]]:
    """Snapshots before the steps T = `steps`, T - 1, ..., `since`, by a lazy tree: a node trains over its
    span, keeps where its children start, and lets each go when it is done with it (Engstrom et al. 2025,
    section 3.2)."""

    def span(lo: int, hi: int, at: Snapshot, last: bool) -> Iterator[tuple[int, Snapshot]]:
        size = -(-(hi - lo) // fanout)
        kept = [(lo, at)]
        # The last span trains to its end, for that state is wanted; others stop where the last child starts.
        for t in range(lo, hi if last else lo + (hi - lo - 1) // size * size):
            at = run.advance(at, t, weights)
            if (t + 1 - lo) % size == 0 and t + 1 < hi:
                kept.append((t + 1, at))
        if last:
            yield hi, at
        del at
        while kept:
            begin, start = kept.pop()
            end = min(begin + size, hi)
            if end - begin == 1:
                yield begin, start
            else:
                yield from span(begin, end, start, False)

    return span(since, steps, first, True) if steps > since else iter([(since, first)])


def fanout_for(steps: int, state_bytes: int, memory: int) -> int:
    """The largest useful fanout of the tree whose states fit into `memory` bytes: `steps` where all fit, else
    the smallest root of it that does, at least 2."""
    for depth in range(1, max(2, math.ceil(math.log2(max(steps, 2)))) + 1):
        fanout = max(2, math.ceil(steps ** (1 / depth)))
        if ((fanout - 1) * depth + 1) * state_bytes <= memory:
            return fanout
    return 2


def _norm(parts: Adjoint) -> float:
    squares = sum(part.flatten(1).square().sum(1) for part in parts)
    return float(torch.as_tensor(squares).sqrt().max())


def state_bytes(state: State) -> int:
    """Bytes of a snapshot: floating tensors and the random state."""
    return sum(tensor.numel() * tensor.element_size() for tensor in floating(state)) + 5000
