"""Random projections of per-example gradients that keep dot products in the mean.

A layer's gradient sum_l b_il a_il' is shrunk from both sides, (P b)(Q a)', with random signs (as in LoGra,
Choe et al. 2024), and never formed; a side no wider than its share is kept as it is. What comes out, up to
`EXPANSION` times as long as wanted, is added up with random signs in random places (count sketch, Charikar et
al. 2002), as are gradients without such structure. Layers are projected independently and added, so cross
terms vanish in the mean.

Why two steps: two sides that come straight down to k = r s dimensions err by about sqrt(1/r + 1/s) of the
gradients' norms, a sum with random signs by sqrt(1/k). Why no dense matrix: the sum errs no more than a
Gaussian one, takes a fraction of the time, and needs two numbers a weight instead of k.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import torch

from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer, Piece

if TYPE_CHECKING:
    from whence.training.data import OnDemand, Resident

EXPANSION = 4


class Projection:
    """A projection to `size` dimensions, the same for every batch: drawn from `seed` and the layers' names.

    E<P g, P h> = <g, h>.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self.seed = seed
        self._drawn: dict[tuple[str, str], tuple[torch.Tensor, ...]] = {}

    def __call__(self, pieces: list[Piece]) -> torch.Tensor:
        """(b, size) of the gradients of b examples."""
        total: torch.Tensor | None = None
        for piece in pieces:
            rows = self._shrunk(piece) if isinstance(piece, Outer) else piece.flat()
            if total is None:
                total = rows.new_zeros(self.size, len(rows))
            self._add(piece.name, rows, total)
        assert total is not None
        return total.T.contiguous()

    @property
    def bytes(self) -> int:
        """Memory of what was drawn so far."""
        return sum(t.numel() * t.element_size() for drawn in self._drawn.values() for t in drawn)

    def sides(self, piece: Outer) -> tuple[int, int]:
        """The widths that a layer's outputs and inputs are shrunk to."""
        out, inside, room = piece.b.shape[-1], piece.wide, EXPANSION * self.size
        if out * inside <= room:
            return out, inside
        left = min(out, math.isqrt(room))
        right = min(inside, room // left)
        return min(out, room // right), right

    def _shrunk(self, piece: Outer) -> torch.Tensor:
        left, right = self.sides(piece)
        a, b = piece.a, piece.b
        if left < b.shape[-1]:
            b = b @ self._signs(piece.name, "out", b.shape[-1], left, b)
        if right < piece.wide:
            matrix = self._signs(piece.name, "in", piece.wide, right, b)
            a = a @ matrix if a.is_floating_point() else matrix[a]  # one-hot inputs only pick rows
        elif not a.is_floating_point():
            return Outer(piece.name, a, b, piece.wide, (), ()).flat()
        return torch.einsum("blo,bli->boi", b, a).flatten(1)

    def _signs(self, name: str, side: str, wide: int, narrow: int, like: torch.Tensor) -> torch.Tensor:
        key = (name, side)
        if key not in self._drawn:
            draw = torch.randint(0, 2, (wide, narrow), generator=self._generator(name, side))
            self._drawn[key] = (((draw * 2 - 1) / narrow**0.5).to(like),)
        return self._drawn[key][0]

    def _add(self, name: str, rows: torch.Tensor, total: torch.Tensor) -> None:
        """Add rows (b, p) into `total` (size, b), each number with its sign and in its place; no place gets
        two more than another."""
        key, wide = (name, "places"), rows.shape[1]
        if key not in self._drawn:
            generator = self._generator(name, "places")
            places = torch.randperm(-(-wide // self.size) * self.size, generator=generator)[:wide] % self.size
            signs = torch.randint(0, 2, (wide, 1), generator=generator, dtype=torch.int8) * 2 - 1
            self._drawn[key] = places.to(rows.device), signs.to(rows.device)
        places, signs = self._drawn[key]
        # whole rows are added this way around, many times faster than single numbers
        total.index_add_(0, places, rows.T * signs)

    def _generator(self, name: str, side: str) -> torch.Generator:
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}/{side}".encode()))


def project(
    network: Network, data: OnDemand | Resident, scalar: Scalar, projection: Projection, batch: int = 256
) -> torch.Tensor:
    """Projected gradients (examples, size) of all of `data`, float32; InputError where one is not finite."""
    found: torch.Tensor | None = None
    for part, x, y in network.batches(data, batch):
        rows = projection(gradients(network, x, y, scalar))
        network.require_finite(data, part.start, rows)
        if found is None:
            found = rows.new_empty(len(data.y), rows.shape[1])
        found[part] = rows
    assert found is not None
    return found
