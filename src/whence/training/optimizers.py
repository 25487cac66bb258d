"""The optimisers as pure functions ``(parameters, gradients, moments, lr, t) -> (parameters, moments)``.

They work on dictionaries of tensors, under `torch.func` transforms, and never write in place.
"""

from __future__ import annotations

import math

import torch

from whence.study.recipe import SGD, Adam, AdamW

Tensors = dict[str, torch.Tensor]
Rate = float | torch.Tensor


def initial_moments(optimizer: SGD | Adam, parameters: Tensors) -> dict[str, Tensors]:
    """The optimiser's buffers before the first step, all zero."""
    names = (
        (("momentum",) if optimizer.momentum else ()) if isinstance(optimizer, SGD) else ("mean", "square")
    )
    return {name: {key: torch.zeros_like(value) for key, value in parameters.items()} for name in names}


def update(
    optimizer: SGD | Adam,
    parameters: Tensors,
    gradients: Tensors,
    moments: dict[str, Tensors],
    lr: Rate,
    t: torch.Tensor,
) -> tuple[Tensors, dict[str, Tensors]]:
    """One optimiser step at learning rate `lr`; `t` is the number of the step, from 1."""
    if isinstance(optimizer, SGD):
        return _sgd(optimizer, parameters, gradients, moments, lr)
    return _adam(optimizer, parameters, gradients, moments, lr, t)


def _sgd(
    optimizer: SGD, parameters: Tensors, gradients: Tensors, moments: dict[str, Tensors], lr: Rate
) -> tuple[Tensors, dict[str, Tensors]]:
    new, buffers = {}, {}
    for key, w in parameters.items():
        g = gradients[key]
        if optimizer.weight_decay:
            g = torch.add(g, w, alpha=optimizer.weight_decay)
        if optimizer.momentum:
            # torch starts the buffer at the first gradient; zeros give the same first step.
            buffers[key] = torch.add(g, moments["momentum"][key], alpha=optimizer.momentum)
            g = torch.add(g, buffers[key], alpha=optimizer.momentum) if optimizer.nesterov else buffers[key]
        new[key] = _descend(w, g, lr)
    return new, {"momentum": buffers} if optimizer.momentum else {}


def _descend(w: torch.Tensor, g: torch.Tensor, lr: Rate) -> torch.Tensor:
    """``w - lr * g`` in one pass over memory."""
    return torch.addcmul(w, g, lr, value=-1) if isinstance(lr, torch.Tensor) else torch.add(w, g, alpha=-lr)


def _adam(
    optimizer: Adam,
    parameters: Tensors,
    gradients: Tensors,
    moments: dict[str, Tensors],
    lr: Rate,
    t: torch.Tensor,
) -> tuple[Tensors, dict[str, Tensors]]:
    beta1, beta2 = optimizer.betas
    decoupled = isinstance(optimizer, AdamW)
    correct1, correct2 = _one_minus_power(beta1, t), _one_minus_power(beta2, t)
    new: Tensors = {}
    mean: Tensors = {}
    square: Tensors = {}
    for key, w in parameters.items():
        g = gradients[key] if decoupled else gradients[key] + optimizer.weight_decay * w
        mean[key] = beta1 * moments["mean"][key] + (1 - beta1) * g
        square[key] = beta2 * moments["square"][key] + (1 - beta2) * g * g
        step = (mean[key] / correct1) / (
            torch.sqrt(square[key] / correct2 + optimizer.eps_root) + optimizer.eps
        )
        new[key] = w - lr * (step + optimizer.weight_decay * w if decoupled else step)
    return new, {"mean": mean, "square": square}


def _one_minus_power(beta: float, t: torch.Tensor) -> torch.Tensor:
    """``1 - beta ** t``, which in float32 would lose its digits to cancellation for beta near 1."""
    return -torch.expm1(t * math.log(beta)) if beta else torch.ones_like(t)
