"""The driver for many models at once: `torch.func.vmap` over stacked parameters, one step for the whole
stack.

Small models spend their time in the overhead of each operation; a stack pays it once. A model's result does
not depend on its company: stacks have one fixed size (the last is filled up with repeats), batches one fixed
shape (the last of an epoch is filled up with weight 0), and every model draws from its own stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from whence.errors import InputError
from whence.study._random import fork
from whence.training.batchnorm import has_foreign_batchnorm
from whence.training.data import Draws, Resident, Selected
from whence.training.optimizers import initial_moments
from whence.training.order import epochs, pool
from whence.training.recorded import own, stacked_step
from whence.training.reproducible import reproducible
from whence.training.step import Batch, State, Step, initial_state


def train_stack(
    step: Step,
    data: Resident | Selected,
    weights: torch.Tensor,
    seeds: list[int],
    steps: int | None = None,
    given: State | None = None,
) -> State:
    """Train a stack of networks that take the same number of steps; returns their states with a leading model
    axis.

    Parameters
    ----------
    weights : float ``(m, n)`` on the CPU; 0 leaves an example out.
    seeds : training seed of each model.
    steps : stop after so many steps (for measurements), None for the whole run.
    given : go on from these states (see `stacked`) rather than from fresh initial weights.
    """
    recipe, device, size = step.recipe, data.y.device, step.recipe.batch_size
    if step.training and has_foreign_batchnorm(step.model):
        raise InputError(
            "the network has batch-norm layers that ignore example weights, so it cannot be stacked; use "
            "whence.training.BatchNorm2d in their place, or the loop driver."
        )
    positions = [pool(row, recipe) for row in weights]
    totals = {recipe.steps(len(p)) for p in positions}
    if len(totals) != 1:
        raise ValueError(f"models of one stack must take the same number of steps, received {sorted(totals)}")
    total = totals.pop()
    with fork():
        state = _stack([_fresh(step, seed) for seed in seeds], device) if given is None else given
    factors = [recipe.schedule.factor(i, total) for i in range(total)]
    rates = (recipe.optimizer.lr * torch.tensor(factors, dtype=torch.float64)).float().to(device)
    shape = tuple(data.x.shape[1:])
    streams = [epochs(p, recipe, shape, seed) for p, seed in zip(positions, seeds, strict=True)]
    done = 0
    with reproducible(device):
        for _ in range(recipe.epochs):
            order, present, draws = _pad([next(stream) for stream in streams], size)
            share = weights.gather(1, order).mul_(present).to(device)
            order = order.to(device)
            draws = {key: value.to(device) for key, value in draws.items()}
            for start in range(0, order.shape[1], size):
                part = slice(start, start + size)
                index, present = order[:, part].contiguous(), share[:, part].contiguous()
                x = data.inputs(index, {k: v[:, part] for k, v in draws.items()})
                y, lr = data.answers(index), rates[done]
                state = stacked_step(step, state, Batch(x, y, lr), present)(state, x, y, lr, present)
                done += 1
                if done == steps:
                    return own(state)
    return own(state)


def _fresh(step: Step, seed: int) -> State:
    """The state of a fresh network; sets the global random state, so call it inside `fork`."""
    torch.manual_seed(seed)
    return initial_state(step.recipe.model(), step.recipe)


def stacked(step: Step, models: Sequence[Mapping[str, torch.Tensor]], device: torch.device) -> State:
    """The states of given models (all their tensors by name) before the first step of a further training."""
    trained = {key for key, value in step.model.named_parameters() if value.requires_grad}
    names = [key for key, _ in (*step.model.named_parameters(), *step.model.named_buffers())]
    together = {key: torch.stack([model[key] for model in models]).to(device) for key in names}
    parameters = {key: value for key, value in together.items() if key in trained}
    buffers = {key: value for key, value in together.items() if key not in trained}
    moments = initial_moments(step.recipe.optimizer, parameters)
    return State(parameters, buffers, moments, torch.zeros(len(models), device=device))


def _stack(states: list[State], device: torch.device) -> State:
    def together(dicts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {key: torch.stack([d[key] for d in dicts]).to(device) for key in dicts[0]}

    return State(
        together([s.parameters for s in states]),
        together([s.buffers for s in states]),
        {name: together([s.moments[name] for s in states]) for name in states[0].moments},
        torch.zeros(len(states), device=device),
    )


def _pad(models: list[tuple[torch.Tensor, Draws]], size: int) -> tuple[torch.Tensor, torch.Tensor, Draws]:
    """Orders of one epoch, filled up to whole batches: positions ``(m, steps * size)``, 1 where real,
    draws."""
    length = -(-max(len(order) for order, _ in models) // size) * size
    order = torch.zeros(len(models), length, dtype=torch.long)
    present = torch.zeros(len(models), length)
    draws = {
        key: torch.zeros(len(models), length, *value.shape[1:], dtype=value.dtype)
        for key, value in models[0][1].items()
    }
    for row, (positions, drawn) in enumerate(models):
        order[row, : len(positions)] = positions
        present[row, : len(positions)] = 1.0
        for key, value in drawn.items():
            draws[key][row, : len(positions)] = value
    return order, present, draws
