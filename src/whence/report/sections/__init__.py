"""One file a section. `section(noun, context)` gives the sections that a noun contributes."""

from whence.report.sections import (
    check,
    cost,
    curve,
    finding,
    gallery,
    prediction,
    provenance,
    trust,
    weights,
)
from whence.report.sections.base import section

__all__ = [
    "check",
    "cost",
    "curve",
    "finding",
    "gallery",
    "prediction",
    "provenance",
    "section",
    "trust",
    "weights",
]
