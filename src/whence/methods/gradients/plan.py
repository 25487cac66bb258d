"""Forecast of memory, disk and time of a pass over gradients, before it starts, and block sizes that keep to
a memory cap."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from whence.errors import InputError
from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer, Piece
from whence.methods.gradients.projection import Projection

if TYPE_CHECKING:
    import torch

    from whence.training.data import Resident

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_KEPT = 3  # times over that a batch's layer inputs and gradients are held: by autograd, by us, and in a copy
_FLOAT, _DOUBLE = 4, 8


def bytes_of(memory: int | str) -> int:
    """Bytes of a number of them or of a text such as "1GiB" or "500 MB"."""
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?|)b?\s*", str(memory).lower())
    if not found or float(found[1]) <= 0:
        raise InputError(f"memory must be bytes or a text such as '1GiB', received {memory!r}.")
    return int(float(found[1]) * _UNITS[found[2]])


@dataclass(frozen=True)
class Forecast:
    """What projecting and scoring will take.

    Attributes
    ----------
    memory : bytes that the pass adds to what the study and its network hold already
    disk : bytes of the store, and of scores that are written
    seconds : of the gradients, by timing a few examples; scoring is not counted
    batch : examples a backward pass
    block : training examples read, scored and written at a time
    """

    memory: int
    disk: int
    seconds: float
    batch: int
    block: int

    def __str__(self) -> str:
        return (
            f"{_words(self.memory)} of memory, {_words(self.disk)} on disk, about {_time(self.seconds)} of "
            f"gradients ({self.batch} examples a pass, blocks of {self.block:,})"
        )

    def print(self, console: Console | None = None) -> None:
        """One line."""
        (console or Console(stderr=True)).print(f"gradients: {self}", highlight=False)


def forecast(
    network: Network,
    scalar: Scalar,
    *,
    size: int,
    checkpoints: int = 1,
    targets: int | None = None,
    memory: int | str = "1GiB",
    write_scores: bool = False,
) -> Forecast:
    """Forecast for a loaded network, from the gradients of a few of its training examples.

    Parameters
    ----------
    size : dimensions that gradients are projected to
    checkpoints : that will be stored
    targets : that will be scored; the network's if None
    memory : cap that batches and blocks are cut to
    write_scores : count (targets, n) scores as disk

    Raises
    ------
    InputError : the cap is too low for one example, or for the Gram matrix.
    """
    cap, n = bytes_of(memory), len(network.train.y)
    targets = len(network.targets.y) if targets is None else targets
    projection = Projection(size)
    each, matrices, seconds = _probe(network, network.train, scalar, projection)
    # the Gram matrix with its factor and a copy, and the targets' side as it is solved
    gram = 3 * size * size * _DOUBLE
    queries = checkpoints * targets * size * _FLOAT + 2 * targets * size * _DOUBLE
    # rows as read and in float64, and their scores as summed and as written
    row = size * (2 * _FLOAT + _DOUBLE) + targets * 2 * _FLOAT
    gradient_room, score_room = cap - matrices, cap - gram - queries
    if gradient_room < each + size * _FLOAT or score_room < row:
        least = max(matrices + each + row, gram + queries + row)
        raise InputError(
            f"memory is {_words(cap)}, but {size} dimensions and {targets} targets need at least "
            f"{_words(least)}; raise memory, or lower the projection or the number of targets."
        )
    block = int(max(1, min(n, 4096, score_room // row, gradient_room // 2 // (2 * size * _FLOAT))))
    batch = int(max(1, min(n, 256, (gradient_room - block * size * _FLOAT) // each)))
    used = max(matrices + batch * each + block * size * _FLOAT, gram + queries + block * row)
    disk = checkpoints * n * size * _FLOAT + (n * targets * _FLOAT if write_scores else 0)
    return Forecast(int(used), int(disk), seconds * (n + targets) * checkpoints, batch, block)


def _probe(
    network: Network, data: Resident, scalar: Scalar, projection: Projection
) -> tuple[int, int, float]:
    """Bytes an example, bytes of the projection's matrices, seconds an example."""
    count = min(32, len(data.y))
    _, x, y = next(network.batches(data, count))
    pieces = gradients(network, x, y, scalar)
    projection(pieces)  # draws the matrices
    start = time.perf_counter()
    projection(gradients(network, x, y, scalar))
    seconds = (time.perf_counter() - start) / count
    held = sum(_held(piece, projection.size) for piece in pieces) + _bytes(x)
    return -(-_KEPT * held // count), projection.bytes, seconds


def _held(piece: Piece, size: int) -> int:
    projected = len(piece.b if isinstance(piece, Outer) else piece.g) * size * _FLOAT
    if isinstance(piece, Outer):
        return _bytes(piece.a) + _bytes(piece.b) + projected
    return _bytes(piece.g) + projected


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _words(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 90 else f"{seconds / 60:.2g} min"
