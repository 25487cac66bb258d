"""Trained weights of chosen rows, as safetensors: read without running anything that was stored."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from whence.bank._files import sync_directory, write_atomic
from whence.bank.errors import disk_full_is_clear
from whence.errors import InputError


def save(folder: Path, row: int, state: dict[str, Any]) -> None:
    """Write the weights of `row` (name to tensor or array), whole or not at all."""
    import torch
    from safetensors.torch import save as serialise

    tensors = {
        name: torch.as_tensor(value).detach().cpu().contiguous().clone() for name, value in state.items()
    }
    with disk_full_is_clear(folder.parent, f"the checkpoint of row {row}"):
        write_atomic(folder / f"{row}.safetensors", serialise(tensors))
        sync_directory(folder)


def load(folder: Path, row: int) -> dict[str, Any]:
    """The weights of `row`, name to tensor; `InputError` when they were not kept."""
    from safetensors.torch import load_file

    path = folder / f"{row}.safetensors"
    if not path.exists():
        kept = rows(folder)
        have = (
            f"the bank has them for rows {kept[:5]}{'...' if len(kept) > 5 else ''}"
            if kept
            else "it has none"
        )
        raise InputError(
            f"row {row} has no checkpoint ({have}); whence.retrain(..., checkpoints=[{row}]) keeps it."
        )
    return load_file(path)


def rows(folder: Path) -> list[int]:
    """Rows with a checkpoint, ascending."""
    names = (entry.name for entry in os.scandir(folder) if entry.name.endswith(".safetensors"))
    return sorted(int(name.removesuffix(".safetensors")) for name in names)
