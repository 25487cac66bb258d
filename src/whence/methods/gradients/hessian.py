"""Curvature of the training loss: products with it, the whole matrix of small models, and solving with it.

The loss is the mean over the examples trained on; `shift` adds a multiple of the identity (weight decay plus
damping). Vectors are rows of (k, p): all weights of the network in a row, in the order of its parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch.func import grad, jvp, vjp, vmap

from whence.errors import InputError
from whence.methods.gradients.network import Network, Tensors
from whence.training.reproducible import reproducible

Curvature = Literal["ggn", "hessian"]
Product = Callable[[torch.Tensor], torch.Tensor]
Of = Literal["loss", "output"]

_VALUES = 20_000_000  # numbers that a batch may hold at once


def flatten(tensors: Tensors) -> torch.Tensor:
    """(p,) of tensors by name, or (k, p) where each has a leading axis that `unflatten` gave it."""
    return torch.cat([t.reshape(-1) for t in tensors.values()])


def unflatten(vector: torch.Tensor, like: Tensors) -> Tensors:
    """Tensors by name of a vector (p,)."""
    parts = vector.split([t.numel() for t in like.values()])
    return {name: part.view_as(t) for (name, t), part in zip(like.items(), parts, strict=True)}


def size_of(network: Network) -> int:
    """Number of weights p that are differentiated."""
    return sum(t.numel() for t in network.parameters.values())


def batches(
    data: Any, index: torch.Tensor | None, size: int, dtype: torch.dtype | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs (in `dtype`, if given) and labels of the examples at `index` (None: all), `size` at a time."""
    order = torch.arange(len(data.y), device=data.y.device) if index is None else index
    for part in order.split(size):
        x = data.inputs(part)
        yield (x.to(dtype) if dtype is not None and x.is_floating_point() else x), data.y[part]


def example_gradients(
    network: Network, data: Any, of: Of, index: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """Gradients (b, p) of the loss or the output of each example, a batch at a time, in order."""
    function = network.loss if of == "loss" else network.output

    def one(parameters: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return function(network.logits(parameters, x[None]), y[None])[0]

    each = vmap(grad(one), in_dims=(None, 0, 0))
    dtype = flatten(network.parameters).dtype
    for x, y in batches(data, index, max(1, _VALUES // max(1, size_of(network))), dtype):
        with reproducible(network.device):
            found = each(network.parameters, x, y)
        yield torch.cat([g.flatten(1) for g in found.values()], 1).detach()


def product(
    network: Network, index: torch.Tensor | None, curvature: Curvature = "ggn", shift: float = 0.0
) -> Product:
    """Multiplication of rows (k, p) by the curvature of the mean training loss.

    Parameters
    ----------
    index : the examples trained on; None for all
    curvature : "ggn", the generalised Gauss-Newton matrix, never indefinite (Schraudolph 2002; for the
        cross-entropy it is the Fisher matrix); "hessian", the second derivative itself
    """
    parameters = network.parameters
    p = size_of(network)
    dtype = flatten(parameters).dtype
    count = len(network.train.y) if index is None else len(index)
    one = _gauss_newton if curvature == "ggn" else _hessian
    size = max(1, min(count, 1024))

    def multiply(rows: torch.Tensor) -> torch.Tensor:
        result = torch.zeros_like(rows)
        chunk = max(1, _VALUES // max(1, p, size * 64))
        for x, y in batches(network.train, index, size, dtype):
            with reproducible(network.device):
                with_batch = one(network, x, y)
                for part in torch.arange(len(rows)).split(chunk):
                    result[part] += vmap(with_batch)(rows[part]).detach()
        return result / count + shift * rows

    return multiply


def _gauss_newton(network: Network, x: torch.Tensor, y: torch.Tensor) -> Product:
    parameters = network.parameters
    made = vjp(lambda weights: network.logits(weights, x), parameters)
    logits, back = made[0].detach(), made[1]
    slope = grad(lambda values: network.loss(values, y).sum())

    def multiply(row: torch.Tensor) -> torch.Tensor:
        tangent = jvp(
            lambda weights: network.logits(weights, x), (parameters,), (unflatten(row, parameters),)
        )[1]
        return flatten(back(jvp(slope, (logits,), (tangent,))[1])[0])

    return multiply


def _hessian(network: Network, x: torch.Tensor, y: torch.Tensor) -> Product:
    parameters = network.parameters
    slope = grad(lambda weights: network.loss(network.logits(weights, x), y).sum())

    def multiply(row: torch.Tensor) -> torch.Tensor:
        return flatten(jvp(slope, (parameters,), (unflatten(row, parameters),))[1])

    return multiply


def explicit(
    network: Network, index: torch.Tensor | None, curvature: Curvature = "ggn", shift: float = 0.0
) -> torch.Tensor:
    """The curvature (p, p) itself, symmetric."""
    p = size_of(network)
    multiply = product(network, index, curvature, shift)
    weights = flatten(network.parameters)
    matrix = multiply(torch.eye(p, dtype=weights.dtype, device=weights.device))
    return (matrix + matrix.T) / 2


def solve_explicit(matrix: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """rows (k, p) times the inverse of a positive definite matrix (p, p), computed in float64."""
    factor, problem = torch.linalg.cholesky_ex(matrix.double())
    if problem.any():
        raise InputError(
            "the curvature plus damping is not positive definite at these weights; raise damping, or take "
            'curvature="ggn".'
        )
    return torch.cholesky_solve(rows.T.double(), factor).T.to(rows.dtype)


def solve_cg(
    multiply: Product, rows: torch.Tensor, iterations: int = 200, tolerance: float = 1e-5
) -> tuple[torch.Tensor, float]:
    """rows (k, p) times the inverse of the matrix behind `multiply`, by conjugate gradients on all at once.

    Returns the solution and the largest residual that is left, relative to its row. A row is done when its
    residual is below `tolerance` times its norm.
    """
    solution = torch.zeros_like(rows)
    residual = rows.clone()
    direction = residual.clone()
    squares = residual.square().sum(1)
    goal = tolerance**2 * squares
    for _ in range(iterations):
        active = (squares > goal).nonzero()[:, 0]
        if not len(active):
            break
        d = direction[active]
        curved = multiply(d)
        bend = (d * curved).sum(1)
        if not (bend > 0).all():
            raise InputError(
                "conjugate gradients met a direction in which the loss curves downwards; raise damping, or "
                'take curvature="ggn".'
            )
        step = (squares[active] / bend)[:, None]
        solution[active] += step * d
        residual[active] -= step * curved
        fresh = residual[active].square().sum(1)
        direction[active] = residual[active] + (fresh / squares[active])[:, None] * d
        squares[active] = fresh
    left = (squares / (goal / tolerance**2).clamp_min(1e-30)).sqrt().max()
    return solution, float(left) if len(rows) else math.nan
