"""Building blocks of a page: a section, a figure with its numbers, a line of facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whence.report.html import Markup, embedded_json, tag

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Section:
    """One part of a report: the question it answers, a title that states the answer, and its content."""

    key: str  # the anchor; also decides the place in the report
    nav: str  # a word or two for the bar on top
    question: str
    title: str
    body: Markup

    def render(self) -> Markup:
        """The section as markup, ready to stand in a page."""
        heading = tag(
            "header",
            tag("p", self.question, class_="question"),
            tag("h2", self.title, id=f"{self.key}-title"),
        )
        return tag("section", heading, self.body, id=self.key, aria_labelledby=f"{self.key}-title")


def figure_block(
    figures: Figure | Mapping[str, Figure],
    *,
    alt: str,
    caption: Any = None,
    numbers: Markup | None = None,
    choose: str = "Show",
    numbers_title: str = "The numbers",
) -> Markup:
    """A figure, or several under one selector, with alternative text, a caption and its numbers as a table.

    The numbers are what a reader without scripts, on paper or with a screen reader gets, so they are more
    than a
    courtesy: give them for every figure whose points can be listed.
    """
    variants = dict(figures) if isinstance(figures, Mapping) else {"": figures}
    specs = [_spec(fig) for fig in variants.values()]
    control = None
    if len(variants) > 1:
        options = [tag("option", name, value=str(i)) for i, name in enumerate(variants)]
        control = tag(
            "label", tag("span", choose), tag("select", options, class_="variants"), class_="control"
        )
    height = max(spec["layout"].get("height", 360) for spec in specs)
    return tag(
        "figure",
        control,
        tag("div", class_="plot", role="img", aria_label=alt, style=f"min-height:{int(height)}px"),
        tag("script", embedded_json(specs), type="application/json", class_="spec"),
        tag("figcaption", caption) if caption else None,
        tag("details", tag("summary", numbers_title), numbers, class_="numbers") if numbers else None,
        class_="figure",
    )


def facts(pairs: Sequence[tuple[str, Any]]) -> Markup:
    """A line of small facts, such as how many masks a number rests on. Pairs without a value are left out."""
    return tag(
        "ul",
        [
            tag("li", tag("span", name), " ", tag("b", value))
            for name, value in pairs
            if value not in (None, "")
        ],
        class_="facts",
    )


def paragraph(*words: Any) -> Markup:
    """A paragraph of running text at a readable width."""
    return tag("p", *words, class_="prose")


def meaning_line(meaning: str, heading: str = "What a weight says") -> Markup | None:
    """What a weight says in words; printed under every figure that shows weights. What other numbers say has
    another heading."""
    return tag("p", tag("b", f"{heading} "), meaning, class_="meaning") if meaning else None


def _spec(fig: Figure) -> dict[str, Any]:
    spec = json.loads(fig.to_json())
    spec["layout"].pop("template", None)
    return {"data": spec["data"], "layout": spec["layout"]}
