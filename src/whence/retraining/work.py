"""What every executor does with a block, wherever it runs: train its rows, write them, commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from whence.bank import Bank, BankError, checkpoints
from whence.study.trainer import Retrained, Trainer

Beat = Callable[[], None]


@dataclass(frozen=True)
class Job:
    """A block to train, or (with `only_checkpoints`) rows of a committed block whose weights are wanted later
    on.

    Attributes
    ----------
    keep : rows whose trained weights are kept. known : rows already trained while measuring.
    """

    block: int
    keep: frozenset[int] = frozenset()
    only_checkpoints: bool = False
    known: Mapping[int, Retrained] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """What came of a job: retrainings made, how many have no usable output, and why the first of them has
    none."""

    rows: int
    failed: int = 0
    reason: str | None = None


def do(job: Job, bank: Bank, trainer: Trainer, beat: Beat = lambda: None) -> Done:
    """Train and commit a block. `beat` is called between retrainings, so that a claim stays fresh."""
    if job.only_checkpoints:
        return _checkpoints(job, bank, trainer, beat)
    start, stop = bank.rows_of(job.block)
    found = {row: run for row, run in job.known.items() if row not in job.keep}
    plain = [row for row in range(start, stop) if row not in found and row not in job.keep]
    kept = sorted(job.keep)
    for rows, keep_states in ((plain, False), (kept, True)):
        for row, run in zip(rows, _train(bank, trainer, rows, keep_states), strict=True):
            beat()
            if keep_states and run.state is not None:
                checkpoints.save(bank.path / "checkpoints", row, run.state)
            found[row] = Retrained(run.outputs, run.seconds, None, run.error)
    bank.write_block(job.block, [found[row] for row in range(start, stop)])
    errors = bank.commit_of(job.block).errors
    return Done(stop - start, len(errors), next(iter(errors.values()), None))


def _checkpoints(job: Job, bank: Bank, trainer: Trainer, beat: Beat) -> Done:
    """Train rows again for their weights, and check on the way that they come out as the bank has them."""
    rows = sorted(job.keep)
    for row, run in zip(rows, _train(bank, trainer, rows, True), strict=True):
        beat()
        for name, value in run.outputs.items():
            there = bank.outputs_of(name, rows=[row], ok=False)[0]
            if not np.array_equal(there, np.asarray(value, dtype=np.float32), equal_nan=True):
                raise BankError(
                    f"row {row} did not come out as it was committed in {bank.path} ({name} differs), so a "
                    "checkpoint of it would be another model's: the software, the device or the function "
                    "changed, or training does not follow its seed."
                )
        if run.state is not None:
            checkpoints.save(bank.path / "checkpoints", row, run.state)
    return Done(len(rows))


def _train(bank: Bank, trainer: Trainer, rows: list[int], keep_states: bool) -> Any:
    if not rows:
        return iter(())
    table = bank.plan.rows(rows[0], rows[-1] + 1)
    inside = np.asarray(rows) - rows[0]
    masks = bank.subsets.masks(table.mask_index[inside])
    return trainer.train(masks, table.seed[inside], keep_states=keep_states)


def measure(
    trainer: Trainer, plan: Any, start: int, stop: int
) -> tuple[dict[str, Any], dict[int, Retrained]]:
    """How to train and how long a model takes, from a few rows; and the retrainings that this gave.

    A trainer that chooses among ways of training (`Trainer.choose`) measures for itself. Any other trains two
    rows (one, when that takes seconds), the first of which also warms up, and neither is wasted."""
    rows = plan.rows(start, stop)
    masks = plan.subsets.masks(rows.mask_index)
    if type(trainer).choose is not Trainer.choose:
        return trainer.choose(masks, rows.seed), {}
    known: dict[int, Retrained] = {}
    seconds = 0.0
    for i in range(min(2, len(rows))):
        begin = perf_counter()
        [known[start + i]] = trainer.train(masks[i : i + 1], rows.seed[i : i + 1])
        seconds = perf_counter() - begin
        if seconds > 2.0:
            break
    return {"driver": "loop", "stack": 1, "seconds_per_model": seconds}, known
