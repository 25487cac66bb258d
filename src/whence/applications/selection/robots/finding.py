"""What came of choosing demonstrations: success and held-out loss of policies, by rule, task and kept
fraction."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.selection.export import write_index
from whence.errors import InputError
from whence.evaluate.correlation import correlations
from whence.evaluate.intervals import mean_interval
from whence.finding import Chart, Series, Table
from whence.study import Study

ALL, TARGET = "all data", "target only"


@dataclass(frozen=True, eq=False)
class Arm:
    """Policies of one rule at one task and kept fraction.

    Attributes
    ----------
    fraction : share of the clusters that is kept; 1 for all data, 0 for the target demonstrations alone.
    ids : of the chosen steps; where they are drawn, by the first seed.
    losses : cloning loss on the report demonstrations, ``(seeds,)``. rates : share of rollouts that were
        solved, ``(seeds,)``, or None without rollouts.
    judged : where the fraction is tuned, what it was kept for: the mean loss on the demonstrations to choose
        by, or minus the share of trials that were solved; lower is better.
    """

    task: str
    name: str
    fraction: float
    ids: np.ndarray = field(repr=False)
    losses: np.ndarray
    rates: np.ndarray | None
    judged: float | None = None


@dataclass(frozen=True)
class DemonstrationFinding(Applied):
    """See `compare_demonstrations`.

    Attributes
    ----------
    arms : every rule at every task and fraction.
    rank_correlation : task -> Spearman correlation of minus the loss on report demonstrations (the surrogate)
        with success, over all policies of the task; empty without rollouts.
    """

    arms: tuple[Arm, ...] = field(default=(), repr=False)
    rank_correlation: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, arms: Sequence[Arm], *, episodes: int, settings: Mapping[str, Any]) -> DemonstrationFinding:
        """From the arms of all tasks."""
        rolled = all(arm.rates is not None for arm in arms)
        tasks = list(dict.fromkeys(arm.task for arm in arms))
        rows, over_tasks = [], {}
        for (name, fraction), mine in _by_rule(arms).items():
            loss = over_seeds([arm.losses for arm in mine])
            cells: list[Any] = [name, fraction, *loss]
            if rolled:
                success = over_seeds([arm.rates for arm in mine if arm.rates is not None])
                over_tasks[name, fraction] = success[0]
                cells += success
            rows.append(cells)
        columns = ["chosen by", "kept", "loss", "95 % low", "95 % high"]
        columns += ["success", "success low", "success high"] if rolled else []
        ranks = (
            {task: _rank_correlation([arm for arm in arms if arm.task == task]) for task in tasks}
            if rolled
            else {}
        )
        count, head = len(arms[0].losses), settings.get("head")
        drawn = (
            f" Rules rank the best {_percent(head)} of the pool; what else is kept was drawn at random, anew "
            "for each seed."
            if head is not None
            else ""
        )
        return cls(
            title="Demonstrations chosen",
            statement=_statement(rows, over_tasks, len(tasks), count, episodes if rolled else 0),
            table=Table(columns, rows),
            chart=_chart(arms, tasks, rolled),
            verified=f"every policy was trained anew, {count} seeds for each rule and task"
            + (f", and rolled out {episodes} times" if rolled else "; no rollouts"),
            meaning="loss: mean negative log-likelihood of actions in demonstrations held out from choice "
            f"and training, nats a step, lower is better. Intervals are over seeds, means over tasks.{drawn}",
            provenance=dict(settings),
            arms=tuple(arms),
            rank_correlation=ranks,
        )

    def arm(self, task: str, name: str, fraction: float | None = None) -> Arm:
        """One arm; the fraction may be left out where there is one only."""
        found = [a for a in self.arms if (a.task, a.name) == (task, name) and fraction in (None, a.fraction)]
        if len(found) != 1:
            raise InputError(
                f"{len(found)} arms are of {task!r}, {name!r} and fraction {fraction}; name one."
            )
        return found[0]

    def export(
        self, path: str | os.PathLike[str], task: str, name: str, fraction: float | None = None
    ) -> None:
        """Write the ids of the chosen steps as a plain index file (of the first draw, where it is drawn); see
        `whence.applications.selection.write_index`."""
        write_index(path, self.arm(task, name, fraction).ids)

    def verify(self, study: Study, *args: Any, **kwargs: Any) -> DemonstrationFinding:
        """Itself: policies were trained and rolled out to find it. Compare again with other seeds for a
        second opinion."""
        return self


def _by_rule(arms: Sequence[Arm]) -> dict[tuple[str, float], list[Arm]]:
    """(rule, fraction) -> its arms; where a rule has one arm a task, whatever it keeps there, the fraction is
    the mean over tasks."""
    single = len({(arm.task, arm.name) for arm in arms}) == len(arms)
    found: dict[tuple[str, float | None], list[Arm]] = {}
    for arm in arms:
        found.setdefault((arm.name, None if single else arm.fraction), []).append(arm)
    return {
        (name, float(np.mean([arm.fraction for arm in mine])) if kept is None else kept): mine
        for (name, kept), mine in found.items()
    }


def over_seeds(values: Sequence[np.ndarray]) -> tuple[float, float | None, float | None]:
    """Mean over tasks of ``(seeds,)`` values each, with its 95 % interval over seeds (None with one seed)."""
    means = np.mean(np.stack(values), axis=0)
    if len(means) < 2:
        return float(means[0]), None, None
    mean, (low, high) = mean_interval(means)
    return mean, low, high


def _rank_correlation(arms: Sequence[Arm]) -> float:
    losses = np.concatenate([arm.losses for arm in arms])
    rates = np.concatenate([arm.rates for arm in arms if arm.rates is not None])
    return float(correlations(-losses[:, None], rates[:, None])[0])


def _statement(
    rows: Sequence[Sequence[Any]],
    success: Mapping[tuple[str, float], float],
    tasks: int,
    seeds: int,
    episodes: int,
) -> str:
    where = f"{tasks} task{'s' * (tasks > 1)}, {seeds} seed{'s' * (seeds > 1)}"
    if success:
        (name, fraction), rate = max(success.items(), key=lambda item: item[1])
        other = success.get((ALL, 1.0), 0.0)
        return (
            f"Policies trained on {_words(name, fraction)} solve {rate:.0%} of rollouts, on all data "
            f"{other:.0%} ({where}, {episodes} rollouts each)."
        )
    best = min(rows, key=lambda row: row[2])
    other = next((row[2] for row in rows if row[0] == ALL), float("nan"))
    return (
        f"Policies trained on {_words(best[0], best[1])} have a held-out loss of {best[2]:.3g}, on all data "
        f"{other:.3g} nats a step ({where})."
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g}%"


def _words(name: str, fraction: float) -> str:
    if name == ALL:
        return ALL
    return (
        "the target demonstrations alone" if name == TARGET else f"the {_percent(fraction)} chosen by {name}"
    )


def _chart(arms: Sequence[Arm], tasks: Sequence[str], rolled: bool) -> Chart:
    def values(arm: Arm) -> np.ndarray:
        return arm.losses if arm.rates is None else arm.rates

    series = []
    for (name, fraction), mine in _by_rule(arms).items():
        of_task = {arm.task: values(arm) for arm in mine}
        ends = [over_seeds([of_task[task]]) for task in tasks]
        known = all(end[1] is not None for end in ends)
        label = name if fraction in (0.0, 1.0) else f"{name}, {_percent(fraction)}"
        series.append(
            Series(
                label,
                list(tasks),
                [end[0] for end in ends],
                low=[float(end[1]) for end in ends if end[1] is not None] if known else None,
                high=[float(end[2]) for end in ends if end[2] is not None] if known else None,
            )
        )
    return Chart(
        "bars", series, "task", "share of rollouts solved" if rolled else "held-out loss, nats a step"
    )
