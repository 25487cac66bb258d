"""Merging banks of one study that were filled apart, on machines that share no disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whence.bank import _layout
from whence.bank._create import named
from whence.bank._write import commit_block
from whence.bank.bank import Bank, Path_
from whence.bank.errors import BankError
from whence.errors import InputError


def merge(paths: Sequence[Path_], to: Path_) -> Bank:
    """Put the committed rows of several banks into a new one at `to`.

    The banks must be of the same study and plan. Their blocks may differ in size; the merged bank takes the
    greatest common divisor. A row that several banks have is taken once, if they agree on it bit for bit.
    Everything read is checked against its checksum.

    Raises
    ------
    InputError : banks of other studies or plans, or `to` exists.
    BankError : two banks disagree on a row, or one is damaged.
    """
    banks = [Bank.open(path) for path in paths]
    if len(banks) < 2:
        raise InputError(f"paths must name at least 2 banks to merge, received {len(banks)}.")
    to = Path(to)
    if to.exists():
        raise InputError(f"to={str(to)!r} exists; a merge makes a new bank, so choose a path that is free.")
    first = banks[0]
    for other in banks[1:]:
        if other.study_fingerprint != first.study_fingerprint:
            raise InputError(
                f"{str(other.path)!r} belongs to another study than {str(first.path)!r}; only banks of one "
                "study can be merged."
            )
        other.check_plan(first.plan)
    block = math.gcd(*(bank.block for bank in banks))
    ids = {"train": first.train_ids, "target": first.target_ids}
    labels = {"train": first.train_labels, "target": first.target_labels}
    attributes = {**first._attributes, "block": block}
    staging = to.with_name(f".{to.name}.merging")  # a merge that is cut short must not look like a bank
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _layout.create(staging, first._columns, block, attributes, named(ids, labels))
        merged = Bank(staging)
        merged.grow(max(bank.rows_wanted for bank in banks))
        for bank in banks:
            for source in bank.committed_blocks():
                _copy(bank, source, merged)
            for row in bank.checkpoint_rows():
                shutil.copy2(bank.path / "checkpoints" / f"{row}.safetensors", merged.path / "checkpoints")
        staging.rename(to)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Bank(to)


def _copy(bank: Bank, source: int, merged: Bank) -> None:
    """Copy one committed block, cut into the merged bank's blocks."""
    start, stop = bank.rows_of(source)
    rows = np.arange(start, stop)
    commit = bank.commit_of(source)
    values: dict[str, Any] = {name: bank._reader.read(name, rows) for name in bank._columns}
    for block in range(start // merged.block, -(-stop // merged.block)):
        low, high = merged.rows_of(block)
        inside = slice(low - start, high - start)
        piece = {name: array[inside] for name, array in values.items()}
        errors = {row: why for row, why in commit.errors.items() if low <= row < high}
        fresh = commit_block(
            merged, block, piece, commit.seconds[inside], errors, commit.versions, commit.machine
        )
        if not fresh:
            for name, array in piece.items():
                there = merged._reader.read(name, np.arange(low, high))
                if not np.array_equal(there, array, equal_nan=array.dtype.kind == "f"):
                    raise BankError(
                        f"the banks disagree on {name} of rows {low} to {high - 1} ({bank.path} against an "
                        "earlier one): they were trained by different software, or training is not "
                        "deterministic."
                    )
