"""retrain: draws masks, spreads blocks, fills the bank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from whence.bank import Bank
from whence.bank._files import sweep
from whence.bank._layout import is_bank
from whence.bank.bank import Path_
from whence.errors import InputError
from whence.retraining.errors import RetrainingError
from whence.retraining.executors import Executor, local
from whence.retraining.progress import Reporter
from whence.retraining.sizing import choose_block
from whence.retraining.work import Job
from whence.subsets import PARTS, Plan, Subsets

if TYPE_CHECKING:
    from whence.study import Study
    from whence.study.trainer import Retrained

EXECUTORS = ("local",)


def retrain(
    study: Study,
    n: int,
    *,
    to: Path_,
    keep: float | None = None,
    subsets: Subsets | None = None,
    seed: int = 0,
    validation: float | None = None,
    held_out: float | None = None,
    seeds: int = 1,
    held_out_seeds: int | None = None,
    training_seed: int | None = None,
    executor: str | Executor = "local",
    workers: int | None = None,
    device: str | None = None,
    block: int | None = None,
    checkpoints: int | Sequence[int] = 0,
    share: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> Bank:
    """Retrain `study` on `n` random subsets and record what the targets' outputs become.

    Run it again to resume, with a larger `n` to go on; run it in several processes at once to share the work.
    All is checked before anything is trained or written.

    Parameters
    ----------
    n : number of retrainings there shall be (rows of the bank); rounded up to whole blocks.
    to : folder of the bank, by custom ``*.zarr``.
    keep : share of the training set that each retraining sees (default 0.5).
    subsets : another design than uniform subsets of fixed size; says `keep` itself.
    seed : seed of the masks and of the training seeds.
    validation, held_out : shares of the masks for tuning and for reporting (default 0.1 each; 0 for leave-out
        sets).
    seeds, held_out_seeds : training seeds per mask, and per held-out mask (default 2: they give the noise
        ceiling).
    training_seed : train every model with this one seed.
    executor : "local", or an `Executor`.
    workers : processes; 0 trains in this one. Default: one on each core, or on each GPU.
    device : "cpu", "cuda", ...; by default what there is.
    block : rows committed together; by default chosen from a short measurement.
    checkpoints : keep the trained weights of the first so many rows, or of these rows.
    share : ``(i, k)`` trains only every k-th block from the i-th, on machines without a common disk (then
        `merge`).
    progress : show a progress bar.

    Raises
    ------
    InputError : what was asked for cannot work, or `to` is another study's or plan's bank.
    RetrainingError : training fails again and again. DiskFullError : no space left.
    """
    plan = _plan(study, n, keep, subsets, seed, validation, held_out, seeds, held_out_seeds, training_seed)
    _check(n, plan, workers, block, share)
    kept = _checkpoint_rows(checkpoints, n)
    to = Path(to)
    bank = _existing(to, study, plan, block)
    if bank is not None and not _jobs(bank, n, kept, share, {}):
        bank.grow(n)
        return bank
    with _executor(executor, study, workers, device, n) as running:
        known: dict[int, Retrained] = {}
        if bank is None:
            engine, known = running.measure(plan)
            _refuse_hopeless(known)
            size = block or choose_block(
                n, engine["seconds_per_model"], running.workers, engine.get("stack", 1)
            )
            bank = Bank.create(to, study, plan, block=size, engine=engine)
        return _fill(bank, n, running, _Wanted(kept, share, known), progress)


class _Wanted:
    def __init__(self, kept: frozenset[int], share: tuple[int, int], known: dict[int, Retrained]) -> None:
        self.kept, self.share, self.known = kept, share, known


def _fill(bank: Bank, n: int, running: Executor, wanted: _Wanted, progress: bool) -> Bank:
    rows = bank.grow(n)
    for name in ("masks", "ok", "commits", "checkpoints", *bank.outputs):
        sweep(bank.path / name)
    bank.claims.sweep()
    jobs = _jobs(bank, n, wanted.kept, wanted.share, wanted.known)
    reporter = Reporter(bank.path, bank.rows_committed, rows, progress)
    try:
        with reporter:
            running.run(bank, jobs, reporter)
    except KeyboardInterrupt:
        reporter.note(
            f"Stopped: {bank.rows_committed:,} of {rows:,} retrainings are committed in {bank.path}; run the "
            "same again to resume."
        )
        raise
    return Bank.open(bank.path)


def _plan(
    study: Study,
    n: int,
    keep: float | None,
    subsets: Subsets | None,
    seed: int,
    validation: float | None,
    held_out: float | None,
    seeds: int,
    held_out_seeds: int | None,
    training_seed: int | None,
) -> Plan:
    if subsets is None:
        subsets = Subsets.uniform(study.n, 0.5 if keep is None else keep, seed)
    elif keep is not None and keep != subsets.keep:
        raise InputError(
            f"keep={keep} was passed with subsets that keep {subsets.keep:g}; leave keep out, the subsets "
            "say it."
        )
    if subsets.n != study.n:
        raise InputError(f"subsets draws masks over {subsets.n} training examples, the study has {study.n}.")
    chosen = subsets.design in ("leaving_out", "given")
    share = 0.0 if chosen else 0.1  # chosen sets are compared whole, not split
    once = training_seed is not None
    return Plan(
        subsets,
        validation=share if validation is None else validation,
        held_out=share if held_out is None else held_out,
        seeds=seeds,
        held_out_seeds=(1 if once else max(2, seeds)) if held_out_seeds is None else held_out_seeds,
        seed=seed,
        training_seed=training_seed,
    )


def _check(n: int, plan: Plan, workers: int | None, block: int | None, share: tuple[int, int]) -> None:
    if not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n must be a whole number of retrainings, at least 1; received {n!r}.")
    if plan.count is not None and n > plan.count:
        raise InputError(f"n={n} retrainings were asked for, but the subsets and seeds give {plan.count}.")
    if block is not None and block < 1:
        raise InputError(f"block must be at least 1 row, received {block}.")
    if workers is not None and workers < 0:
        raise InputError(f"workers must be 0 (this process) or more, received {workers}.")
    if not 0 <= share[0] < share[1]:
        raise InputError(f"share must be (i, k) with 0 <= i < k, received {share}.")
    fewest = fewest_rows(plan)
    if n < fewest:
        raise InputError(
            f"n={n} retrainings are too few to split into {', '.join(PARTS)}: with "
            f"validation={plan.validation:g} and held_out={plan.held_out:g} at least {fewest} are needed; "
            "ask for more, or set validation=0 and held_out=0."
        )


def fewest_rows(plan: Plan) -> int:
    """The smallest number of rows with which every part that the plan asks for has a mask with all its
    seeds."""
    wanted = {0} | ({1} if plan.validation else set()) | ({2} if plan.held_out else set())
    length = 64
    while True:
        stop = length if plan.count is None else min(length, plan.count)
        rows = plan.rows(0, stop)
        last = {0: plan.seeds, 1: plan.seeds, 2: plan.held_out_seeds}
        first = {
            part: np.flatnonzero((rows.part == part) & (rows.repeat == last[part] - 1)) for part in wanted
        }
        if all(found.size for found in first.values()):
            return 1 + max(int(found[0]) for found in first.values())
        if plan.count is not None and stop == plan.count:
            return stop + 1
        length *= 4


def _checkpoint_rows(checkpoints: int | Sequence[int], n: int) -> frozenset[int]:
    rows = range(checkpoints) if isinstance(checkpoints, int) else [int(row) for row in checkpoints]
    outside = [row for row in rows if not 0 <= row < n]
    if outside:
        raise InputError(
            f"checkpoints asks for row {outside[0]}, but there are n={n} retrainings (rows 0 to {n - 1})."
        )
    return frozenset(rows)


def _existing(to: Path, study: Study, plan: Plan, block: int | None) -> Bank | None:
    if not is_bank(to):
        if to.exists() and (to.is_file() or any(to.iterdir())):
            raise InputError(f"to={str(to)!r} exists and is not a bank; choose another path or move it away.")
        return None
    bank = Bank.open(to, study)
    bank.check_plan(plan)
    if block is not None and block != bank.block:
        raise InputError(
            f"block={block} was asked for, but the bank at {str(to)!r} has blocks of {bank.block} rows, "
            "which cannot change; leave block out."
        )
    return bank


def _jobs(
    bank: Bank, n: int, kept: frozenset[int], share: tuple[int, int], known: dict[int, Retrained]
) -> list[Job]:
    mine = [block for block in bank.missing_blocks(n) if block % share[1] == share[0]]
    jobs = []
    for block in mine:
        start, stop = bank.rows_of(block)
        jobs.append(
            Job(
                block,
                frozenset(row for row in kept if start <= row < stop),
                known={row: run for row, run in known.items() if start <= row < stop},
            )
        )
    late: dict[int, set[int]] = {}
    done = set(bank.committed_blocks())
    for row in kept - set(bank.checkpoint_rows()):
        if row // bank.block in done and (row // bank.block) % share[1] == share[0]:
            late.setdefault(row // bank.block, set()).add(row)
    return jobs + [Job(block, frozenset(rows), only_checkpoints=True) for block, rows in sorted(late.items())]


def _executor(
    executor: str | Executor, study: Study, workers: int | None, device: str | None, n: int
) -> Executor:
    if isinstance(executor, Executor):
        return executor
    if executor != "local":
        raise InputError(
            f"executor must be one of {', '.join(EXECUTORS)}, or an Executor; received {executor!r}."
        )
    return local(study, workers, device, most=n)


def _refuse_hopeless(known: dict[int, Retrained]) -> None:
    """When none of the first rows gave a usable output, something is wrong with the study: write nothing."""
    good = [run for run in known.values() if run.error is None]
    if any(np.isfinite(value).all() for run in good for value in run.outputs.values()):
        return
    failed = next((run.error for run in known.values() if run.error is not None), None)
    what = (
        f"failed: {failed}"
        if failed is not None
        else (
            "gave outputs that are not finite; lower the learning rate, or look at what the function returns"
        )
    )
    raise RetrainingError(f"nothing was recorded, for the first {len(known)} retrainings {what}")
