"""Per-example gradients layer by layer, from one forward and one backward pass of a batch.

For a layer with weight W that maps a to W a, the gradient of example i is sum_l b_il a_il', with b the
gradient at the layer's output and l the positions it is applied to (tokens, pixels, several calls). Kept as
the pair (a, b), it can be projected or multiplied with another example's without ever being formed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from whence.errors import InputError
from whence.methods.gradients.network import Network, Tensors

Scalar = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits (b, c), labels (b,) -> (b,)
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


@dataclass
class Outer:
    """Gradients sum_l b_il a_il' of a weight (out, in), its bias as a last column.

    Attributes
    ----------
    name : of the layer
    a : (b, l, in[+1]) inputs, or int64 (b, l) of an embedding: the one-hot inputs of width `wide`
    b : (b, l, out) gradients at the outputs
    wide : in, the bias's 1 included
    keys : parameter names: the weight's, then the bias's if there is one
    shapes : of these parameters
    """

    name: str
    a: torch.Tensor
    b: torch.Tensor
    wide: int
    keys: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.wide * self.b.shape[-1]

    def flat(self) -> torch.Tensor:
        """(b, out * in), row by row of the weight."""
        if not self.a.is_floating_point():  # rows are added where the tokens are, no one-hot inputs made
            out = self.b.shape[-1]
            total = self.b.new_zeros(len(self.a), self.wide, out)
            total.scatter_add_(1, self.a[..., None].expand(-1, -1, out), self.b)
            return total.transpose(1, 2).flatten(1)
        return torch.einsum("blo,bli->boi", self.b, self.dense()).flatten(1)

    def dense(self) -> torch.Tensor:
        """a as numbers (b, l, in)."""
        return self.a if self.a.is_floating_point() else F.one_hot(self.a, self.wide).to(self.b)

    def parameters(self) -> Tensors:
        """Gradients (b, *shape) by parameter name."""
        grads = self.flat().unflatten(1, (self.b.shape[-1], self.wide))
        if self.a.is_floating_point():
            inside = self.shapes[0][1:].numel()
            found = {self.keys[0]: grads[..., :inside].reshape(-1, *self.shapes[0])}
            if len(self.keys) > 1:
                found[self.keys[1]] = grads[..., inside]
            return found
        return {self.keys[0]: grads.transpose(1, 2)}  # an embedding's weight is (tokens, width)


@dataclass
class Flat:
    """Gradients already formed, g (b, p): of normalisation layers and of parameters of other modules."""

    name: str
    g: torch.Tensor
    keys: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.g.shape[1]

    def flat(self) -> torch.Tensor:
        """(b, p)."""
        return self.g

    def parameters(self) -> Tensors:
        """Gradients (b, *shape) by parameter name."""
        parts = self.g.split([shape.numel() for shape in self.shapes], dim=1)
        return {k: g.reshape(-1, *s) for k, g, s in zip(self.keys, parts, self.shapes, strict=True)}


Piece = Outer | Flat


def gradients(network: Network, x: torch.Tensor, y: torch.Tensor, scalar: Scalar) -> list[Piece]:
    """Gradients of ``scalar(logits, y)`` (b,), example by example, at the network's weights.

    Layers come in the order of the network; what no layer's rule covers (other modules' own parameters,
    weights shared between layers) comes last, by `torch.func`.

    Raises
    ------
    InputError : the network writes over what its gradient needs, or returns no plain logits.
    """
    covered, rest = _split(network.module)
    calls: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {name: [] for name in covered}
    with ExitStack() as stack, torch.enable_grad():
        for name, layer in covered.items():
            stack.callback(layer.register_forward_hook(_catch(calls[name])).remove)
        try:
            logits = network.module(x)
            values = scalar(logits, y)
            outputs = [output for made in calls.values() for _, output in made]
            found = torch.autograd.grad(values.sum(), outputs, allow_unused=True) if outputs else ()
        except RuntimeError as problem:
            if "inplace" in str(problem) or "in-place" in str(problem):
                raise InputError(
                    "the network overwrites a value that its gradient needs (an in-place operation such as "
                    "ReLU(inplace=True) or +=); use the out-of-place form."
                ) from problem
            raise
    grads = iter(found)
    pieces: list[Piece] = []
    for name, layer in covered.items():
        made = [(a, next(grads)) for a, _ in calls[name]]
        made = [(a, b) for a, b in made if b is not None]
        if made:
            pieces += _piece(name, layer, made)
        else:  # a layer that the output does not depend on
            pieces.append(_nothing(name, layer, len(x)))
    if rest:
        pieces.append(_by_func(network, rest, x, y, scalar))
    return pieces


def _split(module: nn.Module) -> tuple[dict[str, nn.Module], list[str]]:
    """Layers with a rule, and the names of trained parameters that none of them owns alone."""
    owners: dict[int, int] = {}
    for layer in module.modules():
        for p in layer.parameters(recurse=False):
            owners[id(p)] = owners.get(id(p), 0) + 1
    covered = {}
    for name, layer in module.named_modules():
        own = list(layer.parameters(recurse=False))
        if own and _has_rule(layer) and all(owners[id(p)] == 1 and p.requires_grad for p in own):
            covered[name] = layer
    known = {id(p) for layer in covered.values() for p in layer.parameters(recurse=False)}
    return covered, [k for k, p in module.named_parameters() if p.requires_grad and id(p) not in known]


def _has_rule(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        return layer.track_running_stats
    # a subclass may compute something else in its forward
    return type(layer) is nn.Linear or isinstance(layer, _NORMS)


def _catch(calls: list[tuple[torch.Tensor, torch.Tensor]]) -> Callable[..., torch.Tensor]:
    def hook(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        calls.append((inputs[0].detach(), output))
        return output.clone()  # an in-place activation behind the layer writes into the copy

    return hook


def _piece(name: str, layer: nn.Module, made: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Piece]:
    named = [(f"{name}.{k}" if name else k, p) for k, p in layer.named_parameters(recurse=False)]
    keys, shapes = tuple(k for k, _ in named), tuple(p.shape for _, p in named)
    if isinstance(layer, _NORMS):
        total = sum(_norm(layer, a, b) for a, b in made)
        assert isinstance(total, torch.Tensor)
        return [Flat(name, total, keys, shapes)]
    pairs = [_pair(layer, a, b) for a, b in made]
    a, b = (torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True))
    if isinstance(layer, nn.Embedding):
        if layer.padding_idx is not None:
            b = b * (a != layer.padding_idx)[..., None]
        return [Outer(name, a, b, layer.num_embeddings, keys, shapes)]
    if len(keys) > 1:
        a = torch.cat([a, a.new_ones(*a.shape[:2], 1)], dim=2)
    return [Outer(name, a, b, a.shape[2], keys, shapes)]


def _pair(layer: nn.Module, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
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


def _nothing(name: str, layer: nn.Module, count: int) -> Flat:
    named = [(f"{name}.{k}" if name else k, p) for k, p in layer.named_parameters(recurse=False)]
    size = sum(p.numel() for _, p in named)
    zero = named[0][1].new_zeros(count, size)
    return Flat(name, zero, tuple(k for k, _ in named), tuple(p.shape for _, p in named))


def _by_func(network: Network, keys: list[str], x: torch.Tensor, y: torch.Tensor, scalar: Scalar) -> Flat:
    fixed = {k: v for k, v in network.parameters.items() if k not in keys}

    def one(moving: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return scalar(network.logits({**fixed, **moving}, x[None]), y[None])[0]

    moving = {k: network.parameters[k] for k in keys}
    try:
        grads = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(moving, x, y)
    except RuntimeError as problem:
        raise InputError(
            f"the gradient of {keys[0]} cannot be taken example by example: {str(problem).splitlines()[0]}"
        ) from problem
    return Flat(
        "others",
        torch.cat([grads[k].flatten(1) for k in keys], dim=1),
        tuple(keys),
        tuple(network.parameters[k].shape for k in keys),
    )


def join(batches: list[list[Piece]]) -> list[Piece]:
    """The pieces of several batches as those of one; positions are filled up with zeros where they differ."""
    return [_join(list(parts)) for parts in zip(*batches, strict=True)]


def _join(parts: list[Piece]) -> Piece:
    first = parts[0]
    if isinstance(first, Flat):
        g = torch.cat([p.flat() for p in parts])
        return Flat(first.name, g, first.keys, first.shapes)
    outers = [p for p in parts if isinstance(p, Outer)]
    longest = max(p.a.shape[1] for p in outers)
    both: list[torch.Tensor] = []
    for which in ("a", "b"):
        tensors = [getattr(p, which) for p in outers]
        padded = [torch.cat([t, t.new_zeros(len(t), longest - t.shape[1], *t.shape[2:])], 1) for t in tensors]
        both.append(torch.cat(padded))
    return Outer(first.name, both[0], both[1], first.wide, first.keys, first.shapes)


def count(pieces: list[Piece]) -> int:
    """Number of parameters of all pieces."""
    return sum(itertools.chain(piece.size for piece in pieces))
