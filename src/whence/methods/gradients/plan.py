"""Forecast of memory, disk and time of a pass over gradients, before it starts, and block sizes that keep to
a memory cap."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from whence.errors import InputError
from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer, Piece
from whence.methods.gradients.projection import Projection
from whence.methods.gradients.streaming import DOUBLED

if TYPE_CHECKING:
    from whence.training.data import OnDemand, Resident

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_KEPT = 3  # times over that a batch's layer inputs and gradients are held: by autograd, by us, and in a copy
_FLOAT, _DOUBLE = 4, 8
OVERHEAD = 80 * 2**20  # what torch and zarr set up when first used
_DISK_RATE = 5e8  # bytes a second, taken to be so: mostly the system's own memory is written to
_PROBED, _TIMED = 4, 64  # examples
_BLOCK = 8 * 2**20  # bytes of rows in a file, at most: larger ones are no faster


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
    """What projecting and scoring will take, where nothing is stored yet.

    Attributes
    ----------
    memory : bytes that the pass adds to a process that holds the study: its arrays may lie on disk
    disk : bytes of the store, and of scores that are written
    seconds : of gradients, Gram matrices and scores, by timing a few examples
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
            f"{_words(self.memory)} of memory, {_words(self.disk)} on disk, about {_time(self.seconds)} "
            f"({self.batch} examples a pass, blocks of {self.block:,})"
        )

    def print(self, console: Console | None = None) -> None:
        """One line."""
        (console or Console(stderr=True)).print(f"forecast: {self}", highlight=False)


def forecast(
    network: Network,
    scalar: Scalar,
    *,
    size: int,
    checkpoints: int = 1,
    targets: int | None = None,
    memory: int | str = "1GiB",
    write_scores: bool = False,
    ridges: int = 1,
) -> Forecast:
    """Forecast for a loaded network, from the gradients of a few of its training examples.

    Parameters
    ----------
    size : dimensions that gradients are projected to
    checkpoints : that will be stored
    targets : that will be scored; the network's if None
    memory : cap that batches and blocks are cut to
    write_scores : count (targets, n) scores as disk
    ridges : at which the targets' side is kept

    Raises
    ------
    InputError : the cap is too low for one example, or for the Gram matrix.
    """
    cap, n = bytes_of(memory), len(network.train.y)
    targets = len(network.targets.y) if targets is None else targets
    projection = Projection(size)
    probe = _probe(network, network.train, scalar, projection, cap)
    held = OVERHEAD + probe.held + 8 * n * (checkpoints + 2)  # 1 - p of each, their mean, and labels
    held += checkpoints * ridges * targets * size * _FLOAT
    # the Gram matrix, its factor, and the targets' side: as it came, in double, turned, and solved
    solving = 3 * size * size * _DOUBLE + targets * size * (2 * _FLOAT + 3 * _DOUBLE)
    solving += DOUBLED * size * _DOUBLE
    # rows on their way from the disk: they end in the Gram matrix, or in scores on their way to the disk
    gram_row = size * 3 * _FLOAT
    score_row = size * 3 * _FLOAT + targets * 3 * _FLOAT
    room = cap - held
    least = max(probe.matrices + probe.each + 2 * size * _FLOAT, solving + gram_row, score_row)
    if room < least:
        raise InputError(
            f"memory is {_words(cap)}, but {size} dimensions, {checkpoints} checkpoints and {targets} "
            f"targets need at least {_words(held + least)}; raise memory, or lower the projection or the "
            "number of targets."
        )
    fill_row = 2 * size * _FLOAT  # as made, and as written
    filling = (room - probe.matrices) // 2
    rows = _BLOCK // (size * _FLOAT)
    block = int(min(n, rows, filling // fill_row, (room - solving) // gram_row, room // score_row))
    block = max(1, block)
    batch = int(max(1, min(n, 256, (room - probe.matrices - block * fill_row) // probe.each)))
    used = held + max(
        probe.matrices + batch * probe.each + block * fill_row,
        solving + block * gram_row,
        block * score_row,
    )
    scores = n * targets * _FLOAT if write_scores else 0
    disk = checkpoints * n * size * _FLOAT + scores
    seconds = checkpoints * (
        probe.seconds * (n + targets)
        + _arithmetic(n * size * size, torch.float64)
        + ridges * _arithmetic(size * size * (size // 3 + 2 * targets), torch.float64)
        + _arithmetic(n * size * targets, torch.float32)
        + 3 * n * size * _FLOAT / _DISK_RATE  # written once, read for the Gram matrix and for the scores
    )
    return Forecast(int(used), int(disk), seconds + scores / _DISK_RATE, batch, block)


@dataclass(frozen=True)
class _Probe:
    """Bytes an example of a batch, bytes of the projection's random numbers, bytes held all along (targets,
    weights), seconds an example."""

    each: int
    matrices: int
    held: int
    seconds: float


def _probe(
    network: Network, data: OnDemand | Resident, scalar: Scalar, projection: Projection, cap: int
) -> _Probe:
    count = min(_PROBED, len(data.y))
    _, x, y = next(network.batches(data, count))
    pieces = gradients(network, x, y, scalar)
    each = -(-_KEPT * (sum(_held(piece, projection) for piece in pieces) + _bytes(x)) // count)
    projection(pieces)  # draws the random numbers
    del pieces
    count = int(max(1, min(_TIMED, len(data.y), cap // 4 // max(1, each))))
    _wait(network.device)
    start = time.perf_counter()
    _, x, y = next(network.batches(data, count))
    projection(gradients(network, x, y, scalar))
    with torch.no_grad():
        network.module(x)  # for the probabilities
    _wait(network.device)
    seconds = (time.perf_counter() - start) / count
    weights = sum(_bytes(t) for t in (*network.parameters.values(), *network.buffers.values()))
    return _Probe(int(each), projection.bytes, _bytes(network.targets.x) + 3 * weights, seconds)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _arithmetic(products: int, dtype: torch.dtype) -> float:
    """Seconds that so many multiplications of a matrix product take."""
    side = 512
    left, right = torch.ones(side, side, dtype=dtype), torch.ones(side, side, dtype=dtype)
    left @ right
    start = time.perf_counter()
    left @ right
    return (time.perf_counter() - start) * products / side**3


def _held(piece: Piece, projection: Projection) -> int:
    if not isinstance(piece, Outer):
        return 2 * _bytes(piece.g)
    left, right = projection.sides(piece)
    return _bytes(piece.a) + _bytes(piece.b) + len(piece.b) * left * right * _FLOAT


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _words(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 90 else f"{seconds / 60:.2g} min"
