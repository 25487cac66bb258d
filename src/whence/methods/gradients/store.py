"""GradientStore: projected gradients of the training examples on disk, made once and read for every query.

A Zarr group holds, for each checkpoint, an array (n, size) of float32 in blocks of rows, and the checksum of
every block, written after it. A block without its checksum counts as not made, so that a run that was stopped
goes on with the first block that is missing. One process at a time fills a checkpoint: it holds a claim, as
writers of a bank do.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from zarr.errors import ContainsGroupError

from whence.bank._files import write_atomic
from whence.bank.claims import Claims
from whence.bank.errors import disk_full_is_clear
from whence.errors import InputError
from whence.methods.gradients.layers import Scalar, gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.projection import Projection

_FORMAT = "whence gradients 2"
_ABSENT = -1
_CLAIMS = "claims"


class GradientStore:
    """Projected gradients of a study at some checkpoints.

    Parameters
    ----------
    path : directory; made if absent
    study : fingerprint of the study whose training examples these are
    n, size : training examples, and dimensions of a gradient
    what : name of the number differentiated, e.g. "margin"
    seed : of the projection
    block : rows a block, of a store that is new

    Raises
    ------
    InputError : what lies at `path` is something else, or of another study, size, seed or number.
    """

    def __init__(
        self, path: str | Path, *, study: str, n: int, size: int, what: str, seed: int = 0, block: int = 1024
    ) -> None:
        if n < 1 or size < 1 or block < 1:
            raise InputError(f"n, size and block must be at least 1, received {n}, {size} and {block}.")
        self.path = Path(path)
        self.n, self.size, self.seed = n, size, seed
        wanted = {"format": _FORMAT, "study": study, "n": n, "size": size, "what": what, "seed": seed}
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            self._group = self._open(wanted)
        else:
            try:
                self._group = zarr.create_group(str(self.path), attributes={**wanted, "block": min(block, n)})
            except ContainsGroupError:  # another process was faster
                self._group = self._open(wanted)
        self.block = int(self._attribute("block"))

    def _open(self, wanted: dict[str, Any]) -> zarr.Group:
        try:
            group = zarr.open_group(str(self.path), mode="r+")
        except (FileNotFoundError, ValueError, OSError, KeyError) as problem:
            raise InputError(f"{self.path} holds something else; name a directory of its own.") from problem
        for key, value in wanted.items():
            if group.attrs.get(key) != value:
                raise InputError(
                    f"{self.path} is a store with {key} {group.attrs.get(key)!r}, not {value!r}; name "
                    "another directory."
                )
        return group

    def _attribute(self, key: str) -> Any:
        return self._group.attrs[key]

    @property
    def checkpoints(self) -> list[str]:
        """Keys of the checkpoints that are complete."""
        names = sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir())
        return [key for key in names if key != _CLAIMS and self._begun(key) and not self.absent(key)]

    def absent(self, key: str) -> list[int]:
        """Blocks of a checkpoint that are not made."""
        if not self._begun(key):
            return list(range(-(-self.n // self.block)))
        return np.flatnonzero(self._array(key, "checksums")[:] == _ABSENT).tolist()

    def fill(self, network: Network, scalar: Scalar, *, number: int = 0, batch: int = 256) -> str:
        """Store the gradients of `scalar` at the weights loaded in `network`; returns the checkpoint's key.

        What is there already is kept. The projection's seed is the store's plus `number`, the checkpoint's
        place in the ensemble, as in TRAK.

        Raises
        ------
        InputError : a gradient is not finite, the network has another number of training examples, or another
            process is at this checkpoint.
        """
        if len(network.train.y) != self.n:
            raise InputError(f"the store is of {self.n} examples, the network has {len(network.train.y)}.")
        key = weights_key(network, number)
        if not self.absent(key):
            return key
        (self.path / _CLAIMS).mkdir(exist_ok=True)
        claims = Claims(self.path / _CLAIMS)
        if not claims.take(int(key, 16)):
            raise InputError(
                f"another process is filling checkpoint {key} of {self.path}; wait until it is done, or name "
                "another store."
            )
        try:
            if not self._begun(key):
                self._create(key)
            projection = Projection(self.size, self.seed + number)
            for index in self.absent(key):
                rows = self._rows(network, scalar, projection, self._span(index), batch, claims)
                self._write(key, index, rows)
        finally:
            claims.release_all()
        return key

    def _rows(
        self,
        network: Network,
        scalar: Scalar,
        projection: Projection,
        span: slice,
        batch: int,
        claims: Claims,
    ) -> np.ndarray:
        found = np.empty((span.stop - span.start, self.size), dtype=np.float32)
        for start in range(span.start, span.stop, batch):
            part = slice(start, min(start + batch, span.stop))
            claims.beat()
            x = network.train.inputs(part)
            rows = projection(gradients(network, x, network.train.y[part], scalar)).float()
            network.require_finite(network.train, start, rows)
            found[part.start - span.start : part.stop - span.start] = rows.cpu().numpy()
        return found

    def read(self, key: str, index: int) -> np.ndarray:
        """Block `index` (rows, size) of a checkpoint; InputError if it is absent or damaged."""
        if not self._begun(key):
            raise InputError(f"{self.path} has no checkpoint {key!r}; it has {', '.join(self.checkpoints)}.")
        checksum = int(np.asarray(self._array(key, "checksums")[index]))
        if checksum == _ABSENT:
            raise InputError(f"block {index} of checkpoint {key} is not made; call fill again.")
        span = self._span(index)
        shape = (span.stop - span.start, self.size)
        try:
            rows = np.fromfile(self._chunk(key, index), dtype="<f4", count=shape[0] * shape[1])
        except FileNotFoundError:
            rows = np.empty(0, dtype="<f4")
        if len(rows) != shape[0] * shape[1] or zlib.crc32(rows.data) != checksum:
            raise InputError(
                f"block {index} of checkpoint {key} in {self.path} is damaged; remove the store."
            )
        return rows.reshape(shape).astype(np.float32, copy=False)

    def blocks(self, key: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Positions and rows of a checkpoint, block by block."""
        for index in range(-(-self.n // self.block)):
            yield self._span(index), self.read(key, index)

    def _span(self, index: int) -> slice:
        return slice(index * self.block, min((index + 1) * self.block, self.n))

    def _begun(self, key: str) -> bool:
        """Whether a checkpoint has its arrays; the checksums are made last."""
        return f"{key}/checksums" in self._group

    def _create(self, key: str) -> None:
        group = self._group.create_group(key, overwrite=True)  # what a stopped process left has no rows
        # gradients do not compress
        group.create_array(
            "gradients",
            shape=(self.n, self.size),
            chunks=(self.block, self.size),
            dtype="float32",
            compressors=None,
        )
        group.create_array(
            "checksums", shape=(-(-self.n // self.block),), chunks=(1,), dtype="int64", fill_value=_ABSENT
        )

    def _write(self, key: str, index: int, rows: np.ndarray) -> None:
        whole = np.ascontiguousarray(rows, dtype="<f4")
        if len(rows) < self.block:  # a chunk at the end is as long as the others
            whole = np.zeros((self.block, self.size), dtype="<f4")
            whole[: len(rows)] = rows
        with disk_full_is_clear(self.path, f"block {index} of the gradients"):
            path = self._chunk(key, index)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, whole.reshape(-1).view(np.uint8).data)
            self._array(key, "checksums")[index] = zlib.crc32(whole[: len(rows)].data)

    def _chunk(self, key: str, index: int) -> Path:
        """The file of a block, plain numbers in the form of a Zarr chunk. Zarr's own threads would each keep
        memory for the blocks they read, several times the cap of a pass."""
        return self.path / key / "gradients" / "c" / str(index) / "0"

    def _array(self, key: str, name: str) -> zarr.Array:
        found = self._group[f"{key}/{name}"]
        assert isinstance(found, zarr.Array)
        return found

    def __repr__(self) -> str:
        return (
            f"<GradientStore {str(self.path)!r}: {self.n:,} x {self.size:,}, "
            f"{len(self.checkpoints)} checkpoints>"
        )


def weights_key(network: Network, number: int = 0) -> str:
    """Sixteen hexadecimal digits that stand for the loaded weights and their place in the ensemble."""
    digest = hashlib.sha256(str(number).encode())
    for name, tensor in sorted({**network.parameters, **network.buffers}.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
