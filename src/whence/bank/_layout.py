"""How a bank lies on disk: one Zarr v3 group that any tool opens, plus commit markers.

::

    runs/pets.zarr/
      zarr.json                 the group; attribute "whence" holds format, study, plan, block and engine
      train, target             ids (strings or integers); train_label, target_label where there are classes
      mask_index, repeat, seed, part         (retraining,): what the plan says of each row
      ok                        (retraining,): True where every output is finite and nothing was raised
      masks                     (retraining, mask_byte): bits, little-endian within a byte, 1 = trained on
      margin, ...               (retraining, target[, class]): one array for each output of the study
      commits/000012.json       block 12 is committed: row range, checksums, seconds, failures, versions
      claims/000012.json        somebody is training block 12 now (advisory)
      checkpoints/345.safetensors

Rows are written in blocks of `block` rows, one chunk for each array and block, and a block is always written
whole: no chunk that holds a committed row is ever opened for writing again. That is what makes locks
unnecessary. The plan's four columns are pure functions of the plan, so they are written ahead in big whole
chunks, and two writers write the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from whence.bank._files import encode, sync_directory, write_atomic
from whence.bank.errors import disk_full_is_clear
from whence.errors import InputError

FORMAT = 1
PLAN_COLUMNS = {"mask_index": "int64", "repeat": "int64", "seed": "int64", "part": "int8"}
PLAN_CHUNK = 8192
FOLDERS = ("commits", "claims", "checkpoints")
RESERVED = (
    *PLAN_COLUMNS,
    *FOLDERS,
    "masks",
    "ok",
    "train",
    "target",
    "train_label",
    "target_label",
    "retraining",
)


@dataclass(frozen=True)
class Column:
    """One array along the retrainings, written block by block."""

    name: str
    dtype: np.dtype
    trailing: tuple[int, ...]
    dims: tuple[str, ...]

    def key(self, chunk: int) -> str:
        """The file name of a chunk inside the array's folder."""
        return ".".join(["c", str(chunk), *("0" for _ in self.trailing)])


def columns_of(n: int, targets: int, outputs: Mapping[str, Mapping[str, Any]]) -> dict[str, Column]:
    """The block-wise arrays of a bank: masks, ok and the outputs (name to ``{"shape": ..., "dtype":
    ...}``)."""
    found = {
        "masks": Column("masks", np.dtype("uint8"), ((n + 7) // 8,), ("retraining", "mask_byte")),
        "ok": Column("ok", np.dtype("bool"), (), ("retraining",)),
    }
    for name, spec in outputs.items():
        if name in RESERVED or "/" in name or name.startswith((".", "_")):
            raise InputError(
                f"outputs has {name!r}, a name that a bank uses itself; call this output something else."
            )
        trailing = tuple(spec["shape"])
        dims = ("retraining", "target", *("class" if i == 0 else f"axis_{i}" for i in range(len(trailing))))
        found[name] = Column(name, np.dtype(spec["dtype"]), (targets, *trailing), dims)
    return found


def create(
    path: Path,
    columns: Mapping[str, Column],
    block: int,
    attributes: Mapping[str, Any],
    labels: Mapping[str, tuple[str, np.ndarray]],
) -> bool:
    """Make an empty bank at `path` in one step; False when another process was first.

    `labels` maps a name to its dimension and values (ids and class labels). Everything is built next to
    `path` and renamed into place, so no half-made bank is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.parent / f".{path.name}.{uuid.uuid4().hex}"
    try:
        with disk_full_is_clear(path, "the beginning"):
            group = zarr.open_group(staging, mode="w", zarr_format=3, attributes={"whence": dict(attributes)})
            for name, (dimension, values) in labels.items():
                _write_labels(group, name, dimension, values)
            for name, dtype in PLAN_COLUMNS.items():
                _make_array(group, Column(name, np.dtype(dtype), (), ("retraining",)), PLAN_CHUNK)
            for column in columns.values():
                _make_array(group, column, block)
            for folder in FOLDERS:  # groups of their own, so that Zarr's listing knows what they are
                group.create_group(folder)
            for folder_path, _, files in os.walk(staging):
                for file in files:
                    _sync_file(Path(folder_path) / file)
                sync_directory(Path(folder_path))
        try:
            os.rename(staging, path)
        except OSError:
            if is_bank(path):
                return False
            raise InputError(
                f"to={str(path)!r} exists and is not a bank; choose another path or move it away."
            ) from None
        sync_directory(path.parent)
        return True
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def is_bank(path: Path) -> bool:
    """True when `path` holds a bank."""
    try:
        return "whence" in json.loads((path / "zarr.json").read_text())["attributes"]
    except (OSError, ValueError, KeyError):
        return False


def read_attributes(path: Path) -> dict[str, Any]:
    """The bank's own attributes, or an `InputError` when `path` holds none that this version reads."""
    if not path.exists():
        raise InputError(
            f"there is no bank at {str(path)!r}; make one with whence.retrain(study, ..., to={str(path)!r})."
        )
    if not is_bank(path):
        raise InputError(
            f"{str(path)!r} is not a bank of retrainings (no zarr.json with the attribute 'whence')."
        )
    attributes = json.loads((path / "zarr.json").read_text())["attributes"]["whence"]
    if attributes["format"] != FORMAT:
        raise InputError(
            f"the bank at {str(path)!r} has format {attributes['format']}, this version of whence reads "
            f"format {FORMAT}; install the version that wrote it ({attributes.get('versions')})."
        )
    return attributes


def read_labels(path: Path, name: str) -> np.ndarray | None:
    """Ids or class labels, int64 or str; None where the bank has none."""
    if not (path / name).exists():
        return None
    values = np.asarray(zarr.open_array(path / name, mode="r")[:])
    return values if values.dtype.kind == "i" else np.array(values.tolist(), dtype=str)


def grow(path: Path, columns: Mapping[str, Column], rows: int, plan: Any) -> None:
    """Make room for `rows` rows. Shapes only go up, by atomic replacement, and the plan's columns are filled.

    Two processes that grow at once may undo each other's shape for a moment; every commit calls this first,
    so the shapes are right again before a row that needs them is visible.
    """
    shapes = {name: _shape(path, name) for name in (*PLAN_COLUMNS, *columns)}
    if min(shapes.values()) >= rows:
        return
    rows = max(rows, *shapes.values())
    with disk_full_is_clear(path, "the table of contents"):
        write_plan(path, rows, plan, again=False)
        for name in shapes:
            _raise_shape(path / name / "zarr.json", rows)


def shape_of(path: Path) -> int:
    """Rows there is room for in every array."""
    return min(_shape(path, name) for name in (*PLAN_COLUMNS, "masks", "ok"))


def _shape(path: Path, name: str) -> int:
    return int(json.loads((path / name / "zarr.json").read_text())["shape"][0])


def plan_rows(plan: Any, start: int, stop: int) -> dict[str, np.ndarray]:
    """The plan's columns for ``start <= row < stop``, zeros beyond the end of a plan that ends."""
    end = stop if plan.count is None else max(start, min(stop, plan.count))
    rows = plan.rows(start, end)
    padding = (0, stop - end)
    return {name: np.pad(getattr(rows, name).astype(dtype), padding) for name, dtype in PLAN_COLUMNS.items()}


def write_plan(path: Path, rows: int, plan: Any, again: bool) -> None:
    """Write the plan's columns for at least `rows` rows; `again` replaces what is there, after damage."""
    for chunk in range(-(-rows // PLAN_CHUNK)):
        if again or not all((path / name / f"c.{chunk}").exists() for name in PLAN_COLUMNS):
            for name, values in plan_rows(plan, chunk * PLAN_CHUNK, (chunk + 1) * PLAN_CHUNK).items():
                write_atomic(path / name / f"c.{chunk}", encode(values))


def _raise_shape(metadata: Path, rows: int) -> None:
    content = json.loads(metadata.read_text())
    if content["shape"][0] < rows:
        content["shape"][0] = rows
        write_atomic(metadata, json.dumps(content, indent=2).encode())


def _make_array(group: zarr.Group, column: Column, chunk: int) -> None:
    extra: dict[str, Any] = (
        {"flag_values": [0, 1, 2], "flag_meanings": "train validation held_out"}
        if column.name == "part"
        else {}
    )
    if column.name == "masks":
        extra = {"bit_order": "little"}
    group.create_array(
        column.name,
        shape=(0, *column.trailing),
        chunks=(chunk, *(max(1, size) for size in column.trailing)),
        dtype=column.dtype,
        dimension_names=column.dims,
        attributes=extra,
        fill_value=np.nan if column.dtype.kind == "f" else 0,
        # Random masks and float outputs hardly compress; plain bytes read fastest, a checksum finds damage.
        compressors=[Crc32cCodec()],
        filters=None,
        chunk_key_encoding={"name": "default", "separator": "."},  # no folder for each chunk
    )


def _write_labels(group: zarr.Group, name: str, dimension: str, values: np.ndarray) -> None:
    text = values.dtype.kind in "UOT"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr notes that its string type is young
        array = group.create_array(
            name,
            shape=values.shape,
            chunks=(max(1, len(values)),),
            dtype="string" if text else "int64",
            dimension_names=(dimension,),
        )
        array[:] = values.astype(str).astype(object) if text else values.astype(np.int64)


def _sync_file(path: Path) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
