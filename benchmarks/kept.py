"""Attributions of the studies that methods are compared on, made once and shared between benchmarks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import RUNS
from benchmarks.studies import Bench
from whence.attribution import Attribution


class Kept:
    """Attributions on disk beside the bank of a study, with the processor seconds that they took.

    where : a study of the comparison of methods, or a folder.
    """

    def __init__(self, where: Bench | Path) -> None:
        self.folder = where if isinstance(where, Path) else RUNS / f"methods-{where.name}-scores"
        self.folder.mkdir(parents=True, exist_ok=True)

    def one(self, name: str, make: Callable[[], Attribution]) -> tuple[Attribution, float]:
        """What `make` returns, or what it returned in an earlier run under this name."""
        return self.several(name, lambda: [make()])[0]

    def several(self, name: str, make: Callable[[], list[Attribution]]) -> list[tuple[Attribution, float]]:
        """What `make` returns; its seconds are shared out evenly."""
        note = self.folder / f"{name}.json"
        if not note.exists():
            start = time.process_time()
            made = make()
            seconds = (time.process_time() - start) / len(made)
            for i, scores in enumerate(made):
                scores.save(self.folder / f"{name}-{i}.zarr")
            note.write_text(json.dumps({"seconds": seconds, "count": len(made)}))
        told = json.loads(note.read_text())
        return [
            (Attribution.load(self.folder / f"{name}-{i}.zarr"), told["seconds"])
            for i in range(told["count"])
        ]
