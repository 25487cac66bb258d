"""What every evaluation result can do: become JSON, and print itself in plain words."""

from __future__ import annotations

import html
import math
from dataclasses import fields
from typing import Any

import numpy as np


class Result:
    """Base of the frozen result dataclasses of this room."""

    def to_dict(self) -> dict[str, Any]:
        """Every field as JSON-able values (arrays become lists, non-finite numbers None)."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def with_interval(value: float, interval: tuple[float, float] | None, digits: int = 3) -> str:
    """``0.312 [0.281, 0.340]``."""
    text = f"{value:.{digits}f}"
    return text if interval is None else f"{text} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A plain-text table: the first column to the left, the others to the right."""
    cells = [tuple(str(cell) for cell in row) for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
