"""How many models are enough? LDS against the number of retrained models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whence.evaluate.learning_curve import LearningCurve
from whence.report import figures, numbers
from whence.report.block import Section, figure_block, paragraph
from whence.report.context import Context
from whence.report.figures.curve import Curve
from whence.report.html import Markup, table
from whence.report.sections.base import section


@dataclass(frozen=True)
class Curves:
    """Learning curves of one or several methods on the same held-out retrainings, with the noise ceiling."""

    curves: Mapping[str, Curve]
    ceiling: float | None = None
    ceiling_interval: tuple[float, float] | None = None


@section.register
def _(curve: LearningCurve, context: Context) -> list[Section]:
    return section(together([curve]), context)


def together(curves: Sequence[LearningCurve]) -> Curves:
    """Several learning curves in one picture; the ceiling is the first one's (they share their judges)."""
    drawn = {}
    for number, curve in enumerate(curves):
        known = all(end is not None for end in (*curve.low, *curve.high))
        low, high = ([float(e or 0) for e in ends] if known else None for ends in (curve.low, curve.high))
        name = curve.method or "Attribution"
        drawn[name if name not in drawn else f"{name} ({number + 1})"] = Curve(
            curve.models, curve.lds, low, high
        )
    return Curves(drawn, curves[0].ceiling, curves[0].ceiling_interval)


@section.register
def _(drawn: Curves, context: Context) -> list[Section]:
    name, curve = next(iter(drawn.curves.items()))
    ceiling = drawn.ceiling if drawn.ceiling is not None else context.board.ceiling if context.board else None
    ceiling_interval = (
        drawn.ceiling_interval
        if drawn.ceiling is not None
        else context.board.ceiling_interval
        if context.board
        else None
    )
    rows = [
        (
            method,
            numbers.count(m),
            numbers.fixed(v, 3),
            numbers.fixed(c.low[i], 3) if c.low else "–",
            numbers.fixed(c.high[i], 3) if c.high else "–",
        )
        for method, c in drawn.curves.items()
        for i, (m, v) in enumerate(zip(c.models, c.lds))
    ]
    title = headline(curve)
    body = [
        paragraph(
            "Each point is a fit on the first so many retrainings, judged on the same held-out masks. Where"
            " the line still climbs, more retrainings will buy more."
        ),
        figure_block(
            figures.learning_curve(drawn.curves, ceiling, ceiling_interval),
            alt=f"Line chart of LDS against retrained models for {name}. {title}.",
            caption="Bands are 95 % bootstrap intervals. The number of models is on a logarithmic axis.",
            numbers=table(
                ["Method", "Models", "LDS", "95 % low", "95 % high"],
                rows,
                "LDS against the number of retrained models",
            ),
        ),
    ]
    return [Section("curve", "How many", "How many models are enough?", title, Markup("".join(body)))]


def headline(curve: Curve) -> str:
    """What the last doubling bought."""
    if len(curve.models) < 2:
        return f"LDS {numbers.fixed(curve.lds[-1])} with {numbers.count(curve.models[-1])} models"
    gain = curve.lds[-1] - curve.lds[-2]
    step = f"from {numbers.count(curve.models[-2])} to {numbers.count(curve.models[-1])} models"
    width = (curve.high[-1] - curve.low[-1]) / 2 if curve.low and curve.high else 0.0
    if gain > 0.02:
        return (
            f"More models still help: {step} LDS rose from {numbers.fixed(curve.lds[-2])} to"
            f" {numbers.fixed(curve.lds[-1])}"
        )
    if gain < -0.02 and gain < -width:
        return f"LDS fell from {numbers.fixed(curve.lds[-2])} to {numbers.fixed(curve.lds[-1])} {step}"
    return (
        f"The curve has flattened: {step} LDS went from {numbers.fixed(curve.lds[-2])} to"
        f" {numbers.fixed(curve.lds[-1])}"
    )
