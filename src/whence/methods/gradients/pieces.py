"""Pieces: the gradients of some examples at one layer, as a pair of factors or formed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]


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
    turned : the parameter is the weight's transpose, (in, out)
    """

    name: str
    a: torch.Tensor
    b: torch.Tensor
    wide: int
    keys: tuple[str, ...]
    shapes: tuple[torch.Size, ...]
    turned: bool = False

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
        found = {}
        if len(self.keys) > 1:
            found[self.keys[1]] = grads[..., -1]
            grads = grads[..., :-1]
        if self.turned:
            grads = grads.transpose(1, 2)
        return {self.keys[0]: grads.reshape(-1, *self.shapes[0]), **found}

    def weights(self, parameters: Tensors) -> torch.Tensor:
        """The layer's weights themselves, laid out as `flat` lays out their gradients: (p,)."""
        weight, *bias = (parameters[key] for key in self.keys)
        rows = weight.T if self.turned else weight.reshape(self.b.shape[-1], -1)
        return torch.cat([rows, *(one[:, None] for one in bias)], 1).flatten()


@dataclass
class Flat:
    """Gradients already formed, g (b, p): of layers without such structure."""

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

    def weights(self, parameters: Tensors) -> torch.Tensor:
        """The layer's weights themselves, laid out as `flat` lays out their gradients: (p,)."""
        return torch.cat([parameters[key].flatten() for key in self.keys])


Piece = Outer | Flat


def together(pieces: list[Piece]) -> Flat:
    """The pieces of layers that share parameters as one, each parameter's gradients added up."""
    total: Tensors = {}
    shapes: dict[str, torch.Size] = {}
    for piece in pieces:
        shapes |= dict(zip(piece.keys, piece.shapes, strict=True))
        for key, g in piece.parameters().items():
            total[key] = total[key] + g if key in total else g
    name = " + ".join(piece.name for piece in pieces)
    return Flat(
        name,
        torch.cat([g.flatten(1) for g in total.values()], 1),
        tuple(total),
        tuple(shapes[k] for k in total),
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
    return Outer(first.name, both[0], both[1], first.wide, first.keys, first.shapes, first.turned)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """In float32 if it is in half precision."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
