"""Dot products of per-example gradients, exact and without forming the gradients of dense layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Flat, Outer, Piece, join

if TYPE_CHECKING:
    from whence.training.data import OnDemand, Resident

_BATCH = 512


def pieces_of(
    network: Network, data: OnDemand | Resident, scalar: Scalar, batch: int = _BATCH
) -> list[Piece]:
    """Per-example gradients of all of `data`. Layers applied to many positions (convolutions) are formed
    where that takes less room. InputError where one is not finite."""
    found = []
    for part, x, y in network.batches(data, batch):
        found.append([_compact(piece) for piece in gradients(network, x, y, scalar)])
        for piece in found[-1]:
            network.require_finite(data, part.start, piece.b if isinstance(piece, Outer) else piece.g)
    return join(found)


def _compact(piece: Piece) -> Piece:
    if isinstance(piece, Outer) and piece.b.shape[1] > 1:
        kept = piece.b.shape[1] * (piece.b.shape[2] + (piece.wide if piece.a.is_floating_point() else 1))
        if piece.size < kept:
            return Flat(piece.name, piece.flat(), piece.keys, piece.shapes)
    return piece


def dots(left: list[Piece], right: list[Piece]) -> torch.Tensor:
    """(b, b') dot products of the gradients in `left` with those in `right`, summed over layers."""
    total: torch.Tensor | float = 0.0
    for one, other in zip(left, right, strict=True):
        if isinstance(one, Outer) and isinstance(other, Outer) and one.b.shape[1] == other.b.shape[1] == 1:
            # <b a', b' a''> = <a, a''> <b, b'>
            part = one.b[:, 0] @ other.b[:, 0].T
            part *= (
                one.a[:, 0] @ other.a[:, 0].T
                if one.a.is_floating_point()
                else one.a == other.a.reshape(1, -1)
            )
        else:
            part = one.flat() @ other.flat().T
        total = total + part
    assert isinstance(total, torch.Tensor)
    return total


def squares(pieces: list[Piece]) -> torch.Tensor:
    """(b,) squared norms of the gradients."""
    total: torch.Tensor | float = 0.0
    for piece in pieces:
        if isinstance(piece, Outer) and piece.b.shape[1] == 1:
            wide = piece.a[:, 0].square().sum(1) if piece.a.is_floating_point() else 1.0
            total = total + piece.b[:, 0].square().sum(1) * wide
        else:
            total = total + piece.flat().square().sum(1)
    assert isinstance(total, torch.Tensor)
    return total
