"""Datamodels estimated at one kept fraction, judged at every other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whence.errors import InputError
from whence.evaluate.correlation import Rank
from whence.evaluate.lds import LDS, compare
from whence.evaluate.learning_curve import Fits
from whence.evaluate.result import Result, table, with_interval
from whence.finding import Chart, Series, Table

if TYPE_CHECKING:
    from whence.bank import Bank


@dataclass(frozen=True)
class KeepCell(Result):
    """A datamodel estimated at one kept fraction, judged by held-out retrainings at another.

    `cost` is what its retrainings took, in seconds of one worker; `behind` the LDS of the best estimate for
    this judge minus its own, with the paired interval (0 for the best).
    """

    estimated_at: float
    judged_at: float
    score: LDS
    models: int
    cost: float
    behind: float
    behind_interval: tuple[float, float] | None


@dataclass(frozen=True)
class KeepFractions(Result):
    """LDS of datamodels by the kept fraction they were estimated at (rows) and judged at (columns).

    `cells` go through the judges for each estimate, fractions ascending. `seconds` is the median time of one
    retraining at each fraction.
    """

    fractions: tuple[float, ...]
    cells: tuple[KeepCell, ...]
    seconds: dict[float, float]
    method: str
    n: int

    def cell(self, estimated_at: float, judged_at: float) -> KeepCell:
        """The cell of two fractions of `fractions`."""
        for cell in self.cells:
            if (cell.estimated_at, cell.judged_at) == (estimated_at, judged_at):
                return cell
        raise InputError(
            f"no datamodel estimated at {estimated_at} and judged at {judged_at}; fractions are "
            f"{self.fractions}."
        )

    def best(self, judged_at: float) -> float:
        """The fraction whose datamodel has the highest LDS at `judged_at`."""
        return max(self.fractions, key=lambda estimated: self.cell(estimated, judged_at).score.mean)

    def table(self) -> Table:
        """One row for each pair of fractions."""
        rows: list[list[Any]] = []
        for c in self.cells:
            low, high = c.score.interval or (None, None)
            rows.append(
                [c.estimated_at, c.judged_at, c.score.mean, low, high, c.score.ceiling, c.models, c.cost]
            )
        columns = [
            "estimated at keep",
            "judged at keep",
            "LDS",
            "95 % low",
            "95 % high",
            "ceiling",
            "models",
            "seconds",
        ]
        return Table(columns, rows)

    def chart(self) -> Chart:
        """LDS over the judge's kept fraction, one line for each fraction that was estimated at."""
        lines = []
        for estimated in self.fractions:
            scores = [self.cell(estimated, judged).score for judged in self.fractions]
            ends = [score.interval for score in scores]
            known = all(end is not None for end in ends)
            lines.append(
                Series(
                    f"estimated at {estimated:g}",
                    list(self.fractions),
                    [score.mean for score in scores],
                    low=[end[0] for end in ends if end] if known else None,
                    high=[end[1] for end in ends if end] if known else None,
                )
            )
        return Chart("lines", lines, "kept fraction of the retrainings that judge", "LDS")

    def __str__(self) -> str:
        rows: list[tuple[Any, ...]] = []
        for estimated in self.fractions:
            cells = [self.cell(estimated, judged) for judged in self.fractions]
            rows.append(
                (
                    f"{estimated:g}",
                    *(with_interval(c.score.mean, c.score.interval) for c in cells),
                    f"{cells[0].models:,} x {self.seconds[estimated]:.2g} s",
                )
            )
        ceilings = [self.cell(judged, judged).score.ceiling for judged in self.fractions]
        rows.append(("noise ceiling", *("" if c is None else f"{c:.3f}" for c in ceilings), ""))
        score = self.cells[0].score
        return (
            f"LDS of {self.method} by the kept fraction it was estimated at (rows) and judged at (columns)\n"
            + table(("estimated at", *(f"at {f:g}" for f in self.fractions), "cost"), rows)
            + f"\nn={self.n:,}, {score.n_masks} masks x {score.seeds} seeds, {len(score.per_target):,} "
            f"targets"
        )


def keep_fractions(
    method: Fits,
    banks: Sequence[Bank],
    output: str | None = None,
    rank: Rank = "spearman",
    bootstrap: int = 1000,
    seed: int = 0,
    judges: Sequence[Bank] | None = None,
) -> KeepFractions:
    """Fit `method` to each bank and judge every fit by the held-out part of every bank.

    A linear datamodel is the best linear fit around subsets of one size: weights at a small kept fraction
    tell what an example does when few others can stand in for it, those at a large one what it does in nearly
    the full set. Which to choose depends on the question, and on the cost: a retraining on a tenth of the
    data often takes a tenth of the time, so give the small fractions more retrainings and compare at equal
    cost.

    Parameters
    ----------
    method : anything with ``attribute(bank, output)`` whose weights are then judged.
    banks : of one study, each at another kept fraction, with held-out parts.
    output, rank, bootstrap, seed : as in `lds`. Differences are paired: all estimates for a judge see the
        same masks.
    judges : other banks of the same study at the same fractions, all of whose retrainings judge in place of
        the held-out parts.

    Raises
    ------
    InputError : fewer than two banks, banks of different studies, two of one kept fraction, judges at other
        fractions, or what `lds` refuses.
    """
    by_keep = _by_keep(banks)
    judged_by = by_keep if judges is None else _by_keep(judges)
    if judges is not None and (
        set(judged_by) != set(by_keep) or judges[0].study_fingerprint != banks[0].study_fingerprint
    ):
        raise InputError(
            f"judges are at kept fractions {sorted(judged_by)} and banks at {sorted(by_keep)}; both must be "
            "of one study and at the same fractions."
        )
    part = "held_out" if judges is None else "train"
    fractions = tuple(sorted(by_keep))
    output = by_keep[fractions[0]].outputs[0] if output is None else output
    fitted = {f"{keep:g}": method.attribute(by_keep[keep], output) for keep in fractions}
    seconds, models = {}, {}
    for keep in fractions:
        info: Mapping[str, Any] = by_keep[keep].info()
        seconds[keep] = float(info["seconds_per_model"] or 0.0)
        models[keep] = int(info["parts"]["train"] + info["parts"]["validation"])
    cells: dict[tuple[float, float], KeepCell] = {}
    for judged in fractions:
        comparison = compare(fitted, judged_by[judged], part, output, rank, bootstrap, seed)
        best = next(iter(comparison.scores))
        for keep in fractions:
            name = f"{keep:g}"
            gap = None if name == best else comparison.difference(best, name)
            cells[keep, judged] = KeepCell(
                estimated_at=keep,
                judged_at=judged,
                score=comparison.scores[name],
                models=models[keep],
                cost=models[keep] * seconds[keep],
                behind=0.0 if gap is None else gap.difference,
                behind_interval=None if gap is None else gap.interval,
            )
    ordered = tuple(cells[keep, judged] for keep in fractions for judged in fractions)
    name = next(iter(fitted.values())).method or type(method).__name__
    return KeepFractions(fractions, ordered, seconds, name, ordered[0].score.n)


def _by_keep(banks: Sequence[Bank]) -> dict[float, Bank]:
    by_keep: dict[float, Bank] = {float(bank.plan.subsets.keep): bank for bank in banks}
    if len(by_keep) < 2 or len(by_keep) < len(banks):
        raise InputError(
            f"banks are at kept fractions {[float(b.plan.subsets.keep) for b in banks]}, but there must be "
            "two or more, all different."
        )
    if len({bank.study_fingerprint for bank in banks}) > 1:
        raise InputError("banks are of different studies; retrain one study at several kept fractions.")
    return by_keep
