"""Convolution, batch norm and GELU for derivatives of derivatives.

A metagradient goes back through steps that are themselves made of gradients, once for every target. Torch's
formulas for that are sums of many passes over memory. Here the second derivative of each operation is one
formula, which keeps what all targets share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from whence.training.batchnorm import normalising_by

Gradients = tuple[torch.Tensor | None, ...]


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Within this context 2d convolutions, weighted `BatchNorm2d` and GELU are those of this module."""
    with _Operations(), normalising_by(_normalised):
        yield


class _Operations(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d and not kwargs and len(args) == 7 and args[0].ndim == 4:
            x, weight, bias, stride, padding, dilation, groups = args
            if not isinstance(padding, str):
                y = Convolution.apply(x, weight, (_pair(stride), _pair(padding), _pair(dilation), groups))
                return y if bias is None else y + bias[:, None, None]
        if function is F.gelu and len(args) == 1 and kwargs.get("approximate", "none") == "none":
            return Gelu.apply(args[0])[0]
        return function(*args, **kwargs)


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else [value[0], value[-1]]


class Convolution(torch.autograd.Function):
    """``torch.conv2d`` without bias; `how` is (stride, padding, dilation, groups)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor, weight: torch.Tensor, how: Any) -> torch.Tensor:
        return torch.conv2d(x, weight, None, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, ctx.how = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor) -> Gradients:
        x, weight = ctx.saved_tensors
        wanted = tuple(ctx.needs_input_grad[:2])
        if torch.is_grad_enabled():
            return *ConvolutionBackward.apply(g, x, weight, ctx.how, wanted), None
        return *_backwards(g, x, weight, ctx.how, wanted), None


class ConvolutionBackward(torch.autograd.Function):
    """The two gradients of `Convolution`, those `wanted`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, how: Any, wanted: Any) -> Gradients:
        return _backwards(g, x, weight, how, wanted)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        g, x, weight, ctx.how, _ = inputs
        ctx.save_for_backward(g, x, weight)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, a: torch.Tensor | None, d: torch.Tensor | None) -> Gradients:
        # The gradients are bilinear in (g, weight) and in (g, x); `a` and `d` are the cotangents of x's
        # gradient and of the weight's.
        g, x, weight = ctx.saved_tensors
        to_g, to_x, to_weight = None, None, None
        if d is not None:
            to_g = torch.conv2d(x, d, None, *ctx.how)
            if ctx.needs_input_grad[1]:
                to_x = _backwards(g, x, d, ctx.how, (True, False))[0]
        if a is not None:
            more = torch.conv2d(a, weight, None, *ctx.how)
            to_g = more if to_g is None else to_g + more
            to_weight = _backwards(g, a, weight, ctx.how, (False, True))[1]
        return to_g, to_x, to_weight, None, None


def _backwards(g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, how: Any, wanted: Any) -> Gradients:
    stride, padding, dilation, groups = how
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, dilation, False, [0, 0], groups, [*wanted, False]
    )[:2]


class Gelu(torch.autograd.Function):
    """``f(x) = x Phi(x)``, Phi the normal distribution function, with ``f'(x)`` and ``f''(x)``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        square = x * x
        density = (square * -0.5).exp_().mul_(1 / math.sqrt(2 * math.pi))
        below = (x * math.sqrt(0.5)).erf_().add_(1).mul_(0.5)
        return x * below, torch.addcmul(below, x, density), square.neg_().add_(2).mul_(density)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])
        ctx.set_materialize_grads(False)  # there would be zeros for what has no gradient

    @staticmethod
    def backward(ctx: Any, g: torch.Tensor, *_: Any) -> torch.Tensor:
        x, first, second = ctx.saved_tensors
        return GeluBackward.apply(g, x, first, second)[0] if torch.is_grad_enabled() else g * first


class GeluBackward(torch.autograd.Function):
    """``g f'(x)``, and ``g f''(x)`` for its own gradient."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        g: torch.Tensor, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        return g * first, g * second

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[2], output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, a: torch.Tensor, _: Any) -> Gradients:
        first, bent = ctx.saved_tensors
        return a * first, a * bent, None, None


def _normalised(
    x: torch.Tensor, share: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float
) -> tuple[torch.Tensor, ...]:
    y, mean, variance, *_ = Normalisation.apply(x.permute(0, 2, 3, 1), share, scale, shift, eps)
    return y.permute(0, 3, 1, 2), mean, variance


class Normalisation(torch.autograd.Function):
    """Weighted batch norm of ``x (b, h, w, c)``, as in `whence.training.batchnorm`, with gradients by all
    its inputs and outputs.

    A gradient that is itself to be differentiated leaves the shares out: a step's gradient is by parameters.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: torch.Tensor, share: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, ...]:
        rows = _Rows(x, share)
        flat = rows.flat(x)
        mean = share @ rows.each(flat)
        centred = flat - rows.wide(mean)
        squares = rows.each(centred * centred)
        variance = share @ squares
        root = torch.rsqrt(variance + eps)
        y = torch.addcmul(rows.wide(shift), centred, rows.wide(root * scale))
        return y.view(x.shape), mean, variance, centred, squares, root

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, share, scale, _, _ = inputs
        ctx.mark_non_differentiable(*output[3:])
        ctx.save_for_backward(x, share, scale, output[1], *output[3:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, g: Any, to_mean: Any, to_variance: Any, *_: Any) -> Gradients:
        x, share, scale, mean, centred, squares, root = ctx.saved_tensors
        g = torch.zeros_like(x) if g is None else g
        if torch.is_grad_enabled():
            to_x, to_scale, to_shift, *_ = NormalisationBackward.apply(
                g, x, share, scale, mean, centred, squares, root
            )
            return to_x, None, to_scale, to_shift, None
        rows = _Rows(x, share)
        to_x, to_scale, to_shift, pull, shift = _pulled(rows, g, scale, centred, root, to_mean, to_variance)
        # An example's share weighs its values in the mean and their squares in the variance.
        to_share = squares @ pull + (rows.each(centred) + mean) @ shift
        return to_x, to_share, to_scale, to_shift, None


def _pulled(
    rows: _Rows, g: Any, scale: Any, centred: Any, root: Any, to_mean: Any = None, to_variance: Any = None
) -> tuple[torch.Tensor, ...]:
    """Gradients by x, scale and shift, and by variance and mean, all they bring about included."""
    g = rows.flat(g)
    total, along = rows.sum(g), rows.sum(g * centred)
    pull = -0.5 * root**3 * scale * along
    shift = -root * scale * total
    pull = pull if to_variance is None else pull + to_variance
    shift = shift if to_mean is None else shift + to_mean
    inner = torch.addcmul(rows.wide(shift), centred, rows.wide(2 * pull))
    to_x = torch.addcmul(rows.share * inner, g, rows.wide(root * scale))
    return to_x.view(rows.shape), root * along, total, pull, shift


class NormalisationBackward(torch.autograd.Function):
    """The gradients of `Normalisation` by x, scale and shift.

    With column sums [.] over the rows of a channel, q a row's share, c = centred, r = root and s = scale, a
    cotangent (a, d, e) of the three gradients meets them in ::

        psi = r s [a g] - r^3 s [g c] [q a c] - r s [g] [q a] + r d [g c] + e [g],

    whose gradients by g, x, share and scale are the backward pass.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        g: torch.Tensor,
        x: torch.Tensor,
        share: torch.Tensor,
        scale: torch.Tensor,
        mean: torch.Tensor,
        centred: torch.Tensor,
        squares: torch.Tensor,
        root: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        return _pulled(_Rows(x, share), g, scale, centred, root)[:3]

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        g, _, *others = inputs
        ctx.save_for_backward(g, *others, *output[1:])

    @staticmethod
    def backward(ctx: Any, a: torch.Tensor, d: torch.Tensor, e: torch.Tensor) -> Gradients:
        g, share, scale, mean, c, squares, root, scaled, total = ctx.saved_tensors
        rows = _Rows(g, share)
        a, g = rows.flat(a), rows.flat(g)
        along, cube = scaled / root, root**3 * scale
        each_a, each_ac = rows.each(a), rows.each(a * c)
        qa, qac, ag = share @ each_a, share @ each_ac, rows.sum(a * g)
        # by g
        k1 = root * d - cube * qac
        to_g = torch.addcmul(rows.wide(e - root * scale * qa), c, rows.wide(k1))
        to_g = torch.addcmul(to_g, a, rows.wide(root * scale))
        # by the root, thence the variance
        to_root = scale * ag - 3 * root**2 * scale * along * qac - scale * total * qa + d * along
        to_variance = -0.5 * root**3 * to_root
        # by the rows themselves and, through the mean, by all of them
        k2 = -cube * along
        to_mean = -(k1 * total + k2 * qa)
        inner = torch.addcmul(rows.wide(to_mean), c, rows.wide(2 * to_variance))
        inner = torch.addcmul(inner, a, rows.wide(k2))
        to_x = torch.addcmul(rows.share * inner, g, rows.wide(k1))
        to_share = (
            each_ac @ k2
            - each_a @ (root * scale * total)
            + squares @ to_variance
            + (rows.each(c) + mean) @ to_mean
        )
        to_scale = root * ag - root**3 * along * qac - root * total * qa
        shape = rows.shape
        return to_g.view(shape), to_x.view(shape), to_share, to_scale, None, None, None, None


class _Rows:
    """Images ``(b, h, w, c)`` as rows ``(b h, w c)``, for wide rows are what vector units like."""

    def __init__(self, x: torch.Tensor, share: torch.Tensor) -> None:
        self.shape = x.shape
        self.b, self.height, self.width, self.c = x.shape
        self.pixels = self.height * self.width
        self.share = (share / self.pixels).repeat_interleave(self.height)[:, None]

    def flat(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(self.b * self.height, -1)

    def wide(self, channels: torch.Tensor) -> torch.Tensor:
        """``(c,)`` for all pixels of a row."""
        return channels.repeat(self.width)

    def sum(self, flat: torch.Tensor) -> torch.Tensor:
        """Over all rows and pixels, ``(c,)``."""
        return flat.sum(0).view(self.width, self.c).sum(0)

    def each(self, flat: torch.Tensor) -> torch.Tensor:
        """Mean over the pixels of an example, ``(b, c)``."""
        return flat.view(self.b, self.pixels, self.c).mean(1)
