"""Commit markers: a block of rows exists once ``commits/<block>.json`` does, and not before."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from whence.bank._files import sync_directory, write_atomic


@dataclass(frozen=True)
class Commit:
    """What the marker of a block says.

    Attributes
    ----------
    rows : first row and the row after the last.
    checksums : array name to the CRC-32C of its chunk.
    seconds : time of each retraining.
    errors : row to why it has no usable output; rows that are not named went well.
    versions, machine : software and hardware (no host or user names) that trained the block.
    """

    block: int
    rows: tuple[int, int]
    checksums: dict[str, int]
    seconds: list[float]
    errors: dict[int, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)


def marker(folder: Path, block: int) -> Path:
    """Where the marker of `block` lies inside a bank's ``commits`` or ``claims`` folder."""
    return folder / f"{block:06d}.json"


def committed(folder: Path) -> list[int]:
    """Committed blocks, ascending: one listing of one folder, however many rows there are."""
    return sorted(
        int(entry.name[:-5])
        for entry in os.scandir(folder)
        if entry.name.endswith(".json") and entry.name[:-5].isdigit()
    )


def write(folder: Path, commit: Commit) -> None:
    """The commit itself: from this rename on, readers see the block."""
    write_atomic(marker(folder, commit.block), json.dumps(asdict(commit), indent=1).encode())
    sync_directory(folder)


def read(folder: Path, block: int) -> Commit:
    """The marker of `block`; ValueError when it is damaged."""
    content = json.loads(marker(folder, block).read_text())
    try:
        content["rows"] = tuple(content["rows"])
        content["errors"] = {int(row): reason for row, reason in content["errors"].items()}
        return Commit(**content)
    except (KeyError, TypeError) as problem:
        raise ValueError(f"the marker of block {block} is not one: {problem}") from problem


def remove(folder: Path, block: int) -> None:
    """Take a commit back; the block counts as never trained."""
    marker(folder, block).unlink(missing_ok=True)
    sync_directory(folder)
