"""What makes convolutional networks faster without changing a number: the memory layout of gradients, and the
order of layers."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

LAST = torch.channels_last


def flattening(model: nn.Module) -> list[nn.Module]:
    """The `torch.nn.Flatten` layers of `model`, none if it has no 2d convolution."""
    if not any(isinstance(layer, nn.Conv2d) for layer in model.modules()):
        return []
    return [layer for layer in model.modules() if isinstance(layer, nn.Flatten)]


@contextmanager
def channels_last_gradients(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Within this context the gradient of an input of `layers` ``(b, c, h, w)`` is channels-last if the input
    is.

    Flattening hands back a gradient with channels first, so that everything before it would work on the two
    layouts mixed, a slow path of torch. Values are untouched.
    """
    handles = [layer.register_forward_pre_hook(_keep) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
    x = inputs[0] if inputs else None
    if isinstance(x, torch.Tensor) and x.ndim == 4 and x.requires_grad and _last(x):
        x.register_hook(_to_last)


def _last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=LAST) and not x.is_contiguous()


def _to_last(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # `vmap` knows no memory formats


def pooling_first(model: nn.Module) -> nn.Module:
    """`model` with max pooling before ReLU where an `nn.Sequential` has it right after.

    ReLU is monotone, so outputs and gradients stay the same to the bit, and it has fewer values to go over
    (a tenth of the time of a step of a small conv net on a CPU). Only sequences of sequences are looked into,
    of which it is known what they do with their layers. All parameters are shared with `model`, which is left
    alone.
    """
    if type(model) is not nn.Sequential or _hooked(model):
        return model
    layers = [pooling_first(layer) for layer in model]
    for i, (layer, following) in enumerate(itertools.pairwise(layers)):
        pools = type(following) in _POOLS and not following.return_indices
        if type(layer) is nn.ReLU and pools and not (_hooked(layer) or _hooked(following)):
            layers[i : i + 2] = following, layer
    if all(one is other for one, other in zip(layers, model, strict=True)):
        return model
    changed = copy.copy(model)
    changed._modules = dict(zip(model._modules, layers, strict=True))
    return changed


_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def _hooked(layer: nn.Module) -> bool:
    return any(value for name, value in vars(layer).items() if name.endswith("_hooks"))
