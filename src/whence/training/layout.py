"""The memory layout of gradients in convolutional networks."""

from __future__ import annotations

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
