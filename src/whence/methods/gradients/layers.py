"""Per-example gradients layer by layer, from one forward and one backward pass of a batch.

For a layer with weight W that maps a to W a, the gradient of example i is sum_l b_il a_il', with b the
gradient at the layer's output and l the positions it is applied to (tokens, pixels, several calls). Kept as
the pair (a, b), it can be projected or multiplied with another example's without ever being formed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from whence.errors import InputError
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Flat, Piece, Tensors, together, wide
from whence.methods.gradients.rules import Call, has_rule, is_small, piece_of
from whence.training.reproducible import reproducible

Scalar = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # logits (b, c), labels (b,) -> (b,)
_PROBES = (2, 3)  # batch sizes by which a layer's axis of examples is told from others of the same length
_TOLERANCE = 1e-3  # of a sum of gradients, float32; in half precision 32 times that


@dataclass
class Layout:
    """Which parameters are reached how.

    Attributes
    ----------
    covered : layers whose gradients follow from their inputs and from the gradients at their outputs
    spread : those of them that are called once for the whole batch (positions), with a batch axis of 1
    groups : names of layers that share parameters, and whose gradients are added up
    rest : names of all other parameters: by `torch.func` through the whole network
    names : parameter id -> name
    mapped : whether `torch.func.vmap` goes through the network; where not, examples go one by one
    """

    covered: dict[str, nn.Module]
    spread: set[str]
    groups: list[list[str]]
    rest: list[str]
    names: dict[int, str]
    mapped: bool = True


def gradients(network: Network, x: torch.Tensor, y: torch.Tensor, scalar: Scalar) -> list[Piece]:
    """Gradients of ``scalar(logits, y)`` (b,), example by example, at the network's weights.

    Layers come in the order of the network, those that share parameters as one; what cannot be taken layer by
    layer comes last. A network in half precision gives float32 gradients: sums over positions and examples
    are never taken in half.

    Raises
    ------
    InputError : the network writes over what its gradient needs, or returns no plain logits.
    """
    with reproducible(network.device):
        if network.layout is None:
            network.layout = _layout(network, x, y)
        return _pieces(network, network.layout, x, y, scalar)


def _pieces(
    network: Network, layout: Layout, x: torch.Tensor, y: torch.Tensor, scalar: Scalar
) -> list[Piece]:
    made: dict[str, list[Call]] = {name: [] for name in layout.covered}
    with ExitStack() as stack, torch.enable_grad():
        for name, layer in layout.covered.items():
            hook = _catch(made[name], len(x) if name in layout.spread else 0)
            stack.callback(layer.register_forward_hook(hook, with_kwargs=True).remove)
        with _in_place_is_clear():
            values = scalar(wide(network.module(x)), y)
            outputs = [output for calls in made.values() for _, output in calls]
            found = torch.autograd.grad(values.sum(), outputs, allow_unused=True) if outputs else ()
    grads = iter(found)
    pieces: dict[str, Piece] = {}
    for name, layer in layout.covered.items():
        both = [(a, next(grads)) for a, _ in made[name]]
        calls = [(wide(a), wide(b)) for a, b in both if b is not None]
        pieces[name] = piece_of(name, layer, layout.names, calls, len(x))
    for group in layout.groups:
        first, *others = group
        pieces[first] = together([pieces[first], *(pieces.pop(name) for name in others)])
    result = list(pieces.values())
    if layout.rest:
        result.append(_by_func(network, layout, x, y, scalar))
    return result


class _in_place_is_clear:
    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, problem: Any, trace: Any) -> None:
        if isinstance(problem, RuntimeError) and ("inplace" in str(problem) or "in-place" in str(problem)):
            raise InputError(
                "the network overwrites a value that its gradient needs (an in-place operation such as "
                "ReLU(inplace=True) or +=); use the out-of-place form."
            ) from problem


def _catch(calls: list[Call], count: int) -> Callable[..., torch.Tensor]:
    def hook(layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> torch.Tensor:
        a = _input(inputs, named).detach()
        if count and len(output) == 1:
            a, output = a.expand(count, *a.shape[1:]), output.expand(count, *output.shape[1:])
        calls.append((a, output))
        return output.clone()  # an in-place activation behind the layer writes into the copy

    return hook


def _input(inputs: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
    return inputs[0] if inputs else next(iter(named.values()))


def _layout(network: Network, x: torch.Tensor, y: torch.Tensor) -> Layout:
    """Look at the calls of every layer in batches of two sizes, then compare with plain autograd: a weight
    that is also used outside its layer gives itself away."""
    names = {id(p): name for name, p in network.module.named_parameters()}
    shapes = [_shapes(network, x[:1].repeat_interleave(size, 0)) for size in _PROBES]
    covered, spread = {}, set()
    for name, layer in network.module.named_modules():
        own = list(layer.parameters(recurse=False))
        if not own or not all(p.requires_grad for p in own) or not (has_rule(layer) or is_small(layer)):
            continue
        calls = [seen.get(name, []) for seen in shapes]
        if all(_regular(call, size) for made, size in zip(calls, _PROBES, strict=True) for call in made):
            covered[name] = layer
        elif isinstance(layer, nn.Embedding) and all(_single(call) for made in calls for call in made):
            covered[name] = layer
            spread.add(name)
    x, y = x[: _PROBES[-1]], y[: _PROBES[-1]]
    wanted = _summed(network, x, y)
    while True:
        layout = _settle(network, covered, spread, names)
        bad = _wrong(network, layout, wanted, x, y)
        if not bad:
            return layout
        covered = {k: v for k, v in layout.covered.items() if k not in bad}


def _settle(
    network: Network, covered: dict[str, nn.Module], spread: set[str], names: dict[int, str]
) -> Layout:
    """Parameters that a layer out of reach shares are out of reach too."""
    while True:
        out = {
            id(p)
            for name, layer in network.module.named_modules()
            if name not in covered
            for p in layer.parameters(recurse=False)
        }
        lost = [k for k, v in covered.items() if any(id(p) in out for p in v.parameters(recurse=False))]
        if not lost:
            break
        covered = {k: v for k, v in covered.items() if k not in lost}
    owners: dict[int, list[str]] = {}
    groups: list[list[str]] = []
    for name, layer in covered.items():
        for p in layer.parameters(recurse=False):
            owners.setdefault(id(p), []).append(name)
    for sharing in owners.values():
        if len(sharing) > 1:
            linked = [group for group in groups if set(group) & set(sharing)]
            merged = {name for group in [*linked, sharing] for name in group}
            groups = [group for group in groups if group not in linked]
            groups.append([name for name in covered if name in merged])
    rest = [k for k, p in network.module.named_parameters() if p.requires_grad and id(p) not in owners]
    return Layout(covered, spread & set(covered), groups, rest, names)


def _shapes(network: Network, x: torch.Tensor) -> dict[str, list[Any]]:
    """Layer -> shapes of input and output of each call, None for a call that is not one tensor to one."""
    seen: dict[str, list[Any]] = {}

    def hook(name: str) -> Any:
        def keep(_: nn.Module, inputs: Any, named: Any, output: Any) -> None:
            given = [*inputs, *named.values()]
            plain = len(given) == 1 and all(isinstance(t, torch.Tensor) for t in (*given, output))
            seen.setdefault(name, []).append((given[0].shape, output.shape) if plain else None)

        return keep

    with ExitStack() as stack, torch.no_grad():
        for name, part in network.module.named_modules():
            stack.callback(part.register_forward_hook(hook(name), with_kwargs=True).remove)
        network.module(x)
    return seen


def _regular(call: Any, size: int) -> bool:
    return call is not None and all(len(shape) > 0 and shape[0] == size for shape in call)


def _single(call: Any) -> bool:
    return call is not None and len(call[0]) == 2 and call[0][0] == 1


def _summed(network: Network, x: torch.Tensor, y: torch.Tensor) -> Tensors:
    """Gradients of the loss summed over the batch, by plain autograd."""
    moving = {k: p for k, p in network.module.named_parameters() if p.requires_grad}
    with torch.enable_grad(), _in_place_is_clear():
        value = network.loss(wide(network.module(x)), y).sum()
        found = torch.autograd.grad(value, list(moving.values()), allow_unused=True, materialize_grads=True)
    return {k: wide(g) for k, g in zip(moving, found, strict=True)}


def _wrong(network: Network, layout: Layout, wanted: Tensors, x: torch.Tensor, y: torch.Tensor) -> set[str]:
    """Layers whose gradients do not add up to those of plain autograd, or cannot be taken."""
    without = Layout(layout.covered, layout.spread, [], [], layout.names)
    found: Tensors = {}
    owners: dict[str, list[str]] = {}
    try:
        for piece in _pieces(network, without, x, y, network.loss):
            for key, g in piece.parameters().items():
                found[key] = found[key] + g.sum(0) if key in found else g.sum(0)
                owners.setdefault(key, []).append(piece.name)
    except RuntimeError:  # a layer that torch.func does not go through
        return {name for name, layer in layout.covered.items() if not has_rule(layer)}
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in network.parameters.values())
    limit = _TOLERANCE * (32 if half else 1)
    largest = {key: float(g.abs().max()) if g.numel() else 0.0 for key, g in wanted.items()}
    noise = (
        1e-2 * limit * max(largest.values(), default=0.0)
    )  # of gradients that cancel, such as a key's bias
    bad = set()
    for key, total in found.items():
        error = float((total - wanted[key]).abs().max()) if total.numel() else 0.0
        if error > limit * largest[key] + noise:
            bad |= set(owners[key])
    return bad


def _by_func(network: Network, layout: Layout, x: torch.Tensor, y: torch.Tensor, scalar: Scalar) -> Flat:
    keys = layout.rest
    fixed = {k: v for k, v in network.parameters.items() if k not in keys}
    moving = {k: network.parameters[k] for k in keys}

    def one(moving: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return scalar(network.logits({**fixed, **moving}, x[None]), y[None])[0]

    grads: Tensors | None = None
    if layout.mapped:
        try:
            grads = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(moving, x, y)
        except RuntimeError:
            layout.mapped = False
    if grads is None:
        try:
            each = [torch.func.grad(one)(moving, x[i], y[i]) for i in range(len(x))]
        except (RuntimeError, ValueError) as problem:
            words = str(problem).splitlines()[0]
            raise InputError(
                f"the gradient of {keys[0]} cannot be taken example by example: {words}"
            ) from problem
        grads = {k: torch.stack([found[k] for found in each]) for k in keys}
    return Flat(
        "others",
        wide(torch.cat([grads[k].flatten(1) for k in keys], dim=1)),
        tuple(keys),
        tuple(network.parameters[k].shape for k in keys),
    )
