"""How a layer's per-example gradients follow from its inputs and the gradients at its outputs.

A layer that multiplies by a weight keeps the two as factors (`pieces.Outer`); normalisation layers have a
closed form; any other layer is differentiated by itself, example by example.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from whence.methods.gradients.pieces import Flat, Outer, Piece, Tensors, wide

Call = tuple[torch.Tensor, torch.Tensor]  # inputs of one call, gradients at its outputs
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def has_rule(layer: nn.Module) -> bool:
    """Whether this layer is one of those with structure or a closed form."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.track_running_stats
    # a subclass may compute something else in its forward
    return type(layer) is nn.Linear or _is_turned(layer) or isinstance(layer, _NORMS)


def is_small(layer: nn.Module) -> bool:
    """Whether this layer may be differentiated by itself: it holds no other layers and no state of its
    batch."""
    mixing = isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.RNNBase)
    return not mixing and next(layer.children(), None) is None


def _is_turned(layer: nn.Module) -> bool:
    """Hugging Face's linear layer of GPT-2, whose weight is (in, out)."""
    kind = type(layer)
    return (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D")


def piece_of(name: str, layer: nn.Module, names: dict[int, str], calls: list[Call], count: int) -> Piece:
    """Gradients of `count` examples by a layer's parameters, summed over its calls.

    Parameters
    ----------
    names : parameter id -> name in the network
    calls : (b, ...) inputs and gradients, in no half precision; none where the output does not depend on it
    """
    named = [(names[id(p)], p) for p in layer.parameters(recurse=False)]
    keys, shapes = tuple(k for k, _ in named), tuple(p.shape for _, p in named)
    if not calls:
        size = sum(shape.numel() for shape in shapes)
        return Flat(name, torch.zeros(count, size, device=named[0][1].device), keys, shapes)
    if not has_rule(layer):
        return Flat(name, _sum([_alone(layer, a, b) for a, b in calls]), keys, shapes)
    if isinstance(layer, _NORMS):
        return Flat(name, _sum([_norm(layer, a, b) for a, b in calls]), keys, shapes)
    pairs = [_pair(layer, a, b) for a, b in calls]
    a, b = (torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))
    if isinstance(layer, nn.Embedding):
        if layer.padding_idx is not None:
            b = b * (a != layer.padding_idx)[..., None]
        return Outer(name, a, b, layer.num_embeddings, keys, shapes, turned=True)
    if len(keys) > 1:
        a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], dim=2)
    return Outer(name, a, b, a.shape[2], keys, shapes, turned=_is_turned(layer))


def _sum(parts: list[torch.Tensor]) -> torch.Tensor:
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _pair(layer: nn.Module, a: torch.Tensor, b: torch.Tensor) -> Call:
    """Inputs (b, l, in) and output gradients (b, l, out) of one call."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        flat = isinstance(layer, nn.Conv1d)
        kernel, dilation, padding, stride = (
            ((1 if what != "padding" else 0), *getattr(layer, what)) if flat else getattr(layer, what)
            for what in ("kernel_size", "dilation", "padding", "stride")
        )
        patches = F.unfold(a[:, :, None] if flat else a, kernel, dilation, padding, stride)
        return patches.transpose(1, 2), b.flatten(2).transpose(1, 2)
    if isinstance(layer, nn.Embedding):
        return a.reshape(len(a), -1), b.reshape(len(b), -1, b.shape[-1])
    return a.reshape(len(a), -1, a.shape[-1]), b.reshape(len(b), -1, b.shape[-1])


def _norm(layer: nn.Module, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(b, weight and bias): sums over positions of gradient times normalised input, and of gradient."""
    if isinstance(layer, nn.LayerNorm):
        normal = F.layer_norm(a, layer.normalized_shape, None, None, layer.eps)
        keep = a.ndim - len(layer.normalized_shape)
        middle = tuple(range(1, keep))

        def over(t: torch.Tensor) -> torch.Tensor:
            return (t.sum(middle) if middle else t).flatten(1)
    else:
        if isinstance(layer, nn.GroupNorm):
            normal = F.group_norm(a, layer.num_groups, None, None, layer.eps)
        else:
            assert isinstance(layer, nn.modules.batchnorm._BatchNorm)
            assert layer.running_mean is not None and layer.running_var is not None
            wide = (-1, *[1] * (a.ndim - 2))
            normal = (a - layer.running_mean.view(wide)) / (layer.running_var.view(wide) + layer.eps).sqrt()

        def over(t: torch.Tensor) -> torch.Tensor:
            return t.flatten(2).sum(2) if t.ndim > 2 else t

    parts = [over(b * normal)]
    if getattr(layer, "bias", None) is not None:
        parts.append(over(b))
    return torch.cat(parts, dim=1)


def _alone(layer: nn.Module, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(b, p) of a layer without a rule: its own derivative, one example at a time."""
    parameters: Tensors = {k: wide(p.detach()) for k, p in layer.named_parameters(recurse=False)}
    buffers = {k: v.detach() for k, v in layer.named_buffers(recurse=False)}

    def one(x: torch.Tensor, g: torch.Tensor) -> Tensors:
        def value(moving: Tensors) -> torch.Tensor:
            made = torch.func.functional_call(layer, {**buffers, **moving}, (x[None],))
            return (made[0] * g).sum()

        return torch.func.grad(value)(parameters)

    found: Any = torch.func.vmap(one)(a, b)
    return torch.cat([found[k].flatten(1) for k in parameters], dim=1)
