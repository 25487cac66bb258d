"""The driver for runs whose batches are given one by one, several models at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from whence.errors import InputError
from whence.training.recorded import own, stacked_step
from whence.training.stacked import _fresh, _stack
from whence.training.step import Batch, State, Step
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.study.study import Study


def train_on_batches(
    study: Study, batches: np.ndarray, seeds: Sequence[int], device: str | None = None
) -> list[nn.Module]:
    """Networks of the study's recipe, each trained on batches of its own; in evaluation mode.

    Parameters
    ----------
    study : of a Recipe without augmentation; its epochs, batch size and subset play no part.
    batches : positions of training examples ``(models, steps, batch size)``, repeats allowed.
    seeds : of the initial weights of each model.
    """
    batches = np.asarray(batches)
    if study.recipe is None or study.recipe.augment is not None:
        raise InputError(f"batches are given to a Recipe without augmentation, received {study!r}.")
    if batches.ndim != 3 or len(batches) != len(seeds) or batches.dtype.kind not in "iu":
        raise InputError(
            f"batches must be positions (models, steps, batch size) for {len(seeds)} seeds, received shape "
            f"{batches.shape} of {batches.dtype}."
        )
    if batches.size and not 0 <= batches.min() <= batches.max() < study.n:
        raise InputError(f"batches must name positions 0 to {study.n - 1}.")
    trainer = RecipeTrainer(study, device)
    recipe, data, index = trainer.recipe, trainer.data, torch.as_tensor(batches, device=trainer.device)
    models, steps, size = batches.shape
    step = Step(trainer.model, recipe, trainer.mixed)
    states = [_fresh(step, seed) for seed in seeds]
    state = _stack(states, trainer.device) if models > 1 else _to(states[0], trainer.device)
    ones = torch.ones(models, size, device=trainer.device)
    for t in range(steps):
        lr = recipe.optimizer.lr * recipe.schedule.factor(t, steps)
        if models > 1:
            x, y = data.inputs(index[:, t].contiguous()), data.answers(index[:, t])
            rate = torch.tensor(lr, device=trainer.device)
            state = stacked_step(step, state, Batch(x, y, rate), ones)(state, x, y, rate, ones)
        else:
            state = step(state, Batch(data.inputs(index[0, t]), data.answers(index[0, t]), lr), None)
    state = own(state)
    return [_network(trainer, state, i if models > 1 else None) for i in range(models)]


def _to(state: State, device: torch.device) -> State:
    def moved(group: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: value.to(device) for key, value in group.items()}

    moments = {name: moved(group) for name, group in state.moments.items()}
    return State(moved(state.parameters), moved(state.buffers), moments, state.t.to(device))


def _network(trainer: RecipeTrainer, state: State, member: int | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        network = trainer.recipe.model().to(trainer.device)
    final = {**state.parameters, **state.buffers}
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            tensor.copy_(final[name] if member is None else final[name][member])
    return network.eval()
