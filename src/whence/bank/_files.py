"""Files that are there whole or not at all: atomic writes, and Zarr chunks that carry their checksum.

Zarr's own local store does not flush to the disk, so after a power cut a commit marker could outlive the
chunks it vouches for. A bank's chunks are simple (little-endian bytes and a CRC-32C), so they are written
here, in exactly the form that any Zarr v3 reader expects; it also makes reading thousands of small chunks
several times faster."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import google_crc32c
import numpy as np

TEMPORARY = ".part-"
CHECKSUM_BYTES = 4


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` so that readers see the old file or the new one, also after a crash."""
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """Make renames inside `path` durable (where the system lets a directory be synced)."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum(values: np.ndarray) -> int:
    """CRC-32C of the little-endian bytes of `values`."""
    return int(google_crc32c.value(_payload(values)))


def encode(values: np.ndarray) -> bytes:
    """A chunk as Zarr's codecs ``bytes`` (little-endian) and ``crc32c`` would write it."""
    payload = _payload(values)
    return payload + int(google_crc32c.value(payload)).to_bytes(CHECKSUM_BYTES, "little")


def decode(content: bytes, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Undo `encode`; ValueError names what is wrong with a damaged chunk. The array returned is read-only."""
    expected = int(np.prod(shape)) * dtype.itemsize + CHECKSUM_BYTES
    if len(content) != expected:
        raise ValueError(f"{len(content)} bytes instead of {expected}: truncated or overgrown")
    payload = memoryview(content)[:-CHECKSUM_BYTES]
    if google_crc32c.value(bytes(payload)) != int.from_bytes(content[-CHECKSUM_BYTES:], "little"):
        raise ValueError("its checksum does not match: bits have changed")
    return np.frombuffer(payload, dtype=dtype.newbyteorder("<")).reshape(shape)


def sweep(folder: Path, older_than: float = 3600.0) -> None:
    """Remove what killed writers left half-written in `folder`; the age keeps the files of live writers."""
    limit = time.time() - older_than
    for entry in os.scandir(folder):
        if entry.name.startswith(TEMPORARY) and entry.stat().st_mtime < limit:
            Path(entry.path).unlink(missing_ok=True)


def _payload(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
