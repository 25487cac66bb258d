"""A comparison of choices in words, as a table and as a chart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from whence.applications.selection.finding import SelectionRow, Settings
from whence.applications.selection.pool import Pool
from whence.evaluate.intervals import mean_interval
from whence.evaluate.result import with_interval
from whence.finding import Chart, Series, Table


def described(rows: Sequence[SelectionRow], settings: Settings, pool: Pool, rules: int) -> str:
    """The conclusion at the smallest fraction, in one sentence."""
    share = min(settings.fractions)
    if not any(row.loss is not None for row in rows):
        words = ", ".join(f"{f:.3g}" for f in settings.fractions)
        return f"{rules} rules chose {words} of {pool.n:,} candidates"
    parts = []
    tasks = list(dict.fromkeys(row.task for row in rows))
    for task in tasks:
        mine = [
            row
            for row in rows
            if row.task == task and row.ahead is not None and abs(row.fraction - share) < 1e-9
        ]
        if not mine:
            continue
        best = max(mine, key=lambda row: row.ahead or 0.0)
        times = "" if best.multiplier is None else f", compute multiplier {best.multiplier}"
        parts.append(
            f"{task}: {best.selector}, {with_interval(best.ahead or 0.0, best.ahead_interval)} ahead of "
            f"random in mean {settings.output}{times}"
        )
    if not parts:
        return (
            f"Trained on {rules} choices of {pool.n:,} candidates, none of which can be held against random"
        )
    return f"Best at {share:.3g} of {pool.n:,} candidates, of {rules} rules: {'; '.join(parts)}"


def meaning(settings: Settings) -> str:
    """Sign, units and intervals."""
    return (
        f"Means of the {settings.output} over report examples. Ahead: positive = better than random choices "
        "of the same fraction. Intervals are 95 %, over trainings, the report examples taken as given. A "
        "multiplier of 3 = random choices need three times the compute to be as good. The best of several "
        "rules looks better than it is; verify with another seed repeats the comparison."
    )


def table(rows: Sequence[SelectionRow], settings: Settings) -> Table:
    """One line for each row; the task where there are several."""
    several = len({row.task for row in rows}) > 1
    columns = (
        *(("task",) if several else ()),
        "rule", "fraction", "chosen", "duplicates", settings.output, "ahead of random", "compute multiplier",
    )  # fmt: skip
    lines = [
        (
            *((row.task,) if several else ()),
            row.selector if row.fraction < 1 else "everything",
            row.fraction,
            round(row.chosen),
            None if row.duplicates is None else f"{row.duplicates:.1%}",
            None if row.loss is None else with_interval(row.loss, row.interval),
            None if row.ahead is None else with_interval(row.ahead, row.ahead_interval),
            None if row.multiplier is None else str(row.multiplier),
        )
        for row in rows
    ]
    return Table(columns, lines)


def chart(rows: Sequence[SelectionRow], settings: Settings, task: str | None = None) -> Chart | None:
    """The output against the fraction, a line for each rule; of one task, or of the mean over tasks."""
    rows = [row for row in rows if row.losses and task in (None, row.task)]
    tasks = {row.task for row in rows}
    series = []
    for name in dict.fromkeys(row.selector for row in rows):
        points = []
        for fraction in sorted({row.fraction for row in rows if row.selector == name}):
            losses = [row.losses for row in rows if (row.selector, row.fraction) == (name, fraction)]
            shortest = min(map(len, losses))
            values = np.mean([one[:shortest] for one in losses], 0)
            middle = float(values.mean())
            points.append(
                (fraction, middle, *(mean_interval(values)[1] if shortest > 1 else (middle, middle)))
            )
        x, y, low, high = zip(*points, strict=True)
        series.append(Series(name, x, y, low=low, high=high))
    if not series:
        return None
    on = task or (next(iter(tasks)) if len(tasks) == 1 else f"{len(tasks)} tasks")
    return Chart("lines", series, "fraction of the candidates", f"mean {settings.output} on {on}", log_x=True)
