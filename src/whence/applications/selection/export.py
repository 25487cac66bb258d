"""Leaving with a choice: a plain index file, or a Hugging Face dataset."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import InputError

FORMS = (".jsonl", ".npy", ".txt")


def write_index(path: str | os.PathLike[str], ids: np.ndarray, positions: np.ndarray | None = None) -> None:
    """Write which candidates were chosen; the ending of `path` says how.

    ``.jsonl``: a line ``{"id": ..., "position": ...}`` for each (without positions, the id alone); ``.npy``:
    the ids as one array (no pickle); ``.txt``: an id on each line. Written beside `path` and renamed into
    place.
    """
    place = Path(path)
    if place.suffix not in FORMS:
        raise InputError(f"an index file ends in {', '.join(FORMS)}; received {place.name!r}.")
    ids = np.asarray(ids)
    beside = place.with_name(f".{place.name}.part")
    if place.suffix == ".npy":
        with beside.open("wb") as file:
            np.save(file, ids, allow_pickle=False)
    else:
        names = ids.tolist()
        lines = map(str, names)
        if place.suffix == ".jsonl":
            rows = [{"id": name} for name in names]
            if positions is not None:
                rows = [{**row, "position": int(at)} for row, at in zip(rows, positions, strict=True)]
            lines = map(json.dumps, rows)
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.replace(beside, place)


def file_name(task: str | None, selector: str) -> str:
    """A rule's name (with that of its task) as a file's, without an ending."""
    words = selector if task is None else f"{task} {selector}"
    return re.sub(r"[^\w.+=-]+", "-", words).strip("-")


def dataset(ids: np.ndarray, positions: np.ndarray, texts: Sequence[str] | np.ndarray | None) -> Any:
    """A `datasets.Dataset` with columns id, position and, where there are texts of all candidates, text."""
    try:
        from datasets import Dataset
    except ImportError:
        raise InputError("a Hugging Face dataset needs datasets; pip install 'whence[text]'.") from None
    columns: dict[str, list[Any]] = {"id": np.asarray(ids).tolist(), "position": positions.tolist()}
    if texts is not None:
        if len(texts) <= positions.max():
            raise InputError(
                f"texts has {len(texts)} entries, but candidate number {int(positions.max())} was chosen; "
                "pass the texts of all candidates."
            )
        columns["text"] = [str(texts[at]) for at in positions.tolist()]
    return Dataset.from_dict(columns)
