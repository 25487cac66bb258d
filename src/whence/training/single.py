"""One model of a study, to look at: `train` it on a subset or with weights, take its `features`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from whence.errors import InputError
from whence.training.data import Resident
from whence.training.loop import train_one
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.study.study import Study


def train(study: Study, weights: Any = None, seed: int = 0, device: str | None = None) -> nn.Module:
    """Train one network of `study` and return it in evaluation mode.

    Parameters
    ----------
    weights : ``(n,)`` mask or non-negative example weights in 0/1 units (0 leaves an example out, 2 counts it
        twice); None trains on everything.
    seed : training seed.
    """
    trainer = _recipe_trainer(study, device)
    values = np.ones(study.n) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.shape != (study.n,):
        raise InputError(
            f"weights must have shape ({study.n},), one for each training example, received {values.shape}."
        )
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise InputError("weights must be finite, at least 0 and not all 0.")
    trainer._count_steps(values[None] > 0)
    state = train_one(trainer.step, trainer.data, torch.as_tensor(values, dtype=torch.float32), seed)
    with torch.random.fork_rng(devices=[]):
        model = trainer.recipe.model().to(trainer.device)
    final = {**state.parameters, **state.buffers}
    with torch.no_grad():  # by name, for tied weights and non-persistent buffers are no part of a state_dict
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            tensor.copy_(final[name])
    return model.eval()


def features(study: Study, seed: int = 0, device: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Penultimate features, the inputs of the last linear layer, of one network trained on everything.

    Returns
    -------
    float32 arrays ``(n, d)`` for the training examples and ``(targets, d)`` for the targets.
    """
    model = train(study, seed=seed, device=device)
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise InputError(
            "the network has no torch.nn.Linear layer, so it has no penultimate features; pass features "
            "of your own instead."
        )
    caught: list[torch.Tensor] = []
    handle = linear[-1].register_forward_pre_hook(
        lambda layer, inputs: caught.append(inputs[0].flatten(1).cpu())
    )
    found = []
    with torch.no_grad():
        for examples in (study.train, study.targets):
            data = Resident(examples, study.train, next(model.parameters()).device)
            caught.clear()
            for start in range(0, len(examples), 512):
                model(data.inputs(slice(start, start + 512)))
            found.append(torch.cat(caught).numpy())
    handle.remove()
    return found[0], found[1]


def _recipe_trainer(study: Study, device: str | None) -> RecipeTrainer:
    trainer = study.trainer(device)
    if not isinstance(trainer, RecipeTrainer):
        raise InputError(
            f"this needs a study with a Recipe, received {study!r}; its way of training is not known to the "
            "engine."
        )
    return trainer
