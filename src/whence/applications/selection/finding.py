"""SelectionFinding: which candidates each rule chose, and what training on them was worth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.selection.export import dataset, file_name, write_index
from whence.applications.selection.multiplier import ComputeMultiplier
from whence.applications.selection.pool import Pool
from whence.errors import InputError
from whence.evaluate.result import Result
from whence.finding import Chart

if TYPE_CHECKING:
    from whence.study import Study


@dataclass(frozen=True)
class Choice:
    """What one rule chose at one fraction, drawn several times: equal draws where nothing is random.

    `task` is None for a rule that does not look at the target examples; it serves all tasks. `draws` are
    positions of candidates, ascending, one array for each draw. `duplicates` is the mean share of chosen
    candidates that repeat another; None where candidates cannot be compared.
    """

    task: str | None
    selector: str
    fraction: float
    draws: tuple[np.ndarray, ...]
    duplicates: float | None


@dataclass(frozen=True)
class SelectionRow(Result):
    """A rule at a fraction on a task.

    Attributes
    ----------
    chosen : candidates, size : their sizes added up; means over draws.
    duplicates : as in `Choice`.
    losses : mean output over the task's report examples, one for each finite training; () before `verify`.
    loss, interval : their mean and 95 % interval (Student, over trainings).
    ahead, ahead_interval : how much better than random choices of the same fraction, positive = better, in
        units of the output (Welch); None for random choices themselves.
    multiplier : see `compute_multiplier`; None where random choices of other sizes were not trained.
    """

    task: str
    selector: str
    fraction: float
    chosen: float
    size: float
    duplicates: float | None
    losses: tuple[float, ...] = ()
    loss: float | None = None
    interval: tuple[float, float] | None = None
    ahead: float | None = None
    ahead_interval: tuple[float, float] | None = None
    multiplier: ComputeMultiplier | None = None


@dataclass(frozen=True)
class Settings:
    """What a check has to know: fractions that were asked for, multiples, the output, the tasks' report ids
    (None: all)."""

    fractions: tuple[float, ...]
    multiples: tuple[float, ...]
    output: str
    report_ids: Mapping[str, Sequence[Any] | None]
    random: str


@dataclass(frozen=True)
class SelectionFinding(Applied):
    """Choices of training data, compared.

    Attributes
    ----------
    rows : one `SelectionRow` for each task, rule and fraction.
    choices : the chosen candidates.
    tasks : their names.
    """

    rows: tuple[SelectionRow, ...] = ()
    tasks: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = field(repr=False, compare=False, default=())
    pool: Pool = field(repr=False, compare=False, kw_only=True)
    settings: Settings = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        device: str | None = None,
        progress: bool = False,
    ) -> SelectionFinding:
        """Train on every draw of every choice and compare the report examples' output.

        Parameters
        ----------
        study : the same candidates with the *report half* as targets. Its recipe may be another than that of
            the scores: a choice made with a small model, judged by a large one.
        seed : of the training seeds; another one is an independent repetition.
        to : folder of the banks, one for each rule (and task), so that a stopped check resumes and a rule
            added later costs its own trainings only. The rest is as in `whence.retrain`.
        """
        from whence.applications.selection.judge import judged

        return judged(self, study, seed, to, workers, device, progress)

    def row(self, selector: str, fraction: float | None = None, task: str | None = None) -> SelectionRow:
        """One row; the fraction and the task may be left out where there is only one."""
        fraction = self._only(fraction, self.settings.fractions, "fraction")
        task = self._only(task, self.tasks, "task")
        for row in self.rows:
            if (row.selector, row.task) == (selector, task) and abs(row.fraction - fraction) < 1e-9:
                return row
        raise InputError(self._nothing(selector, fraction))

    def selection(
        self, selector: str, fraction: float | None = None, task: str | None = None, draw: int = 0
    ) -> np.ndarray:
        """Ids of the chosen candidates."""
        return self.pool.ids[self.positions(selector, fraction, task, draw)]

    def positions(
        self, selector: str, fraction: float | None = None, task: str | None = None, draw: int = 0
    ) -> np.ndarray:
        """Positions of the chosen candidates in the pool, ascending."""
        fraction = self._only(fraction, self.settings.fractions, "fraction")
        found = [c for c in self.choices if c.selector == selector and abs(c.fraction - fraction) < 1e-9]
        if not found:
            raise InputError(self._nothing(selector, fraction))
        if found[0].task is not None:
            task = self._only(task, self.tasks, "task")
            found = [choice for choice in found if choice.task == task]
        if not found or not 0 <= draw < len(found[0].draws):
            raise InputError(f"there is no draw {draw} of {selector!r} for task {task!r}.")
        return found[0].draws[draw]

    def export(
        self,
        path: str | os.PathLike[str],
        selector: str,
        fraction: float | None = None,
        task: str | None = None,
        draw: int = 0,
    ) -> None:
        """Write a choice as a plain index file; see `whence.applications.selection.write_index`."""
        chosen = self.positions(selector, fraction, task, draw)
        write_index(path, self.pool.ids[chosen], chosen)

    def export_all(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write the first draw of every choice to a folder as ``[TASK-]RULE-FRACTION.jsonl``; the paths."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        written = []
        for choice in self.choices:
            at = choice.draws[0]
            written.append(place / f"{file_name(choice.task, choice.selector)}-{choice.fraction:g}.jsonl")
            write_index(written[-1], self.pool.ids[at], at)
        return written

    def to_dataset(
        self,
        selector: str,
        fraction: float | None = None,
        task: str | None = None,
        draw: int = 0,
        texts: Sequence[str] | np.ndarray | None = None,
    ) -> Any:
        """A Hugging Face dataset of the chosen candidates: id, position and text (default: the study's)."""
        chosen = self.positions(selector, fraction, task, draw)
        return dataset(self.pool.ids[chosen], chosen, self.pool.texts if texts is None else texts)

    def chart_of(self, task: str) -> Chart:
        """The output against the fraction, one line for each rule, with 95 % intervals over trainings."""
        from whence.applications.selection.words import chart

        found = chart(self.rows, self.settings, task)
        if found is None:
            raise InputError(f"nothing was trained for task {task!r}; see verify.")
        return found

    def _only(self, value: Any, known: Sequence[Any], what: str) -> Any:
        if value is not None:
            return value
        if len(known) != 1:
            raise InputError(f"say which {what}: there are {', '.join(map(str, known))}.")
        return known[0]

    def _nothing(self, selector: str, fraction: float) -> str:
        names = ", ".join(dict.fromkeys(choice.selector for choice in self.choices))
        at = ", ".join(f"{f:g}" for f in sorted({choice.fraction for choice in self.choices}))
        return f"nothing was chosen by {selector!r} at {fraction}; there are {names}, at {at}."
