"""Convolution for stacks on a CPU, where `torch.func.vmap` would make of it a grouped convolution, several
times slower than one model after the other.

It is written per model, in operations that map well: the windows of the images are copied out and multiplied,
which for a stack is a batched matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from whence.training.batchnorm import closed_form, evaluating_stacks

Pair = tuple[int, int]


@contextmanager
def stacking(device: torch.device) -> Iterator[None]:
    """Within this context 2d convolutions on a CPU are computed in the way of this module, and weighted batch
    norm in closed form; on a GPU batch norm in evaluation mode is one that can be mapped."""
    if device.type != "cpu":
        with evaluating_stacks(device):
            yield
        return
    with _Convolutions(), closed_form():
        yield


class _Convolutions(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d:
            with torch._C.DisableTorchFunction():
                return _conv2d(*args, **kwargs)
        if function in (torch.flatten, torch.Tensor.flatten) and args and args[0].ndim == 4:
            with torch._C.DisableTorchFunction():
                x = ChannelsLast.apply(args[0].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
                return torch.flatten(x, *args[1:], **kwargs)
        return function(*args, **kwargs)


def _conv2d(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair | str = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> torch.Tensor:
    if groups != 1 or _pair(dilation) != (1, 1) or isinstance(padding, str) or x.ndim != 4:
        return torch.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(kind), weight.to(kind), None if bias is None else bias.to(kind)
    with torch.autocast(x.device.type, enabled=False):
        last = x.permute(0, 2, 3, 1)
        y, _ = Convolution.apply(last, weight, _pair(stride), _pair(padding))
        return (y if bias is None else y + bias).permute(0, 3, 1, 2)


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


class Convolution(torch.autograd.Function):
    """``(b, h, w, c)`` and ``(o, c, kh, kw)`` to ``(b, h', w', o)``, and the windows for the backward
    pass."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: torch.Tensor, weight: torch.Tensor, stride: Pair, padding: Pair
    ) -> tuple[torch.Tensor, torch.Tensor]:
        (kh, kw), (down, across) = weight.shape[2:], padding
        if down or across:
            x = F.pad(x, (0, 0, across, across, down, down))
        windows, shape = _windows(x, (kh, kw), stride)
        return (windows @ _matrix(weight)).view(*shape, -1), windows

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, ctx.stride, ctx.padding = inputs
        ctx.shape = x.shape
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, _: Any) -> tuple[Any, ...]:
        windows, weight = ctx.saved_tensors
        o, c, kh, kw = weight.shape
        to_weight = to_x = None
        if ctx.needs_input_grad[1]:
            rows = gradient.reshape(-1, o)
            to_weight = (rows.transpose(0, 1) @ windows).view(o, kh, kw, c).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            to_x = _to_input(gradient, weight, ctx.shape, ctx.stride, ctx.padding)
        return to_x, to_weight, None, None


def _windows(x: torch.Tensor, kernel: Pair, stride: Pair) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """The windows of ``x (b, h, w, c)`` as rows ``(b h' w', kh kw c)``, and (b, h', w')."""
    # A row of a window lies in memory in one piece; in long words it is copied faster.
    c, size = x.shape[3], x.element_size()
    pieces = [length * c * size for length in (kernel[1], stride[1], x.shape[2])]
    words = (torch.int64, torch.int32) if _reinterprets() else ()
    fitting = (w for w in words if size <= w.itemsize and all(piece % w.itemsize == 0 for piece in pieces))
    word = next(fitting, x.dtype)
    run, step = (piece // word.itemsize for piece in pieces[:2])
    flat = _as(x.reshape(*x.shape[:2], -1), word)
    view = flat.unfold(1, kernel[0], stride[0]).unfold(2, run, step)
    b, height, width = view.shape[:3]
    return _as(view.reshape(b * height * width, -1), x.dtype), (b, height, width)


def _as(x: torch.Tensor, kind: torch.dtype) -> torch.Tensor:
    # A version that cannot map view(dtype) cannot map one to the same type either.
    return x if x.dtype == kind else x.view(kind)


@cache
def _reinterprets() -> bool:
    """Whether this version of PyTorch can map ``view(dtype)`` (2.11 cannot)."""
    try:
        torch.func.vmap(lambda x: x.view(torch.int64))(torch.zeros(1, 2))
    except RuntimeError:
        return False
    return True


def _matrix(weight: torch.Tensor) -> torch.Tensor:
    return weight.permute(2, 3, 1, 0).reshape(-1, len(weight))


def _to_input(
    gradient: torch.Tensor, weight: torch.Tensor, shape: torch.Size, stride: Pair, padding: Pair
) -> torch.Tensor:
    """The gradient of the input, `shape` ``(b, h, w, c)``, as one product again.

    The input is cut into blocks of the size of the stride. All pixels of a block are reached by the same few
    windows, ``ceil(k / stride)`` each way, so that this is a convolution of stride 1 from windows to blocks;
    adding the windows' shares up in place would be slower and, in bfloat16, less exact.
    """
    o, c = weight.shape[:2]
    axes = [
        _Axis(*sizes)
        for sizes in zip(weight.shape[2:], shape[1:3], gradient.shape[1:3], stride, padding, strict=True)
    ]
    (down, across), (sh, sw) = axes, stride
    taps = F.pad(weight, (*across.lengthen, *down.lengthen))
    taps = taps.view(o, c, down.taps, sh, across.taps, sw).permute(2, 4, 0, 3, 5, 1)
    backwards = [taps[i, j] for i in reversed(range(down.taps)) for j in reversed(range(across.taps))]
    matrix = torch.stack(backwards).view(-1, sh * sw * c)  # `flip` is slow
    padded = F.pad(gradient, (0, 0, across.before, across.after, down.before, down.after))
    windows, (b, tall, wide) = _windows(padded, (down.taps, across.taps), (1, 1))
    blocks = windows @ matrix
    image = (
        blocks.view(b, tall, wide, sh, sw, c).permute(0, 1, 3, 2, 4, 5).reshape(b, tall * sh, wide * sw, c)
    )
    return image[:, down.skip : down.skip + shape[1], across.skip : across.skip + shape[2]]


class _Axis:
    """How one axis of an input is covered by blocks: `taps` windows reach each; windows to add `before` and
    `after` those that there are, negative to leave some out; pixels to `skip` in the first block."""

    def __init__(self, kernel: int, size: int, windows: int, stride: int, padding: int) -> None:
        self.taps = -(-kernel // stride)
        spare = self.taps * stride - kernel
        lead = -padding % stride  # blocks begin with the image if zeros before the kernel can bring it about
        lead = lead if lead <= spare else 0
        self.lengthen = (lead, spare - lead)
        first = (padding + lead) // stride  # blocks before are padding only
        self.before = self.taps - 1 - first
        self.after = -(-(padding + lead + size) // stride) - windows
        self.skip = padding + lead - first * stride


class ChannelsLast(torch.autograd.Function):
    """The identity of ``(b, h, w, c)`` with a contiguous gradient; see `whence.training.layout`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.contiguous()
