"""Writing a block: chunks first, flushed to the disk, then the marker that commits them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.bank import _commits, _layout
from whence.bank._files import checksum, encode, sync_directory, write_atomic
from whence.bank.errors import disk_full_is_clear
from whence.errors import InputError
from whence.provenance import machine, versions
from whence.subsets import pack

if TYPE_CHECKING:
    from whence.bank.bank import Bank
    from whence.study.trainer import Retrained


def write_block(bank: Bank, block: int, retrained: list[Retrained]) -> bool:
    """See `Bank.write_block`."""
    start, stop = bank.rows_of(block)
    arrays, errors = block_arrays(bank, block, retrained)
    arrays["masks"] = pack(bank.plan.masks(bank.plan.rows(start, stop)))
    seconds = [round(float(run.seconds), 6) for run in retrained]
    return commit_block(bank, block, arrays, seconds, errors, _versions(), _machine())


def commit_block(
    bank: Bank,
    block: int,
    arrays: dict[str, np.ndarray],
    seconds: list[float],
    errors: dict[int, str],
    made_with: dict[str, str],
    made_on: dict[str, Any],
) -> bool:
    """Write the arrays of a whole block (rows along the first axis) and commit it."""
    commits = bank.path / "commits"
    if bank.is_committed(block):
        return False
    start, stop = bank.rows_of(block)
    checksums: dict[str, int] = {}
    with disk_full_is_clear(bank.path, f"block {block} (rows {start} to {stop - 1})"):
        _layout.grow(bank.path, bank._columns, stop, bank.plan)
        for name, column in bank._columns.items():
            chunk = np.zeros(
                (bank.block, *column.trailing), column.dtype
            )  # the last block of a plan may be short
            chunk[: stop - start] = arrays[name]
            checksums[name] = checksum(chunk)
            write_atomic(bank.path / name / column.key(block), encode(chunk))
            sync_directory(bank.path / name)
        commit = _commits.Commit(block, (start, stop), checksums, seconds, errors, made_with, made_on)
        _commits.write(commits, commit)
    return True


def block_arrays(
    bank: Bank, block: int, retrained: list[Retrained]
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """Outputs and ``ok`` of a block as arrays, and why rows are not ok: an exception, or what is not finite.

    A failed row holds NaN; a diverged one what it gave. Neither is ever averaged in.
    """
    start, stop = bank.rows_of(block)
    if len(retrained) != stop - start:
        raise InputError(
            f"block {block} holds rows {start} to {stop - 1}, {stop - start} retrainings, received "
            f"{len(retrained)}."
        )
    columns = {name: bank._columns[name] for name in bank.outputs}
    arrays = {
        name: np.full((stop - start, *column.trailing), np.nan, column.dtype)
        for name, column in columns.items()
    }
    errors: dict[int, str] = {}
    for i, run in enumerate(retrained):
        if run.error is not None:
            errors[start + i] = run.error
            continue
        for name, column in columns.items():
            if name not in run.outputs:
                raise InputError(
                    f"output {name!r} is missing from a retraining, which gave {sorted(run.outputs)}."
                )
            value = np.asarray(run.outputs[name])
            if value.shape != column.trailing:
                raise InputError(
                    f"output {name!r} must have shape {column.trailing} (targets first), a retraining gave "
                    f"{value.shape}."
                )
            with np.errstate(over="ignore"):
                arrays[name][i] = value
            wrong = int((~np.isfinite(arrays[name][i])).sum())
            if wrong:
                errors[start + i] = f"{name} is not finite for {wrong} of {column.trailing[0]} targets"
    arrays["ok"] = np.array([start + i not in errors for i in range(stop - start)])
    return arrays, errors


@cache
def _versions() -> dict[str, str]:
    return versions()


@cache
def _machine() -> dict[str, Any]:
    return machine()
