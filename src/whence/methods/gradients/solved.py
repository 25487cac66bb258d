"""Targets' gradients times an inverse curvature, ready to meet those of training examples."""

from __future__ import annotations

from typing import Protocol

import torch

from whence.methods.gradients.pieces import Outer, Piece

_RELATIVE = 1e-4  # error of a separated inverse, relative to its norm, where gradients are
_LARGEST = 2048  # a singular value decomposition beyond this side costs more than it saves


class Solved(Protocol):
    """One layer's gradients of t targets, multiplied by the inverse of its curvature."""

    def products(self, piece: Piece) -> torch.Tensor:
        """Inner products (t, b) with the gradients of b training examples."""

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """Inner products (t,) with one vector (p,) in the layout of `Piece.flat`."""


class Whole:
    """Formed: rows (t, p)."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def products(self, piece: Piece) -> torch.Tensor:
        """Inner products (t, b)."""
        return self.rows @ piece.flat().T

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """Inner products (t,)."""
        return self.rows @ vector


class Rotation(Protocol):
    """What `kfac.Kronecker` is to this module."""

    a: torch.Tensor | None
    b: torch.Tensor

    def rotate(self, piece: Outer) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and output gradients in the eigenvectors' coordinates."""


class Separable:
    """Not formed: the gradient of an example at one position is an outer product, b a'. Where the inverse
    eigenvalues are a short sum of outer products u v', so is the solution, and an inner product of two
    examples is ``sum_r (b' (u_r * b2)) (a' (v_r * a2))``: in + out multiplications each instead of in * out.
    """

    def __init__(
        self,
        basis: Rotation,
        a: torch.Tensor,
        b: torch.Tensor,
        u: torch.Tensor,
        v: torch.Tensor,
        inverse: torch.Tensor,
    ) -> None:
        self.basis, self.a, self.b, self.u, self.v, self.inverse = basis, a, b, u, v, inverse

    def products(self, piece: Piece) -> torch.Tensor:
        """Inner products (t, b)."""
        assert isinstance(piece, Outer)
        a, b = self.basis.rotate(piece)
        a, b = a[:, 0].T.contiguous(), b[:, 0].T.contiguous()
        total = torch.zeros(len(self.a), a.shape[1], dtype=a.dtype, device=a.device)
        for u, v in zip(self.u, self.v, strict=True):
            total.addcmul_((self.b * u) @ b, (self.a * v) @ a)
        return total

    def product(self, vector: torch.Tensor) -> torch.Tensor:
        """Inner products (t,)."""
        assert self.basis.a is not None
        rotated = self.basis.b.T @ vector.view_as(self.inverse) @ self.basis.a
        return ((self.b @ (self.inverse * rotated)) * self.a).sum(1)


def separate(inverse: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """u (r, out) and v (r, in) with sum_r u_r v_r' equal to `inverse` (out, in) to rounding; None where so
    many terms are needed that forming gradients is cheaper.

    The error is small where gradients are large: entries count by the root mean squares of rows and columns
    of `values`.
    """
    if max(inverse.shape) > _LARGEST:
        return None
    rows, columns = (values.mean(1 - d).sqrt().double() for d in (0, 1))
    rows, columns = (side.clamp_min(1e-4 * float(side.max()) + 1e-30) for side in (rows, columns))
    left, middle, right = torch.linalg.svd(rows[:, None] * inverse.double() * columns, full_matrices=False)
    tail = middle.square().flip(0).cumsum(0).flip(0).sqrt()  # what is lost by stopping before each term
    rank = int((tail > _RELATIVE * tail[0]).sum())
    # Products with few rows run at half the speed of one large product.
    if 2 * rank * sum(inverse.shape) > inverse.numel():
        return None
    u = (left[:, :rank] * middle[:rank]).T / rows
    return u.to(inverse), (right[:rank] / columns).to(inverse)
