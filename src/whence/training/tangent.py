"""The tangent kernel of one trained network, and a small change of its weights that moves its outputs.

Near its weights a network is linear in them, with the Jacobian J of its outputs at some examples. The step d
that makes ``|J d - r|^2 + ridge |d|^2`` small, for a change r of outputs, is a Gauss-Newton step. J is made
once and serves any number of steps (the chord method); a step is a few products with it, where the kernel
``J J^T`` itself would take as many as there are outputs.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.func import functional_call, jacrev, vmap

from whence.errors import InputError
from whence.training.data import Resident
from whence.training.optimizers import Tensors
from whence.training.reproducible import reproducible

_BATCH = 128  # examples whose Jacobians are made at once
_FORWARD = 512


def contrasts(classes: int, like: torch.Tensor) -> torch.Tensor:
    """An orthonormal basis ``(classes, classes - 1)`` of all that sums to zero: centred logits lose nothing
    in it."""
    plain = torch.eye(classes, dtype=torch.float64) - 1 / classes
    return torch.linalg.svd(plain)[0][:, : classes - 1].to(like)


class Tangent:
    """`network` made linear at given weights, at the examples `points` of `data`.

    Outputs are logits in the basis of `contrasts`: ``(k, classes - 1)``. The network runs as it is set
    (evaluation mode, so that examples do not see each other).

    Parameters
    ----------
    parameters, buffers : of the model, by name; the parameters are what moves.
    points : positions in `data`, int64 ``(k,)``.

    Attributes
    ----------
    jacobian : ``(k (classes - 1), p)``.

    Raises
    ------
    InputError : gradients that are not finite.
    """

    def __init__(
        self,
        network: nn.Module,
        parameters: Tensors,
        buffers: Tensors,
        data: Resident,
        points: torch.Tensor,
    ) -> None:
        self.network, self.buffers, self.data, self.points = network, buffers, data, points
        self.names = list(parameters)
        with torch.no_grad():
            first = self._logits(parameters, points[:1])
        self.basis = contrasts(first.shape[1], first)
        self.jacobian = self._jacobian(parameters)
        if not torch.isfinite(self.jacobian).all():
            raise InputError(
                "the gradients of a model's outputs are not all finite, so no step can be taken along them; "
                "are its weights finite?"
            )

    def _logits(self, parameters: Tensors, part: torch.Tensor) -> torch.Tensor:
        return functional_call(self.network, {**self.buffers, **parameters}, (self.data.inputs(part),))

    def _jacobian(self, parameters: Tensors) -> torch.Tensor:
        def outputs(weights: Tensors, x: torch.Tensor) -> torch.Tensor:
            return functional_call(self.network, {**self.buffers, **weights}, (x[None],))[0] @ self.basis

        each = vmap(jacrev(outputs), in_dims=(None, 0))
        parts = []
        for part in self.points.split(_BATCH):
            found = each(parameters, self.data.inputs(part))
            rows = [found[name].flatten(0, 1).flatten(1) for name in self.names]
            parts.append(torch.cat(rows, 1))
        return torch.cat(parts)

    def outputs(self, parameters: Tensors) -> torch.Tensor:
        """The outputs at `parameters`, ``(k, classes - 1)``."""
        with torch.no_grad(), reproducible(self.data.y.device):
            parts = [self._logits(parameters, part) @ self.basis for part in self.points.split(_FORWARD)]
        return torch.cat(parts)

    def moved(self, parameters: Tensors, change: torch.Tensor, ridge: float, iterations: int) -> Tensors:
        """`parameters` after a step that changes outputs by about `change` ``(k, classes - 1)``.

        ridge : weight of the step's own size, as a share of the mean squared norm of a row of J.
        iterations : of conjugate gradients; see `least_squares`.
        """
        weight = ridge * self.jacobian.square().sum() / len(self.jacobian)
        step = least_squares(self.jacobian, change.reshape(-1), weight, iterations)
        sizes = [parameters[name].numel() for name in self.names]
        pieces = zip(self.names, step.split(sizes), strict=True)
        return {name: parameters[name] + piece.view_as(parameters[name]) for name, piece in pieces}


def least_squares(
    matrix: torch.Tensor, goal: torch.Tensor, ridge: torch.Tensor | float, iterations: int
) -> torch.Tensor:
    """x ``(p,)`` with a small ``|matrix x - goal|^2 + ridge |x|^2``, by conjugate gradients on the normal
    equations, whose matrix is not formed (CGLS; Björck 1996, "Numerical Methods for Least Squares Problems",
    section 7.4).

    After any number of iterations nothing in the Krylov space has a smaller objective, so that stopping early
    is itself a regularisation. Each iteration takes two products with `matrix`. A goal that is reached
    exactly stays so.
    """
    x = torch.zeros(matrix.shape[1], dtype=matrix.dtype, device=matrix.device)
    residual = goal.clone()
    slope = matrix.T @ residual
    direction, size = slope, slope @ slope
    for _ in range(iterations):
        ahead = matrix @ direction
        step = _ratio(size, ahead @ ahead + ridge * (direction @ direction))
        x = x + step * direction
        residual = residual - step * ahead
        slope = matrix.T @ residual - ridge * x
        before, size = size, slope @ slope
        direction = slope + _ratio(size, before) * direction
    return x


def _ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """0 where nothing is left to do; without asking the device, which would wait for it."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1), 0)
