"""Random projections of per-example gradients that keep dot products in the mean.

A layer's gradient sum_l b_l a_l' is projected from both sides, (P b)(Q a)', and never formed (as in LoGra,
Choe et al. 2024); what has no such structure meets a dense Gaussian matrix. A side no wider than its share is
kept as it is. Layers are projected independently and added, so cross terms vanish in the mean.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import torch

from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Flat, Outer, Piece

if TYPE_CHECKING:
    from whence.training.data import Resident

_CHUNK = 2048  # rows of a dense projection drawn at a time


class Projection:
    """A projection to `size` dimensions, the same for every batch: drawn from `seed` and the layers' names.

    E<P g, P h> = <g, h>.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.seed = seed
        self._drawn: dict[tuple[str, str], torch.Tensor] = {}

    def __call__(self, pieces: list[Piece]) -> torch.Tensor:
        """(b, size) of the gradients of b examples."""
        return torch.stack([self._project(piece) for piece in pieces]).sum(0)

    @property
    def bytes(self) -> int:
        """Memory of the matrices drawn so far."""
        return sum(matrix.numel() * matrix.element_size() for matrix in self._drawn.values())

    def _project(self, piece: Piece) -> torch.Tensor:
        if isinstance(piece, Flat):
            return self._dense(piece.name, piece.flat())
        left, right = self._sides(piece)
        b = piece.b if left is None else piece.b @ left
        if right is None:
            a = piece.dense()
        else:  # an embedding's one-hot inputs only pick rows
            a = piece.a @ right if piece.a.is_floating_point() else right[piece.a]
        small = torch.einsum("blo,bli->boi", b, a).flatten(1)
        if small.shape[1] == self.size:
            # dimensions are shuffled and signed, so that layers added up do not line up
            return self._scatter(piece.name, small)
        return self._dense(piece.name, small)

    def _sides(self, piece: Outer) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        out, inside = piece.b.shape[-1], piece.wide
        if out * inside <= self.size:
            return None, None
        left = min(out, math.isqrt(self.size))
        while self.size % left:
            left -= 1
        right = self.size // left
        if right > inside:  # a narrow input: it is kept, the output takes what is left
            right = inside
            left = min(out, max(1, self.size // right))
        return (
            None if left >= out else self._matrix(piece.name, "out", out, left, piece.b),
            None if right >= inside else self._matrix(piece.name, "in", inside, right, piece.b),
        )

    def _matrix(self, name: str, side: str, wide: int, narrow: int, like: torch.Tensor) -> torch.Tensor:
        key = (name, side)
        if key not in self._drawn:
            draw = torch.randn(wide, narrow, generator=self._generator(name, side)) / narrow**0.5
            self._drawn[key] = draw.to(like)
        return self._drawn[key]

    def _scatter(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        generator = self._generator(name, "scatter")
        order = torch.randperm(self.size, generator=generator).to(rows.device)
        sign = (torch.randint(0, 2, (self.size,), generator=generator) * 2 - 1).to(rows)
        return rows[:, order] * sign

    def _dense(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """Gaussian projection, its matrix drawn a chunk at a time: it may be larger than the gradients."""
        generator = self._generator(name, "dense")
        total = rows.new_zeros(len(rows), self.size)
        keep = rows.shape[1] * self.size <= 20_000_000
        if keep and (name, "dense") in self._drawn:
            return rows @ self._drawn[name, "dense"]
        drawn = []
        for start in range(0, rows.shape[1], _CHUNK):
            part = rows[:, start : start + _CHUNK]
            matrix = torch.randn(part.shape[1], self.size, generator=generator).to(rows) / self.size**0.5
            total += part @ matrix
            if keep:
                drawn.append(matrix)
        if keep:
            self._drawn[name, "dense"] = torch.cat(drawn)
        return total

    def _generator(self, name: str, side: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}/{side}".encode()))


def project(
    network: Network, data: Resident, scalar: Scalar, projection: Projection, batch: int = 256
) -> torch.Tensor:
    """Projected gradients (examples, size) of all of `data`, float32."""
    rows = [projection(gradients(network, x, y, scalar)) for _, x, y in network.batches(data, batch)]
    return torch.cat(rows)
