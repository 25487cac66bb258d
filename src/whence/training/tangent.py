"""The tangent kernel of one trained network, and the least change of its weights that moves its outputs.

Near its weights a network is linear in them, with the Jacobian J of its outputs at the training examples. The
shortest step after which the outputs have changed by r is ``J^T (J J^T + ridge)^-1 r``: a Gauss-Newton step,
taken in the space of outputs, of which there are often fewer than weights. J and the Cholesky factor are made
once and serve any number of steps (the chord method).
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
    """The tangent kernel of `network` at given weights, over all examples of `data`.

    Outputs are logits in the basis of `contrasts`: ``(n, classes - 1)``. The network runs as it is set
    (evaluation mode, so that examples do not see each other).

    Parameters
    ----------
    parameters, buffers : of the model, by name; the parameters are what moves.
    ridge : added to the diagonal of the kernel, as a share of its mean.

    Attributes
    ----------
    jacobian : ``(n (classes - 1), p)``.
    factor : float64, the lower Cholesky factor of the kernel.
    """

    def __init__(
        self, network: nn.Module, parameters: Tensors, buffers: Tensors, data: Resident, ridge: float
    ) -> None:
        self.network, self.buffers, self.data = network, buffers, data
        self.names = list(parameters)
        first = self._logits(parameters, slice(0, 1))
        self.basis = contrasts(first.shape[1], first)
        self.jacobian = self._jacobian(parameters)
        kernel = (self.jacobian @ self.jacobian.T).double()
        kernel.diagonal().add_(ridge * kernel.diagonal().mean())
        self.factor, failed = torch.linalg.cholesky_ex(kernel)
        if failed:
            raise InputError(
                f"the tangent kernel of a model is not positive definite with ridge={ridge:g}; are its "
                "weights finite? Otherwise pass a larger ridge."
            )

    def _logits(self, parameters: Tensors, part: slice) -> torch.Tensor:
        return functional_call(self.network, {**self.buffers, **parameters}, (self.data.inputs(part),))

    def _jacobian(self, parameters: Tensors) -> torch.Tensor:
        def outputs(weights: Tensors, x: torch.Tensor) -> torch.Tensor:
            return functional_call(self.network, {**self.buffers, **weights}, (x[None],))[0] @ self.basis

        each = vmap(jacrev(outputs), in_dims=(None, 0))
        parts = []
        for start in range(0, len(self.data.y), _BATCH):
            found = each(parameters, self.data.inputs(slice(start, start + _BATCH)))
            rows = [found[name].flatten(0, 1).flatten(1) for name in self.names]
            parts.append(torch.cat(rows, 1))
        return torch.cat(parts)

    def outputs(self, parameters: Tensors) -> torch.Tensor:
        """The outputs of all examples at `parameters`, ``(n, classes - 1)``."""
        with torch.no_grad(), reproducible(self.data.y.device):
            parts = [
                self._logits(parameters, slice(start, start + _FORWARD)) @ self.basis
                for start in range(0, len(self.data.y), _FORWARD)
            ]
        return torch.cat(parts)

    def moved(self, parameters: Tensors, change: torch.Tensor) -> Tensors:
        """`parameters` after the step that changes outputs by `change` ``(n, classes - 1)``, if they were
        linear."""
        dual = torch.cholesky_solve(change.reshape(-1, 1).double(), self.factor)
        step = self.jacobian.T @ dual[:, 0].to(self.jacobian)
        sizes = [parameters[name].numel() for name in self.names]
        pieces = zip(self.names, step.split(sizes), strict=True)
        return {name: parameters[name] + piece.view_as(parameters[name]) for name, piece in pieces}
