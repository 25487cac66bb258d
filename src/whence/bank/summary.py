"""What a bank holds, in numbers that fit on a screen."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.subsets import PARTS

if TYPE_CHECKING:
    from whence.bank.bank import Bank


def summary(bank: Bank) -> dict[str, Any]:
    """A JSON-able summary of a bank; reads every marker (one small file for each block) but no array."""
    commits = [bank.commit_of(block) for block in bank.committed_blocks()]
    errors = {row: why for commit in commits for row, why in commit.errors.items()}
    seconds = np.array([s for commit in commits for s in commit.seconds])
    parts = bank._table["part"][bank._rows(ok=False)]
    # Rows trained by different software or hardware may differ in the last bits: worth showing.
    made_with = Counter(_words(commit.versions) for commit in commits)
    made_on = Counter(_words(commit.machine) for commit in commits)
    return {
        "path": str(bank.path),
        "study": bank.study_description.get("name", ""),
        "study_fingerprint": bank.study_fingerprint,
        "rows_committed": len(parts),
        "rows_wanted": bank.rows_wanted,
        "rows_failed": len(errors),
        "failures": dict(Counter(errors.values()).most_common(5)),
        "parts": {name: int((parts == code).sum()) for code, name in enumerate(PARTS)},
        "n": bank.n,
        "targets": len(bank.target_ids),
        "outputs": list(bank.outputs),
        "keep": bank.keep,
        "design": bank.subsets.design,
        "block": bank.block,
        "engine": bank.engine,
        "checkpoints": len(bank.checkpoint_rows()),
        "bytes": _size(bank.path),
        "seconds_per_model": float(np.median(seconds)) if seconds.size else None,
        "seconds_total": float(seconds.sum()),
        "versions": dict(made_with),
        "machines": dict(made_on),
    }


def _words(record: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(record.items()) if value not in ([], None))


def _size(path: os.PathLike[str]) -> int:
    return sum(
        entry.stat().st_size
        for folder, _, files in os.walk(path)
        for entry in os.scandir(folder)
        if entry.is_file() and files
    )
