"""The form in which attributions lie on disk: a Zarr v3 store, written whole or block by block."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from whence.errors import InputError

FORMAT = "whence attribution 1"
_ROWS = 128  # targets a chunk, where weights are written in blocks: `top` of one target reads few others
Write = Callable[[slice, np.ndarray], None]


def write_dataset(data: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a dataset; see `Attribution.save`."""
    with _beside(check_place(path)) as fresh:
        _with_text(data).to_zarr(fresh, mode="w", zarr_format=3, consolidated=False)


@contextmanager
def write_blocks(head: xr.Dataset, path: str | os.PathLike[str], columns: int) -> Iterator[Write]:
    """Write a dataset whose "weight" (target, train) comes in blocks of `columns` training examples; that of
    `head` says its shape and is not looked at otherwise."""
    weight = head["weight"]
    shape = (weight.sizes["target"], weight.sizes["train"])
    with _beside(check_place(path)) as fresh:
        _with_text(head.drop_vars("weight")).to_zarr(fresh, mode="w", zarr_format=3, consolidated=False)
        array = zarr.open_group(str(fresh), mode="r+").create_array(
            "weight",
            shape=shape,
            chunks=(min(_ROWS, shape[0]), min(columns, shape[1])),
            dtype="float32",
            compressors=None,  # they would not get smaller
            dimension_names=("target", "train"),
        )
        due = 0

        def write(span: slice, block: np.ndarray) -> None:
            nonlocal due
            if span.start != due or block.shape != (shape[0], span.stop - span.start):
                raise InputError(
                    f"weights of training examples {due} onwards were due, received {block.shape} for "
                    f"{span.start} to {span.stop}."
                )
            if not np.isfinite(block).all():
                raise InputError(f"weights of training examples {span.start} to {span.stop} are not finite.")
            array[:, span] = block
            due = span.stop

        yield write
        if due != shape[1]:
            raise InputError(f"weights of {due} training examples came, but there are {shape[1]}.")


def open_dataset(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open what was written; weights are read when first used."""
    path = Path(path)
    if not _is_attribution(path):
        raise InputError(
            f"path {str(path)!r} is not an attribution; pass a folder that Attribution.save wrote."
        )
    data = xr.open_zarr(path, consolidated=False, chunks=None, decode_times=False)
    names = {k: v for k, v in data.coords.items() if v.dtype.kind in "OT"}
    return data.assign_coords({k: (k, np.array(v.values.tolist(), dtype=str)) for k, v in names.items()})


def check_place(path: str | os.PathLike[str]) -> Path:
    """The path; InputError if something lies there that is not an attribution."""
    path = Path(path)
    if path.exists() and not _is_attribution(path):
        raise InputError(f"path {str(path)!r} exists and is not an attribution; choose another.")
    return path


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A fresh folder beside `path` that takes its place at the end, so a crash never leaves half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid.uuid4().hex[:8]
    fresh, old = (path.with_name(f".{path.name}.{word}-{token}") for word in ("new", "old"))
    try:
        yield fresh
        if path.exists():
            path.replace(old)
        fresh.replace(path)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _with_text(data: xr.Dataset) -> xr.Dataset:
    # Fixed-width strings have no settled place in the Zarr v3 specification; objects are written as its
    # variable-length strings.
    return data.assign_coords({k: v.astype(object) for k, v in data.coords.items() if v.dtype.kind in "U"})


def _is_attribution(path: Path) -> bool:
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError):
        return False
    return attributes.get("format") == FORMAT
