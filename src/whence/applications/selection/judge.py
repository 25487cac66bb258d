"""Training on every choice and comparing what becomes of the report examples."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.selection.export import file_name
from whence.applications.selection.finding import Choice, SelectionFinding, SelectionRow, Settings
from whence.applications.selection.multiplier import compute_multiplier
from whence.applications.selection.pool import Pool, check_apart, contents
from whence.applications.selection.words import chart, described, meaning, table
from whence.bank import Bank
from whence.errors import InputError
from whence.evaluate.intervals import mean_interval, welch
from whence.evaluate.removals import FRESH
from whence.provenance import usable_cores
from whence.subsets import Plan, Subsets

if TYPE_CHECKING:
    from whence.study import Study

Losses = dict[int, np.ndarray]  # number of a choice -> (finite trainings, report targets)


def check_report(pool: Pool, report: Study, settings: Settings) -> None:
    """`InputError` where a study cannot judge the choices from a pool."""
    if not np.array_equal(report.train_ids, pool.ids):
        raise InputError(
            f"the report study has other training examples ({report.n}) than the candidates ({pool.n}); make "
            "both studies of one pool, under the same ids."
        )
    if contents(report.train, pool.study.train) != contents(pool.study.train, report.train):
        raise InputError(
            "the report study has the candidates' ids but other inputs or labels; tokenise and scale both "
            "studies alike."
        )
    if settings.output not in report.outputs:
        raise InputError(
            f"output is {settings.output!r}, but the report study records {', '.join(report.outputs)}."
        )
    check_apart(report.targets, pool.study.targets, "report", "selection examples")
    check_apart(report.targets, report.train, "report", "candidates")
    for task in settings.report_ids:
        _places(report, settings, task)


def judged(
    found: SelectionFinding, study: Study, seed: int, to: str | os.PathLike[str] | None,
    workers: int | None, device: str | None, progress: bool,
) -> SelectionFinding:  # fmt: skip
    """See `SelectionFinding.verify`."""
    check_report(found.pool, study, found.settings)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()) if to is None else to)
        losses = _train(found.choices, study, found.settings, seed, folder, workers, device, progress)
    rows = compared(found, study, losses)
    trained = sum(len(choice.draws) for choice in found.choices)
    failed = trained - sum(map(len, losses.values()))
    lost = f", {failed} of them without a finite result and left out" if failed else ""
    counts = ", ".join(
        f"{len(_places(study, found.settings, task))}" + (f" of {task}" if len(found.tasks) > 1 else "")
        for task in found.tasks
    )
    return replace(
        found,
        statement=described(rows, found.settings, found.pool, len({c.selector for c in found.choices})),
        table=table(rows, found.settings),
        chart=chart(rows, found.settings),
        verified=(
            f"{trained} trainings on the choices{lost}, judged by {counts} report examples that no rule saw"
        ),
        meaning=meaning(found.settings),
        provenance={**found.provenance, "report": study.fingerprint, "training_seed": seed},
        rows=rows,
    )


def _train(
    choices: Sequence[Choice], study: Study, settings: Settings, seed: int, folder: Path,
    workers: int | None, device: str | None, progress: bool,
) -> Losses:  # fmt: skip
    """A bank for each rule and task: a rule that is added later trains alone."""
    from whence.retraining import retrain  # the executor stack loads only where something is trained
    from whence.retraining.sizing import choose_block

    banks: dict[tuple[str | None, str], list[int]] = {}
    for number, choice in enumerate(choices):
        banks.setdefault((choice.task, choice.selector), []).append(number)
    paths = {key: folder / f"{file_name(*key)}.zarr" for key in banks}
    if len(set(paths.values())) < len(paths):
        raise InputError("two rules or tasks have names that give one file name; rename one by name=.")
    found: Losses = {}
    engine: dict[str, Any] | None = None
    for key, numbers in banks.items():
        masks, owner = [], []
        for number in numbers:
            for draw in choices[number].draws:
                mask = np.zeros(study.n, bool)
                mask[draw] = True
                masks.append(mask)
                owner.append(number)
        plan = Plan(Subsets.given(np.stack(masks)), validation=0.0, held_out=0.0, seed=seed + FRESH)
        if engine is not None and not paths[key].exists():
            # how to train was measured for the first bank; measuring costs as much as a short training
            block = choose_block(
                len(masks), engine["seconds_per_model"], usable_cores(), engine.get("stack", 1)
            )
            Bank.create(paths[key], study, plan, block=block, engine=engine)
        bank = retrain(
            study,
            len(masks),
            subsets=plan.subsets,
            validation=plan.validation,
            held_out=plan.held_out,
            seed=plan.seed,
            to=paths[key],
            workers=workers,
            device=device,
            progress=progress,
        )
        engine = bank.engine
        sample = bank.select("train", settings.output)
        of_row = np.array(owner)[sample.mask_index]
        for number in numbers:
            found[number] = np.asarray(sample.outputs[of_row == number], np.float64)
    return found


def compared(found: SelectionFinding, study: Study, losses: Losses) -> tuple[SelectionRow, ...]:
    """The rows with what was trained in them."""
    settings = found.settings
    number = {(choice.task, choice.selector, choice.fraction): i for i, choice in enumerate(found.choices)}
    rows = []
    for task in found.tasks:
        places = _places(study, settings, task)

        def runs(selector: str, fraction: float, task: str = task, places: np.ndarray = places) -> np.ndarray:
            """(trainings,) mean output over the task's report examples; () where nothing was trained."""
            at = number.get((task, selector, fraction), number.get((None, selector, fraction)))
            return np.zeros(0) if at is None else losses[at][:, places].mean(1)

        random_at = partial(runs, settings.random)
        rows += [
            _row(row, runs(row.selector, row.fraction), settings, random_at)
            for row in found.rows
            if row.task == task
        ]
    return tuple(rows)


def _row(
    row: SelectionRow, own: np.ndarray, settings: Settings, random_at: Callable[[float], np.ndarray]
) -> SelectionRow:
    if not len(own):
        return row
    better = 1.0 if lower_is_better(settings.output) else -1.0
    several = len(own) > 1
    mean, interval = mean_interval(own) if several else (float(own[0]), None)
    row = replace(row, losses=tuple(own.tolist()), loss=mean, interval=interval)
    if row.selector == settings.random or not several:
        return row
    if len(random_at(row.fraction)) > 1:
        ahead, ahead_interval = welch(better * random_at(row.fraction), better * own)
        row = replace(row, ahead=ahead, ahead_interval=ahead_interval)
    at = {m: better * random_at(round(row.fraction * m, 12)) for m in (1.0, *settings.multiples)}
    at = {m: values for m, values in at.items() if len(values) > 1}
    if len(at) < 2:
        return row
    return replace(row, multiplier=compute_multiplier(at, better * own))


def lower_is_better(output: str) -> bool:
    """As `Attribution.lower_is_better`."""
    return output == "loss" or output.endswith("_loss")


def _places(report: Study, settings: Settings, task: str) -> np.ndarray:
    """Positions of a task's report examples in the report study."""
    ids = settings.report_ids[task]
    if ids is None:
        return np.arange(len(report.target_ids))
    place: Mapping[object, int] = {identity: i for i, identity in enumerate(report.target_ids.tolist())}
    unknown = [identity for identity in ids if identity not in place]
    if unknown or not ids:
        what = f"{unknown[0]!r} is no target of the report study" if unknown else "it has none"
        raise InputError(f"task {task!r} needs report examples that are targets of the report study; {what}.")
    return np.array([place[identity] for identity in ids])
