"""One model of a study, to look at: `train` it on a subset or with weights, take its `features`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from whence.errors import InputError
from whence.study._random import fork
from whence.training.data import Resident
from whence.training.loop import train_one
from whence.training.reproducible import reproducible
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.study.study import Study

ENCODED = 256  # examples at once


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
    with fork():
        model = trainer.recipe.model().to(trainer.device)
    final = {**state.parameters, **state.buffers}
    with torch.no_grad():  # by name, for tied weights and non-persistent buffers are no part of a state_dict
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            tensor.copy_(final[name])
    return model.eval()


def features(
    study: Study, seed: int = 0, device: str | None = None, layer: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Features of one network trained on everything, flattened.

    Parameters
    ----------
    layer : name of the module whose output they are (as in ``named_modules``); by default they are the inputs
        of the last linear layer, the penultimate features

    Returns
    -------
    float32 arrays ``(n, d)`` for the training examples and ``(targets, d)`` for the targets.
    """
    if layer is not None:
        names = [name for name, _ in _recipe_trainer(study, device).model.named_modules() if name]
        if layer not in names:
            raise InputError(f"layer is {layer!r}, but the network has the layers {', '.join(names)}.")
    model = train(study, seed=seed, device=device)
    if layer is not None:
        return encode(study, model, model.get_submodule(layer))
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            "the network has no torch.nn.Linear layer, so it has no penultimate features; pass features "
            "of your own instead."
        )
    return encode(study, model, linear[-1], inputs=True)


def encode(
    study: Study, model: nn.Module, layer: nn.Module | None = None, *, inputs: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """What `model` (or a layer in it) gives for the examples, flattened: float32 (n, d) and (targets, d).

    Parameters
    ----------
    model : used in evaluation mode, on the device where it is; gets inputs as the study's network does
    layer : the module within it whose output is taken, or whose input with ``inputs=True``
    """
    caught: list[Any] = []
    handle = None
    if layer is not None:
        handle = layer.register_forward_hook(lambda _, given, out: caught.append(given[0] if inputs else out))
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training, found = model.training, []
    model.eval()
    try:
        with torch.no_grad(), reproducible(device):
            for examples in (study.train, study.targets):
                data = Resident(examples, study.train, device)
                parts = []
                for start in range(0, len(examples), ENCODED):
                    x = data.inputs(slice(start, start + ENCODED))
                    caught.clear()
                    out = model(x)
                    parts.append(_flat(caught[-1] if layer is not None else out, len(x)))
                found.append(torch.cat(parts).numpy())
    finally:
        model.train(training)
        if handle is not None:
            handle.remove()
    return found[0], found[1]


def _flat(out: Any, count: int) -> torch.Tensor:
    if not isinstance(out, torch.Tensor) or out.ndim < 1 or len(out) != count:
        received = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise InputError(
            f"an encoder must return a tensor with one row for each of its {count} inputs, received "
            f"{received}."
        )
    return out.reshape(count, -1).float().cpu()


def _recipe_trainer(study: Study, device: str | None) -> RecipeTrainer:
    trainer = study.trainer(device)
    if not isinstance(trainer, RecipeTrainer):
        raise InputError(
            f"this needs a study with a Recipe, received {study!r}; its way of training is not known to the "
            "engine."
        )
    return trainer
