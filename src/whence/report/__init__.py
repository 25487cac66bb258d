"""The report: one self-contained HTML file over attributions, evaluations and findings.

The room can be called: ``whence.report([scores, finding], to="report.html")`` is `whence.report.report`.
Figures for notebooks and the explorer are in `whence.report.figures`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from whence.report.block import Section, figure_block
from whence.report.report import report
from whence.report.scores import MethodScore, Scoreboard
from whence.report.sections import section

__all__ = ["MethodScore", "Scoreboard", "Section", "figure_block", "report", "section"]


class _Room(ModuleType):
    """A module with the name of the verb that it is there for. Whichever of the two a reader means by
    `whence.report`,
    he gets it; a function of the same name would hide the module, or the other way round, by order of import.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return report(*arguments, **options)


_Room.__call__.__doc__ = report.__doc__
sys.modules[__name__].__class__ = _Room
