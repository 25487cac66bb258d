"""What every executor does with a block, wherever it runs: train its rows, write them, commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.bank import Bank, BankError, checkpoints
from whence.study.trainer import Retrained, Trainer

if TYPE_CHECKING:
    from whence.study import Study

PROBE_ROWS = 256
SLOW_SECONDS = 2.0

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


def measure(study: Study, device: str | None, plan: Any) -> tuple[dict[str, Any], dict[int, Retrained]]:
    """How to train and how long a model takes, from the first rows; and these rows, made.

    A trainer that chooses among ways of training (`Trainer.choose`) measures a few steps first. Then one
    stack of rows is trained for good (two rows where models are trained one by one, or one when that takes
    seconds), so little is wasted, and a study that cannot work is found out before anything is written.
    """
    first = plan.rows(0, PROBE_ROWS if plan.count is None else min(PROBE_ROWS, plan.count))
    masks = plan.masks(first)
    engine: dict[str, Any] = {"driver": "loop", "stack": 1}
    trainer = study.trainer(device)
    if type(trainer).choose is not Trainer.choose:
        engine = trainer.choose(masks, first.seed, plan.count)
        trainer = study.trainer(device, engine=engine)
    known: dict[int, Retrained] = {}
    stack = engine["stack"]
    for start in range(0, max(2, stack), stack):
        rows = slice(start, start + stack)
        begin = perf_counter()
        known.update(enumerate(trainer.train(masks[rows], first.seed[rows]), start))
        engine["seconds_per_model"] = (perf_counter() - begin) / stack
        if engine["seconds_per_model"] > SLOW_SECONDS:  # the second row only shows what warming up hid
            break
    return engine, known
