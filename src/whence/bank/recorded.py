"""Plans of banks whose masks were drawn by somebody else: recorded, not redrawable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.subsets import Plan, Rows


@dataclass(frozen=True)
class RecordedSubsets:
    """Stands where `Subsets` stands when the masks came from elsewhere; they are read from the bank, never
    drawn."""

    n: int
    keep: float
    design: str = "recorded"
    seed: int = 0

    @property
    def count(self) -> None:
        """The number of masks is the plan's business."""
        return

    def mask(self, index: int) -> np.ndarray:
        """Cannot be drawn."""
        raise InputError(
            "the masks of this bank were recorded elsewhere and cannot be drawn again; read bank.masks()."
        )

    def masks(self, indices: Iterable[int]) -> np.ndarray:
        """Cannot be drawn."""
        return self.mask(0)


@dataclass(frozen=True)
class RecordedPlan:
    """Rows in file order: every row its own mask; the last `held_out` rows are for reporting, the
    `validation` rows before them for choosing hyper-parameters, as in the released code (its validation rows
    are the last)."""

    subsets: RecordedSubsets
    count: int
    validation: int
    held_out: int

    def __post_init__(self) -> None:
        if min(self.validation, self.held_out) < 0 or self.validation + self.held_out >= self.count:
            raise InputError(
                f"validation={self.validation} and held_out={self.held_out} rows must leave at least one of "
                f"{self.count} to train on."
            )

    def rows(self, start: int, stop: int) -> Rows:
        """Rows ``start <= row < stop``."""
        index = np.arange(start, stop)
        training = self.count - self.validation - self.held_out
        part = np.where(index < training, 0, np.where(index < training + self.validation, 1, 2)).astype(
            np.int8
        )
        return Rows(index, np.zeros_like(index), np.zeros_like(index), part)

    def masks(self, rows: Rows) -> np.ndarray:
        """Cannot be drawn."""
        return self.subsets.masks(rows.mask_index)

    def spec(self) -> dict[str, Any]:
        """A JSON-able description."""
        return {
            "recorded": {
                "n": self.subsets.n,
                "keep": self.subsets.keep,
                "count": self.count,
                "validation": self.validation,
                "held_out": self.held_out,
            }
        }


def plan_from_spec(spec: Mapping[str, Any]) -> Any:
    """The `Plan` or `RecordedPlan` that a bank's attributes describe."""
    if "recorded" not in spec:
        return Plan.from_spec(spec)
    fields = spec["recorded"]
    subsets = RecordedSubsets(fields["n"], fields["keep"])
    return RecordedPlan(subsets, fields["count"], fields["validation"], fields["held_out"])
