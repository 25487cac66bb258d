"""The driver for one model at a time: best where a single step keeps the machine busy."""

from __future__ import annotations

from collections.abc import Callable

import torch

from whence.study._random import fork
from whence.training.data import Resident
from whence.training.order import epochs, pool
from whence.training.reproducible import reproducible
from whence.training.step import Batch, State, Step, initial_state


def train_one(
    step: Step,
    data: Resident,
    weights: torch.Tensor,
    seed: int,
    steps: int | None = None,
    watch: Callable[[int, State], None] | None = None,
) -> State:
    """Train one network and return its final state.

    Parameters
    ----------
    weights : float ``(n,)`` on the CPU; 0 leaves an example out.
    seed : training seed: initial weights, order, augmentation, dropout.
    steps : stop after so many steps (for measurements), None for the whole run.
    watch : called after every step with the number of steps done and the state.
    """
    recipe, device = step.recipe, data.y.device
    positions = pool(weights, recipe)
    total = recipe.steps(len(positions))
    plain = bool((weights[positions] == 1).all())
    on_device = weights.to(device)
    done = 0
    with fork(), reproducible(device):
        torch.manual_seed(seed)
        state = initial_state(recipe.model(), recipe, device)
        for order, draws in epochs(positions, recipe, tuple(data.x.shape[1:]), seed):
            order = order.to(device)
            draws = {key: value.to(device) for key, value in draws.items()}
            for start in range(0, len(order), recipe.batch_size):
                part = slice(start, start + recipe.batch_size)
                index = order[part]
                lr = recipe.optimizer.lr * recipe.schedule.factor(done, total)
                batch = Batch(data.inputs(index, {k: v[part] for k, v in draws.items()}), data.y[index], lr)
                state = step(state, batch, None if plain else on_device[index])
                done += 1
                if watch is not None:
                    watch(done, state)
                if done == steps:
                    return state
    return state
