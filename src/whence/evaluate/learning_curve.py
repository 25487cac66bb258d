"""LDS against the number of retrained models: how much more retraining would buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from whence.errors import InputError
from whence.evaluate.correlation import Rank
from whence.evaluate.lds import LDS, lds
from whence.evaluate.result import Result, table, with_interval

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank, MaskGroups, Sample


class Fits(Protocol):
    """A method of `whence.methods` that reads retrainings."""

    def attribute(self, source: Any, output: str | None = None) -> Attribution: ...


@dataclass(frozen=True)
class Point(Result):
    """LDS of the method fitted to the first `models` retrainings (train and validation parts), with its 95 %
    interval.
    """

    models: int
    lds: float
    low: float | None
    high: float | None
    score: LDS


@dataclass(frozen=True)
class LearningCurve(Result):
    """LDS for growing numbers of retrained models; the held-out masks are the same throughout.

    `models`, `lds`, `low` and `high` list the columns of `rows`. Intervals resample held-out masks and
    targets, not the retrainings that were fitted to. Because the judges are shared, points of a curve err
    together: differences between them are more certain than their intervals look.
    """

    method: str
    rows: tuple[Point, ...]
    ceiling: float | None
    ceiling_interval: tuple[float, float] | None

    @property
    def models(self) -> list[int]:
        return [row.models for row in self.rows]

    @property
    def lds(self) -> list[float]:
        return [row.lds for row in self.rows]

    @property
    def low(self) -> list[float | None]:
        return [row.low for row in self.rows]

    @property
    def high(self) -> list[float | None]:
        return [row.high for row in self.rows]

    def __str__(self) -> str:
        cells = [
            (f"{r.models:,}", with_interval(r.lds, r.score.interval), f"{r.score.pearson:.3f}")
            for r in self.rows
        ]
        last = self.rows[-1].score
        return (
            f"{self.method or 'unnamed method'}\n"
            + table(("models", f"LDS ({last.rank})", "Pearson"), cells)
            + f"\n{last.ceiling_note}; n={last.n:,}, keep={last.keep:g}, {last.n_masks} masks x "
            f"{last.seeds} seeds, "
            f"{len(last.per_target):,} targets"
        )


def learning_curve(
    method: Fits,
    bank: Bank,
    models: Sequence[int] | None = None,
    output: str | None = None,
    rank: Rank = "spearman",
    bootstrap: int = 1000,
    seed: int = 0,
) -> LearningCurve:
    """Fit `method` to the first retrainings of `bank`, ever more of them, and score each fit on the held-out
    part.

    Parameters
    ----------
    method : anything with ``attribute(bank, output)``. It sees the first `models` rows of the train and
        validation parts together, in the order of the plan, which is a random sample.
    bank : with train, validation and held-out rows.
    models : numbers of retrained models; default doubles from about 1/32 of what there is up to all of it.
    output, rank, bootstrap, seed : as in `lds`.

    Raises
    ------
    InputError : more models than the bank has in its train and validation parts; what `method` or `lds`
        refuses.
    """
    output = bank.outputs[0] if output is None else output
    have = fitting_models(bank, output)
    counts = _default(have) if models is None else [int(m) for m in models]
    if not counts or min(counts) < 2 or max(counts) > have:
        raise InputError(
            f"models is {tuple(counts)}, but the bank has {have} retrainings to fit to (train and "
            f"validation parts); pass "
            f"numbers from 2 to {have}."
        )
    rows = []
    name = ""
    for count in sorted(set(counts)):
        attribution = method.attribute(first_models(bank, count, output), output)
        name = attribution.method or type(method).__name__
        score = lds(attribution, bank, "held_out", output, rank, bootstrap, seed)
        low, high = score.interval or (None, None)
        rows.append(Point(count, score.mean, low, high, score))
    last = rows[-1].score
    return LearningCurve(name, tuple(rows), last.ceiling, last.ceiling_interval)


class WithoutRows:
    """A bank as it would be without some retrainings of its train and validation parts; the held-out part
    stays whole.

    Everything else is the bank's own.

    Parameters
    ----------
    absent : numbers of the rows that it does not show.
    """

    def __init__(self, bank: Bank, absent: np.ndarray) -> None:
        self._bank = bank
        self._absent = absent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bank, name)

    def select(self, part: str | None = None, output: str | None = None) -> Sample:
        """As `Bank.select`, without the absent rows."""
        sample = self._bank.select(part, output)
        present = ~np.isin(sample.rows, self._absent)
        return replace(
            sample, **{field.name: getattr(sample, field.name)[present] for field in fields(sample)}
        )

    def by_mask(self, part: str | None = "held_out", output: str | None = None) -> MaskGroups:
        """As `Bank.by_mask`, without masks of the absent rows."""
        if part != "held_out":
            raise InputError(
                "only single retrainings of this view of a bank can be read; use select(part, output)."
            )
        return self._bank.by_mask(part, output)

    def masks(self, part: str | None = None, rows: Any = None, **how: Any) -> np.ndarray:
        """As `Bank.masks`, without the absent rows."""
        return self._bank.masks(part, self._present(part, rows), **how)

    def packed_masks(self, part: str | None = None, rows: Any = None, **how: Any) -> np.ndarray:
        """As `Bank.packed_masks`, without the absent rows."""
        return self._bank.packed_masks(part, self._present(part, rows), **how)

    def outputs_of(
        self, name: str | None = None, part: str | None = None, rows: Any = None, **how: Any
    ) -> np.ndarray:
        """As `Bank.outputs_of`, without the absent rows."""
        return self._bank.outputs_of(name, part, self._present(part, rows), **how)

    def _present(self, part: str | None, rows: Any) -> list[int]:
        known = self._bank.select(part).rows if rows is None else np.asarray(rows)
        return known[~np.isin(known, self._absent)].tolist()


def first_models(bank: Bank, count: int, output: str) -> Any:
    """`bank` as it was after its first `count` retrainings to fit to. Rows count in the order of the plan, so
    it does not matter in which order blocks were filled."""
    return WithoutRows(bank, _fitting_rows(bank, output)[count:])


def fitting_models(bank: Bank, output: str) -> int:
    """How many retrainings a method may fit to: the rows of the train and validation parts."""
    return len(_fitting_rows(bank, output))


def _fitting_rows(bank: Bank, output: str) -> np.ndarray:
    return np.sort(np.concatenate([bank.select(part, output).rows for part in ("train", "validation")]))


def _default(have: int) -> list[int]:
    return sorted({count for count in (have >> shift for shift in range(5, -1, -1)) if count >= 32} | {have})
