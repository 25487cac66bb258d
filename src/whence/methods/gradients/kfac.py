"""Kronecker-factored curvature by layers: K-FAC (Martens and Grosse 2015), EK-FAC (George et al. 2018).

The Fisher matrix of a layer with inputs a and output gradients b is taken to be E[bb'] x E[aa'], or, with its
eigenvectors kept, to have as eigenvalues the mean squares of the gradients in that basis. Convolutions sum
over positions that are taken to be independent (Grosse and Martens 2016). The expectation is over the labels
that the model itself predicts: all of them, or one drawn per example where there are many classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import nn

from whence.errors import InputError
from whence.methods.gradients.hessian import batches
from whence.methods.gradients.layers import gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer, Piece
from whence.methods.gradients.solved import Separable, Solved, Whole, separate

Kind = Literal["kfac", "ekfac"]

_ALL_CLASSES = 16  # up to so many classes the expectation over labels is exact
_BLOCK = 1024  # parameters without Kronecker structure: up to so many have a whole matrix, else a diagonal
_VALUES = 30_000_000  # numbers that a batch may hold at once
_SOLVED = 200_000_000  # and the targets' gradients


class Block(Protocol):
    """The curvature of one layer, with its eigenvalues."""

    values: torch.Tensor

    def solve(self, piece: Piece, shift: float) -> Solved:
        """The inverse of curvature + shift times the gradients of the targets."""


@dataclass
class Kronecker:
    """Eigenvectors of inputs, a (in, in) or None for an embedding's one-hot ones, and of output gradients,
    b (out, out); eigenvalues (out, in)."""

    a: torch.Tensor | None
    b: torch.Tensor
    values: torch.Tensor

    def solve(self, piece: Piece, shift: float) -> Solved:
        assert isinstance(piece, Outer)
        inverse = 1 / (self.values + shift)
        a, b = self.rotate(piece)
        if self.a is not None and a.shape[1] == 1:
            parts = separate(inverse, self.values)
            if parts is not None:
                return Separable(self, a[:, 0], b[:, 0], *parts, inverse)
        solved = torch.einsum("blo,bli->boi", b, a) * inverse
        solved = self.b @ solved
        return Whole((solved if self.a is None else solved @ self.a.T).flatten(1))

    def rotate(self, piece: Outer) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs (b, l, in) and output gradients (b, l, out) in the eigenvectors' coordinates."""
        a = piece.dense()
        return (a if self.a is None else a @ self.a), piece.b @ self.b


@dataclass
class Dense:
    """Eigenvectors (p, p), or None for a diagonal, and eigenvalues (p,)."""

    vectors: torch.Tensor | None
    values: torch.Tensor

    def solve(self, piece: Piece, shift: float) -> Solved:
        g, scale = piece.flat(), 1 / (self.values + shift)
        return Whole(g * scale if self.vectors is None else (g @ self.vectors * scale) @ self.vectors.T)


def fit(network: Network, index: torch.Tensor | None, kind: Kind = "ekfac", seed: int = 0) -> list[Block]:
    """Blocks of the mean loss's Fisher matrix over the examples at `index` (None: all), in the order of
    `layers.gradients`."""
    sums: list[_Sums] = []
    count = len(network.train.y) if index is None else len(index)
    for pieces, new in _passes(network, index, seed):
        sums = sums or [_Sums(piece) for piece in pieces]
        for total, piece in zip(sums, pieces, strict=True):
            total.add(piece, new)
    blocks = [total.block(count) for total in sums]
    if kind == "kfac" or not any(isinstance(block, Kronecker) for block in blocks):
        return blocks
    corrected = [torch.zeros_like(b.values) if isinstance(b, Kronecker) else None for b in blocks]
    for pieces, _ in _passes(network, index, seed):
        for block, piece, squares in zip(blocks, pieces, corrected, strict=True):
            if squares is not None:
                assert isinstance(block, Kronecker) and isinstance(piece, Outer)
                a, b = block.rotate(piece)
                if a.shape[1] == 1:
                    squares += b[:, 0].square().T @ a[:, 0].square()
                else:
                    squares += torch.einsum("blo,bli->boi", b, a).square().sum(0)
    for block, squares in zip(blocks, corrected, strict=True):
        if squares is not None:
            assert isinstance(block, Kronecker)
            block.values = squares / count
    return blocks


class _Sums:
    """Sums over examples of one layer's second moments: of inputs (a) and output gradients (b), or of the
    gradients themselves (b alone)."""

    def __init__(self, piece: Piece) -> None:
        self.a: torch.Tensor | None = None
        self.positions = 1
        if isinstance(piece, Outer):
            size = piece.wide
            self.a = piece.b.new_zeros((size, size) if piece.a.is_floating_point() else (size,))
            self.b = piece.b.new_zeros(piece.b.shape[-1], piece.b.shape[-1])
        else:
            size = piece.size
            self.b = piece.flat().new_zeros((size, size) if size <= _BLOCK else (size,))

    def add(self, piece: Piece, new: bool) -> None:
        if self.a is None or not isinstance(piece, Outer):
            g = piece.flat()
            self.b += g.T @ g if self.b.ndim == 2 else g.square().sum(0)
            return
        b = piece.b.flatten(0, 1)
        self.b += b.T @ b
        self.positions = max(self.positions, piece.b.shape[1])
        if not new:  # another label of the same examples: their inputs have been counted
            return
        if self.a.ndim == 1:
            self.a += torch.bincount(piece.a.flatten(), minlength=piece.wide).to(self.a)
        else:
            a = piece.a.flatten(0, 1)
            self.a += a.T @ a

    def block(self, count: int) -> Block:
        if self.a is None:
            mean = self.b / count
            if mean.ndim == 1:
                return Dense(None, mean)
            values, vectors = _eigen(mean)
            return Dense(vectors, values)
        b_values, b = _eigen(self.b / (count * self.positions))
        if self.a.ndim == 1:
            return Kronecker(None, b, torch.outer(b_values, self.a / count))
        a_values, a = _eigen(self.a / count)
        return Kronecker(a, b, torch.outer(b_values, a_values))


def _eigen(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if not torch.isfinite(matrix).all():
        raise InputError(
            "a layer's inputs or gradients are so large that their squares are not finite; look for extreme "
            "training inputs, or scale them."
        )
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp_min(0).to(matrix), vectors.to(matrix)


def _passes(network: Network, index: torch.Tensor | None, seed: int) -> Iterator[tuple[list[Piece], bool]]:
    """Gradients of the loss at the labels that the model expects; whether the examples come for the first
    time."""
    if network.own_loss:  # knows no distribution of answers: the empirical Fisher matrix, at those given
        for x, y in batches(network.train, index, batch_size(network)):
            yield gradients(network, x, y, network.loss), True
        return
    drawn, start = None, 0
    for x, y in batches(network.train, index, batch_size(network)):
        with torch.no_grad():
            p = network.logits(network.parameters, x).softmax(1)
        classes = p.shape[1]
        if classes <= _ALL_CLASSES:
            for c in range(classes):
                yield gradients(network, x, torch.full_like(y, c), _weighted(p[:, c].sqrt())), c == 0
            continue
        if drawn is None:  # all at once, so that the size of a batch does not matter
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.rand(len(network.train.y), generator=generator).to(p)
        u = drawn[start : start + len(y), None]
        start += len(y)
        labels = (p.cumsum(1) < u * p.sum(1, keepdim=True)).sum(1).clamp_max(classes - 1)
        yield gradients(network, x, labels, _weighted(torch.ones_like(u[:, 0]))), True


def _weighted(weights: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, y, reduction="none") * weights

    return loss


def batch_size(network: Network) -> int:
    """Examples at a time, by what one layer's gradients of a batch would take."""
    largest = max(p.numel() for p in network.parameters.values())
    return max(1, min(1024, _VALUES // largest))


def influences(
    network: Network, blocks: list[Block], shift: float, decay: float = 0.0, relative: float = 0.0
) -> torch.Tensor:
    """Inner products (t, n) of the targets' output gradients, times the inverse of blocks + shift, with the
    training examples' loss gradients plus `decay` times the weights. `relative` of its mean eigenvalue is
    added to each block's shift."""
    shifts = [shift + relative * float(block.values.mean()) for block in blocks]
    rows = []
    p = sum(t.numel() for t in network.parameters.values())
    for x, y in batches(network.targets, None, max(1, _SOLVED // max(1, p))):
        pieces = _finite(gradients(network, x, y, network.output))
        solved = [block.solve(piece, own) for block, piece, own in zip(blocks, pieces, shifts, strict=True)]
        columns = []
        for u, v in batches(network.train, None, batch_size(network)):
            others = _finite(gradients(network, u, v, network.loss))
            columns.append(torch.stack([s.products(o) for s, o in zip(solved, others, strict=True)]).sum(0))
        scores = torch.cat(columns, 1)
        if decay:
            for s, piece in zip(solved, pieces, strict=True):
                scores += decay * s.product(piece.weights(network.parameters))[:, None]
        rows.append(scores)
    return torch.cat(rows)


def _finite(pieces: list[Piece]) -> list[Piece]:
    for piece in pieces:
        if not torch.isfinite(piece.b if isinstance(piece, Outer) else piece.flat()).all():
            raise InputError(
                f"gradients of {piece.name or 'the network'} are not finite; leave out that checkpoint."
            )
    return pieces
