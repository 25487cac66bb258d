"""Reading rows: from chunks to arrays, and lazily to an `xarray.Dataset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from whence.bank._files import decode
from whence.bank._layout import Column
from whence.bank.errors import BankError
from whence.subsets import unpack


class Reader:
    """Reads rows of the block-wise arrays of the bank at `path`.

    A missing, truncated or altered chunk raises `BankError`; it is never read as fill values.
    """

    def __init__(self, path: Path, columns: dict[str, Column], block: int) -> None:
        self.path, self.columns, self.block = path, columns, block

    def chunk(self, name: str, block: int) -> np.ndarray:
        """The chunk of one block, ``(block, ...)``, read-only; ValueError or OSError says how it is
        damaged."""
        column = self.columns[name]
        content = (self.path / name / column.key(block)).read_bytes()
        return decode(content, column.dtype, (self.block, *column.trailing))

    def read(self, name: str, rows: np.ndarray, targets: Any = slice(None)) -> np.ndarray:
        """``rows`` of array `name` in that order, each chunk read once for each run of its rows."""
        column = self.columns[name]
        trailing = (
            np.empty((0, *column.trailing), column.dtype)[:, targets].shape[1:] if column.trailing else ()
        )
        out = np.empty((len(rows), *trailing), column.dtype)
        blocks = rows // self.block
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        stops = [*starts[1:], len(rows)][: len(starts)]  # of no rows there is no run
        for start, stop in zip(starts, stops, strict=True):
            try:
                chunk = self.chunk(name, int(blocks[start]))
            except (OSError, ValueError) as problem:
                raise BankError(
                    f"block {blocks[start]} of {self.path} is damaged ({name}: {problem}); find all damage "
                    f"with `whence bank verify {self.path}`."
                ) from problem
            inside = chunk[rows[start:stop] - blocks[start] * self.block]
            out[start:stop] = inside[:, targets] if column.trailing else inside
        return out


class _LazyRows(BackendArray):
    """An array over chosen rows that reads when it is indexed; masks are unpacked to booleans on the way."""

    def __init__(self, reader: Reader, name: str, rows: np.ndarray, n: int | None = None) -> None:
        column = reader.columns[name]
        self.reader, self.name, self.rows, self.n = reader, name, rows, n
        self.shape = (len(rows), *(column.trailing if n is None else (n,)))
        self.dtype = column.dtype if n is None else np.dtype(bool)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        first, *rest = key
        rows = np.atleast_1d(self.rows[first])
        values = self.reader.read(self.name, rows)
        if self.n is not None:
            values = unpack(values, self.n)
        for axis, inner in reversed(
            list(enumerate(rest, start=1))
        ):  # from the last, for integers drop their axis
            values = values[(slice(None),) * axis + (inner,)]
        return values[0] if isinstance(first, int | np.integer) else values


def lazy(reader: Reader, name: str, rows: np.ndarray, n: int | None = None) -> xr.Variable:
    """Rows of an array as a lazy variable; with `n`, packed masks as booleans ``(retraining, train)``."""
    dims = ("retraining", "train") if n is not None else reader.columns[name].dims
    return xr.Variable(dims, indexing.LazilyIndexedArray(_LazyRows(reader, name, rows, n)))
