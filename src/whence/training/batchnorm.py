"""Batch normalisation whose statistics see example weights, so that an example of weight 0 is truly left
out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_weights: ContextVar[torch.Tensor | None] = ContextVar("example_weights", default=None)
_differentiable: ContextVar[bool] = ContextVar("differentiable_statistics", default=False)
# (x (b, c, h, w), shares, scale, shift, eps) -> (normalised, mean, variance)
Normalise = Callable[..., tuple[torch.Tensor, ...]]
_normalise: ContextVar[Normalise | None] = ContextVar("normalise", default=None)


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


@contextmanager
def normalising_by(function: Normalise) -> Iterator[None]:
    """Within this context weighted `BatchNorm2d` is computed by `function`."""
    token = _normalise.set(function)
    try:
        yield
    finally:
        _normalise.reset(token)


def closed_form() -> AbstractContextManager[None]:
    """A context in which the backward pass of weighted `BatchNorm2d` is a formula: fewer passes over memory,
    but example weights get no gradient."""
    return normalising_by(_normalised)


class Normalisation(torch.autograd.Function):
    """Weighted batch norm: ``x (b, h, w, c)`` and the examples' shares ``(b,)``, which sum to 1 or are all
    0, to the normalised ``x * scale + shift``, the mean and the variance ``(c,)``.

    In rows of an image, ``(b h, w c)``, for wide rows are what vector units like. Shares get no gradient.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: torch.Tensor, share: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, ...]:
        b, height, width, c = x.shape
        exact = x.to(torch.promote_types(x.dtype, torch.float32))

        def average(values: torch.Tensor) -> torch.Tensor:
            each = share[None] @ values.reshape(b, -1)
            return each.view(height * width, c).sum(0) / (height * width)

        mean = average(exact)
        centred = exact.reshape(b * height, -1) - mean.repeat(width)
        variance = average(centred * centred)
        root = torch.rsqrt(variance + eps)
        y = torch.addcmul(shift.repeat(width), centred, (root * scale).repeat(width))
        return y.to(x.dtype).view(x.shape), mean, variance, centred, root

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, share, scale, _, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(share, scale, *output[3:])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[Any, ...]:
        share, scale, centred, root = ctx.saved_tensors
        b, height, width, c = gradient.shape
        g = gradient.to(centred.dtype).reshape(b * height, -1)
        to_shift = g.sum(0).view(width, c).sum(0)
        along = (g * centred).sum(0).view(width, c).sum(0)
        factor = root * scale
        # factor * (g - share * (sum of g + centred * root^2 * sum of g centred))
        pull = torch.addcmul(
            (factor * to_shift).repeat(width), centred, (factor * root * root * along).repeat(width)
        )
        each = (share / (height * width)).repeat_interleave(height)[:, None]
        to_x = torch.addcmul(pull * -each, g, factor.repeat(width))
        return to_x.to(gradient.dtype).view(gradient.shape), None, along * root, to_shift, None


def _normalised(
    x: torch.Tensor, share: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float
) -> tuple[torch.Tensor, ...]:
    y, mean, variance, *_ = Normalisation.apply(x.permute(0, 2, 3, 1), share, scale, shift, eps)
    return y.permute(0, 3, 1, 2), mean, variance


@contextmanager
def evaluating_stacks(device: torch.device) -> Iterator[None]:
    """Within this context batch norm in evaluation mode is plain arithmetic on a GPU: `torch.func.vmap` does
    not get through cuDNN's (PyTorch 2.11: "querying is_contiguous inside of vmap")."""
    if device.type == "cpu":
        yield
        return
    with _Plain():
        yield


class _Plain(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.batch_norm and not kwargs and not args[5]:
            x, weight, bias, mean, variance, _, _, eps, _ = args
            return _evaluated(x, weight, bias, mean, variance, eps)
        if function is F.batch_norm:
            given = dict(zip(_NAMES, args, strict=False)) | kwargs
            if not given.get("training", False):
                return _evaluated(
                    given["input"],
                    given.get("weight"),
                    given.get("bias"),
                    given["running_mean"],
                    given["running_var"],
                    given.get("eps", 1e-5),
                )
        return function(*args, **kwargs)


_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")


def _evaluated(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """``(b, c, ...)`` normalised by given statistics, in no half precision."""
    exact = torch.promote_types(x.dtype, torch.float32)
    shape = (-1, *[1] * (x.ndim - 2))
    scale = torch.rsqrt(variance.to(exact) + eps)
    scale = scale if weight is None else scale * weight
    y = (x.to(exact) - mean.view(shape)) * scale.view(shape)
    return (y if bias is None else y + bias.view(shape)).to(x.dtype)


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
        normalise = _normalise.get()
        if normalise is not None:
            y, mean, variance = self._by(normalise, x, share)
            self._track(weights, mean, variance, x.shape[2] * x.shape[3])
            return y
        wide = x if x.dtype == torch.float64 else x.float()
        mean = torch.einsum("b,bchw->c", share, wide) / (x.shape[2] * x.shape[3])
        centred = wide - mean[:, None, None]
        variance = torch.einsum("b,bchw->c", share, centred.square()) / (x.shape[2] * x.shape[3])
        self._track(weights, mean, variance, x.shape[2] * x.shape[3])
        y = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        return y.to(x.dtype)

    def _by(self, normalise: Normalise, x: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(x.device.type, enabled=False):
            exact = torch.promote_types(x.dtype, torch.float32)
            one, zero = x.new_ones(x.shape[1], dtype=exact), x.new_zeros(x.shape[1], dtype=exact)
            scale, shift = (self.weight, self.bias) if self.affine else (one, zero)
            return normalise(x, share, scale, shift, self.eps)

    def _track(self, weights: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, pixels: int) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        # Unbiased as in torch; the number of values is that of the examples with a weight.
        count = (weights > 0).sum() * pixels
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


def has_foreign_batchnorm(model: nn.Module) -> bool:
    """True when `model` has a batch-norm layer that ignores example weights."""
    return any(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) and not isinstance(layer, BatchNorm2d)
        for layer in model.modules()
    )
