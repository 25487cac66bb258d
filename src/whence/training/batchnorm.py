"""Batch normalisation whose statistics see example weights, so that an example of weight 0 is truly left
out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn

_weights: ContextVar[torch.Tensor | None] = ContextVar("example_weights", default=None)
_differentiable: ContextVar[bool] = ContextVar("differentiable_statistics", default=False)


@contextmanager
def example_weights(weights: torch.Tensor | None) -> Iterator[None]:
    """Within this context `BatchNorm2d` weighs the examples of a batch by `weights` ``(b,)`` (None: all
    alike)."""
    token = _weights.set(weights)
    try:
        yield
    finally:
        _weights.reset(token)


@contextmanager
def differentiable_statistics() -> Iterator[None]:
    """Within this context running statistics depend on weights and parameters also for autograd, as replay
    needs: the final network is evaluated with them."""
    token = _differentiable.set(True)
    try:
        yield
    finally:
        _differentiable.reset(token)


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` that honours example weights during training.

    In an ordinary batch norm an example of weight 0 still moves the batch statistics and so every other
    example's activations: it has not left the training set. With no weights in force, or all equal, this is
    the ordinary layer.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``(b, c, h, w)``; the running statistics are updated in training mode."""
        weights = _weights.get()
        mean, variance = self.running_mean, self.running_var
        if not self.training and _differentiable.get() and mean is not None and variance is not None:
            y = (x - mean[:, None, None]) * torch.rsqrt(variance + self.eps)[:, None, None]
            return y * self.weight[:, None, None] + self.bias[:, None, None] if self.affine else y
        if not self.training or weights is None:
            return super().forward(x)
        share = weights.to(torch.promote_types(x.dtype, torch.float32)) / weights.sum().clamp_min(1e-12)
        wide = x if x.dtype == torch.float64 else x.float()
        mean = torch.einsum("b,bchw->c", share, wide) / (x.shape[2] * x.shape[3])
        centred = wide - mean[:, None, None]
        variance = torch.einsum("b,bchw->c", share, centred.square()) / (x.shape[2] * x.shape[3])
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            # Unbiased as in torch; the number of values is that of the examples with a weight.
            count = (weights > 0).sum() * (x.shape[2] * x.shape[3])
            anyone = (weights > 0).any()
            momentum: float | torch.Tensor | None = self.momentum
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(anyone)
                if momentum is None:  # torch's plain average over batches
                    momentum = 1.0 / self.num_batches_tracked.clamp_min(1)
            present = anyone.to(mean.dtype) * (0.1 if momentum is None else momentum)
            seen, spread = (mean, variance) if _differentiable.get() else (mean.detach(), variance.detach())
            unbiased = spread * count / (count - 1).clamp_min(1)
            self.running_mean.mul_(1 - present).add_(present * seen)
            self.running_var.mul_(1 - present).add_(present * unbiased)
        y = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)


def has_foreign_batchnorm(model: nn.Module) -> bool:
    """True when `model` has a batch-norm layer that ignores example weights."""
    return any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(layer, BatchNorm2d)
        for layer in model.modules()
    )
