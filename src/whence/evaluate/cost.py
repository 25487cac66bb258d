"""LDS against compute: how much accuracy ten times the compute buys."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from whence.errors import InputError
from whence.evaluate.result import Result, table, with_interval

if TYPE_CHECKING:
    from whence.evaluate.lds import Comparison


@dataclass(frozen=True)
class CostPoint(Result):
    """One attribution: its compute in trainings of one model, its LDS and 95 % interval.

    `frontier` says that nothing cheaper is as good.
    """

    method: str
    trainings: float
    lds: float
    interval: tuple[float, float] | None
    frontier: bool


@dataclass(frozen=True)
class CostCurve(Result):
    """Attributions by what they cost, cheapest first, judged on the same held-out retrainings.

    Attributes
    ----------
    rows : one `CostPoint` for each attribution.
    ceiling, ceiling_interval : as in `whence.evaluate.LDS`.
    note : on what this was measured.
    """

    rows: tuple[CostPoint, ...]
    ceiling: float | None
    ceiling_interval: tuple[float, float] | None
    note: str

    @property
    def frontier(self) -> list[CostPoint]:
        """The attributions that are the best at their price, cheapest first."""
        return [row for row in self.rows if row.frontier]

    def best(self, trainings: float) -> CostPoint | None:
        """The best attribution for at most so many trainings; None where all cost more."""
        within = [row for row in self.frontier if row.trainings <= trainings]
        return within[-1] if within else None

    @property
    def steps(self) -> list[tuple[int, CostPoint]]:
        """The best attribution within 1, 10, 100, ... trainings, as (budget, point)."""
        most = self.frontier[-1].trainings
        budgets = [10**power for power in range(math.ceil(math.log10(max(most, 1.0))) + 1)]
        return [(budget, found) for budget in budgets if (found := self.best(budget)) is not None]

    @property
    def sentence(self) -> str:
        """What each tenfold of compute buys, in words."""
        steps = self.steps
        if len(steps) < 2:
            only = self.frontier[-1]
            return f"Nothing that costs more than {only.method} is better than it (LDS {only.lds:.2f})"
        gains = [f"{b.lds - a.lds:+.2f} from {x:,} to {y:,}" for (x, a), (y, b) in pairwise(steps)]
        return f"Ten times the compute buys LDS {', '.join(gains)} trainings"

    def __str__(self) -> str:
        cells = [
            (row.method, f"{row.trainings:.3g}", with_interval(row.lds, row.interval), "*" * row.frontier)
            for row in self.rows
        ]
        drawn = table(("method", "trainings", "LDS", "best at its price"), cells)
        return f"{drawn}\n{self.sentence}; {self.note}"


def cost_curve(comparison: Comparison, trainings: Mapping[str, float]) -> CostCurve:
    """Hold the LDS of each attribution against what it cost.

    Parameters
    ----------
    comparison : of `whence.evaluate.compare`.
    trainings : the cost of each attribution of the comparison by its name, in units of one training: the
        models that it needs trained, plus its own processor time over that of one training
        (``bank.info()["seconds_per_model"]``). 0 is allowed, for what costs next to nothing.

    Raises
    ------
    InputError : a cost is missing, negative or not finite, or belongs to no attribution.
    """
    names = set(comparison.scores)
    if names != set(trainings):
        lacking, strange = sorted(names - set(trainings)), sorted(set(trainings) - names)
        raise InputError(
            "trainings must give one cost for each attribution of the comparison; "
            + "; ".join(
                f"{what} {', '.join(map(repr, some))}"
                for what, some in (("it lacks", lacking), ("the comparison does not have", strange))
                if some
            )
            + "."
        )
    for name, cost in trainings.items():
        if not (math.isfinite(cost) and cost >= 0):
            raise InputError(f"trainings[{name!r}] is {cost}, but a cost is a finite number from 0 up.")
    rows: list[CostPoint] = []
    best = -math.inf
    for name in sorted(names, key=lambda name: (trainings[name], -comparison.scores[name].mean)):
        score = comparison.scores[name]
        rows.append(
            CostPoint(name, float(trainings[name]), score.mean, score.interval, bool(score.mean > best))
        )
        best = max(best, score.mean)
    first = next(iter(comparison.scores.values()))
    note = (
        f"{first.ceiling_note}; n={first.n:,}, keep={first.keep:g}, {first.n_masks} masks x {first.seeds} "
        f"seeds, {len(first.per_target):,} targets"
    )
    return CostCurve(tuple(rows), first.ceiling, first.ceiling_interval, note)
