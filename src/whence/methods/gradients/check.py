"""Is a network fit for per-example gradients? One sentence about what is wrong, before a long pass starts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from whence.errors import InputError
from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Piece

_TOLERANCE = 1e-3  # of the largest number in a layer: float32 sums in another order stay far below
_HALF_TOLERANCE = 0.1  # and those of a network in half precision


def check(network: Network, scalar: Scalar, count: int = 8, *, ridge: float | None = None) -> None:
    """Take the gradients of a few training examples alone and in company.

    Parameters
    ----------
    ridge : what is added to the matrix that gradients will be multiplied by the inverse of; None where no
        inverse is taken

    Raises
    ------
    InputError : weights in half precision and an inverse without ridge; in-place operations; gradients that
        are not finite; gradients that depend on the other examples of the batch. The message names the layer.
    """
    half = _half(network)
    if half is not None and ridge is not None and not ridge > 0:
        name, kind = half
        raise InputError(
            f"{name} is {kind}, and rounding of that size decides what an inverse without ridge gives; add a "
            "ridge (damping), or call .float() on the network."
        )
    tolerance = _TOLERANCE if half is None else _HALF_TOLERANCE
    _, x, y = next(network.batches(network.train, min(count, len(network.train.y))))
    together = gradients(network, x, y, scalar)
    for piece in together:
        bad = (~torch.isfinite(piece.flat()).all(1)).nonzero()
        if len(bad):
            raise InputError(
                f"the gradient of training example {int(bad[0, 0])} at {_called(piece.name)} is not finite; "
                "look at its input and at the checkpoint."
            )
    for i in range(len(x)):
        alone = gradients(network, x[i : i + 1], y[i : i + 1], scalar)
        if _differ(together, alone, i, tolerance):
            raise InputError(
                "the gradient of an example depends on the others of its batch, because of "
                f"{_culprit(network, x, tolerance)}; use a layer that treats examples one by one."
            )


def _half(network: Network) -> tuple[str, str] | None:
    """The first parameter in half precision, and its type."""
    for name, weight in network.parameters.items():
        if weight.dtype in (torch.float16, torch.bfloat16):
            return name, str(weight.dtype).removeprefix("torch.")
    return None


def _differ(together: list[Piece], alone: list[Piece], i: int, tolerance: float) -> bool:
    scales = [float(piece.flat()[i].abs().max()) if piece.size else 0.0 for piece in together]
    noise = 1e-4 * tolerance * max(scales, default=0.0)  # of gradients that cancel
    for many, one in zip(together, alone, strict=True):
        left, right = many.flat()[i], one.flat()[0]
        scale = max(float(left.abs().max()), float(right.abs().max())) if left.numel() else 0.0
        if scale and float((left - right).abs().max()) > tolerance * scale + noise:
            return True
    return False


def _culprit(network: Network, x: torch.Tensor, tolerance: float) -> str:
    """The innermost module whose inputs agree alone and in company, and whose output does not."""
    together, alone = _trace(network.module, x), _trace(network.module, x[:1])
    for name, (inputs, output) in together.items():
        if name not in alone:
            continue
        other_inputs, other_output = alone[name]
        same = all(_same(a, b, tolerance) for a, b in zip(inputs, other_inputs, strict=True))
        if same and not all(_same(a, b, tolerance) for a, b in zip(output, other_output, strict=True)):
            module = network.module.get_submodule(name)
            return f"{_called(name)} ({type(module).__name__})"
    return "an operation between its layers"


def _trace(module: nn.Module, x: torch.Tensor) -> dict[str, tuple[list[Any], list[Any]]]:
    """Inputs and outputs of every module's first call. Modules inside others come first."""
    seen: dict[str, tuple[list[Any], list[Any]]] = {}

    def hook(name: str) -> Any:
        def keep(_: nn.Module, inputs: Any, output: Any) -> None:
            outputs = list(output) if isinstance(output, tuple | list) else [output]
            seen.setdefault(name, ([_copy(t) for t in inputs], [_copy(t) for t in outputs]))

        return keep

    with ExitStack() as stack, torch.no_grad():
        for name, part in module.named_modules():
            stack.callback(part.register_forward_hook(hook(name)).remove)
        module(x)
    return seen


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


def _same(many: Any, one: Any, tolerance: float) -> bool:
    if not (isinstance(many, torch.Tensor) and isinstance(one, torch.Tensor)) or not many.ndim:
        return True
    left, right = many[:1], one
    if left.shape != right.shape:
        return True  # not a batch of examples
    if not left.is_floating_point():
        return bool((left == right).all())
    scale = max(float(left.abs().max()), float(right.abs().max())) if left.numel() else 0.0
    return float((left - right).abs().max() if left.numel() else 0.0) <= tolerance * scale


def _called(name: str) -> str:
    return f"layer {name!r}" if name else "the network"
