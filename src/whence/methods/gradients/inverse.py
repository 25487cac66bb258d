"""Gradients times the inverse of their Gram matrix plus a ridge, for all examples at once."""

from __future__ import annotations

import torch


def dual(
    kernel: torch.Tensor, cross: torch.Tensor, seen: torch.Tensor, ridge: float, subset: bool
) -> torch.Tensor:
    """The scores from dot products: K_z (K + ridge)^-1 where all examples were seen, else by Woodbury's
    identity (K_z - K_zS (K_SS + ridge)^-1 K_S) / ridge."""
    inner = kernel[seen][:, seen] if subset else kernel.clone()
    inner.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(inner)
    if not subset:
        return torch.cholesky_solve(cross.T, factor).T
    return (cross - cross[:, seen] @ torch.cholesky_solve(kernel[seen], factor)) / ridge


def primal(
    train: torch.Tensor, targets: torch.Tensor, seen: torch.Tensor, ridge: float, blocks: int
) -> torch.Tensor:
    """The scores from projected gradients (n, k) and (t, k); the Gram matrix in float64, block by block."""
    width = train.shape[1] // blocks
    total = torch.zeros(len(targets), len(train), dtype=torch.float64, device=train.device)
    for start in range(0, train.shape[1], width):
        part = slice(start, start + width)
        rows = train[:, part].double()
        gram = rows[seen].T @ rows[seen]
        gram.diagonal().add_(ridge / blocks)
        total += targets[:, part].double() @ torch.cholesky_solve(rows.T, torch.linalg.cholesky(gram))
    return total
