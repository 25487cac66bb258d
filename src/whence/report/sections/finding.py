"""What an application concluded: its sentence, how it was verified, its figure, examples and table."""

from __future__ import annotations

import re
from typing import Any

from whence.finding import Chart, Examples, Finding, Pairs
from whence.report import figures
from whence.report.block import Section, figure_block, meaning_line
from whence.report.context import Context
from whence.report.html import Markup, definitions, table, tag
from whence.report.images import data_address
from whence.report.sections.base import section
from whence.report.sections.gallery import _portrait


@section.register
def _(finding: Finding, context: Context) -> list[Section]:
    listed = table(finding.table.columns, finding.table.rows, finding.title) if finding.table else None
    body: list[Markup | None] = [verified_badge(finding.verified)]
    if finding.chart:
        body.append(
            figure_block(
                figures.chart(finding.chart),
                alt=f"{_words(finding.chart)} {finding.statement}",
                numbers=listed,
                numbers_title="The table",
            )
        )
    body += [_examples(context, examples) for examples in finding.examples]
    if finding.pairs is not None:
        body.append(_pairs(context, finding.pairs))
    if listed and not finding.chart:
        body.append(listed)
    body.append(meaning_line(finding.meaning, "How to read it"))
    if finding.provenance:
        pairs = [
            (str(key), value if isinstance(value, str | int | float) else str(value))
            for key, value in finding.provenance.items()
        ]
        body.append(
            tag("details", tag("summary", "Where this came from"), definitions(pairs), class_="numbers")
        )
    return [
        Section(
            anchor(finding.title),
            finding.title,
            finding.title,
            finding.statement.strip().removesuffix("."),
            Markup("".join(part for part in body if part)),
        )
    ]


def verified_badge(verified: str | None) -> Markup:
    """How a claim was checked by retraining, or that it was not."""
    if verified:
        return tag("p", tag("b", "Verified by retraining"), " ", verified, class_="badge yes")
    return tag("p", tag("b", "Not verified by retraining"), " Read it as a prediction.", class_="badge no")


def anchor(title: str) -> str:
    """A word for addresses from a title."""
    return "finding-" + (re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "untitled")


def _examples(context: Context, examples: Examples) -> Markup:
    items: list[Any] = []
    for number, index in enumerate(examples.indices):
        name, label = context.name_of(examples.side, int(index)), context.label_of(examples.side, int(index))
        note = examples.notes[number] if examples.notes else None
        words = f"{name}{', labelled ' + label if label else ''}"
        if examples.pictures is None:
            portrait = _portrait(examples.side, context, int(index), words)
        else:
            address = data_address(examples.pictures[number])
            portrait = tag("img", src=address, alt=f"{words}, changed", title=words, loading="lazy")
        items.append(
            tag(
                "li",
                portrait,
                tag("b", note) if note else None,
                tag("span", label, class_="label", title=name) if label else None,
            )
        )
    return tag("div", tag("h4", examples.caption), tag("ol", items), class_="strip plain")


def _pairs(context: Context, pairs: Pairs) -> Markup:
    """Targets beside training examples with a question to each; the page saves the answers as a file."""
    items = []
    for number, (target, train) in enumerate(zip(pairs.targets, pairs.train, strict=True)):
        sides = []
        for side, place in (("target", int(target)), ("train", int(train))):
            name, label = context.name_of(side, place), context.label_of(side, place)
            words = f"{name}{', labelled ' + label if label else ''}"
            sides.append(
                tag(
                    "figure",
                    _portrait(side, context, place, words),
                    tag("figcaption", label or name, title=name),
                )
            )
        choices = [
            tag("label", tag("input", type="radio", name=f"pair-{number}", value=value), tag("span", words))
            for value, words in (("same", "same"), ("different", "different"))
        ]
        note = tag("b", pairs.notes[number]) if pairs.notes else None
        asked = tag("fieldset", tag("legend", note), choices)
        ids = [context.identity(side, int(place)) for side, place in (("target", target), ("train", train))]
        items.append(
            tag("li", tag("div", sides, class_="both"), asked, data_target=ids[0], data_train=ids[1])
        )
    save = tag("button", "Save the answers", type="button", class_="save")
    return tag("div", tag("h4", pairs.caption), tag("ol", items), save, class_="pairs")


def _words(chart: Chart) -> str:
    kind = {
        "bars": "Bar chart",
        "scatter": "Scatter",
        "lines": "Line chart",
        "steps": "Step chart",
        "histogram": "Histogram",
    }[chart.kind]
    axes = f" of {chart.y_title} against {chart.x_title}" if chart.x_title and chart.y_title else ""
    return f"{kind}{axes}: {', '.join(s.name for s in chart.series)}."
