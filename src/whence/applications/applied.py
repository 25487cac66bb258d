"""What every application returns: a Finding that prints itself and can be verified by retraining."""

from __future__ import annotations

import html
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from whence.evaluate.result import table
from whence.finding import Finding
from whence.study import Study


@dataclass(frozen=True)
class Applied(Finding):
    """A Finding that knows how to check itself.

    `table`, `chart`, `examples` and `pairs` are plain data: ``whence.report(finding)`` makes a page of them,
    ``whence.report.figures.chart(finding.chart)`` a figure for a notebook, ``print(finding)`` text. What an
    application found in its own terms stands in further fields.
    """

    @abstractmethod
    def verify(self, study: Study, *args: Any, **kwargs: Any) -> Applied:
        """A new finding of the same kind, with the claim checked by retraining `study`."""

    def __str__(self) -> str:
        check = f"Verified by retraining: {self.verified}" if self.verified else "Not verified by retraining."
        lines = [self.statement, check]
        if self.table is not None:
            rows = [tuple(map(_cell, row)) for row in self.table.rows]
            lines.append(table(tuple(self.table.columns), rows))
        return "\n".join([*lines, *([self.meaning] if self.meaning else [])])

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
