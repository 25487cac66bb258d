"""What does more compute buy? LDS of every attribution against its cost."""

from __future__ import annotations

from whence.evaluate.cost import CostCurve
from whence.report import figures, numbers
from whence.report.block import Section, figure_block, paragraph
from whence.report.context import Context
from whence.report.html import Markup, table
from whence.report.sections.base import section


@section.register
def _(curve: CostCurve, context: Context) -> list[Section]:
    rows = [
        (
            row.method,
            numbers.significant(row.trainings),
            numbers.fixed(row.lds, 3),
            numbers.fixed(row.interval[0], 3) if row.interval else "–",
            numbers.fixed(row.interval[1], 3) if row.interval else "–",
            "yes" if row.frontier else "",
        )
        for row in curve.rows
    ]
    body = [
        paragraph(
            "Compute is counted in trainings of one model: the models that had to be trained, plus the"
            " attribution's own time. The line joins what is best at its price; points below it are never"
            " worth their price here."
        ),
        figure_block(
            figures.cost_curve(curve),
            alt=f"Scatter chart of LDS against compute. {curve.sentence}.",
            caption="Bars are 95 % bootstrap intervals. Compute is on a logarithmic axis.",
            numbers=table(
                ["Method", "Trainings", "LDS", "95 % low", "95 % high", "Best at its price"],
                rows,
                "LDS against compute",
            ),
        ),
    ]
    return [Section("cost", "Compute", "What does more compute buy?", curve.sentence, Markup("".join(body)))]
