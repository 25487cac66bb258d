"""Rounds of an estimate on disk: written beside and renamed, so that a run that was stopped goes on."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from whence.errors import InputError


def write_rounds(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Keep the arrays under their names; until all is written, what was there stays.

    Raises
    ------
    InputError : the disk is full, or the folder cannot be written to.
    """
    unfinished = path.with_suffix(".part.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]
        unfinished.rename(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(
            f"a round cannot be kept in {path.parent} ({error.strerror}); earlier rounds are still there; "
            "make room, or pass another folder, and start again."
        ) from error


def read_rounds(path: Path, names: tuple[str, ...], of: str) -> list[np.ndarray]:
    """The arrays of these names; `of` says of what they are.

    Raises
    ------
    InputError : a file that is no such thing.
    """
    try:
        with np.load(path, allow_pickle=False) as kept:
            return [kept[name] for name in names]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} cannot be read as the rounds of a {of} ({error}); remove it, and they are made again."
        ) from error
