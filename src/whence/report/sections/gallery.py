"""Which training examples made the difference? One card a target, with what raised and what lowered its
output."""

from __future__ import annotations

import numpy as np

from whence.attribution import Attribution, Effect
from whence.report import numbers
from whence.report.block import Section, meaning_line, paragraph
from whence.report.context import Context
from whence.report.figures.sparkline import sparkline
from whence.report.html import Markup, tag


def gallery_section(scores: Attribution, context: Context) -> Section:
    """Cards for the chosen targets, with buttons that show one class at a time."""
    cards = [_card(scores, context, row) for row in context.rows]
    classes = list(dict.fromkeys(_class(context, row) for row in context.rows))
    chips = None
    if len(classes) > 1 and all(classes):
        every = tag("button", "All", type="button", data_class="", aria_pressed="true")
        buttons = [
            tag("button", name, type="button", data_class=name, aria_pressed="false") for name in classes
        ]
        chips = tag("div", every, buttons, class_="chips", role="group", aria_label="Show one class")
    picked = (
        "The targets were asked for by name."
        if context.wanted is not None
        else (
            "Targets were taken in their order, a round over the classes at a time; none was chosen for its"
            " looks."
            if len(classes) > 1
            else "These are the first targets in their order; none was chosen for its looks."
        )
    )
    if context.first and context.wanted is None:
        picked = (
            "The targets whose removals were verified, and others taken in their order, a round over the"
            " classes at a time; none was chosen for its looks."
        )
    noun = "image" if getattr(context.study, "is_image", False) else "example"
    body = [
        paragraph(
            picked, " The small histogram shows all of a target's non-zero weights, on a logarithmic count."
        ),
        chips,
        tag("div", cards, class_="gallery"),
        meaning_line(scores.meaning),
    ]
    return Section(
        "gallery",
        "Gallery",
        "Which training examples made the difference?",
        _headline(context, noun),
        Markup("".join(b for b in body if b)),
    )


def _headline(context: Context, noun: str) -> str:
    """How often the strongest raising examples share the target's class: a fact, where labels are known."""
    labels, targets = context.labels("train"), context.labels("target")
    rows = f"{len(context.rows)} targets, each with the training {noun}s that moved it most"
    if labels is None or targets is None:
        return rows
    weight, sign = (
        context.weight,
        -1 if context.attribution is not None and context.attribution.lower_is_better else 1,
    )
    strongest = np.argmax(sign * weight, axis=1)
    places, columns = np.array(context.positions("target")), np.array(context.positions("train"))
    same = np.mean(labels[columns[strongest]] == targets[places])
    return (
        f"For {numbers.percent(float(same))} of all targets the most helpful training {noun} shows the"
        " target's own class"
    )


def _card(scores: Attribution, context: Context, row: int) -> Markup:
    place = context.positions("target")[row]
    name, label = context.name_of("target", place), _class(context, row)
    weights = context.weight[row]
    largest = float(np.abs(weights).max()) or 1.0
    lines = [tag("li", words) for words in _lines(scores, context, row)]
    portrait = _portrait("target", context, place, f"{name}{', labelled ' + label if label else ''}")
    about = tag(
        "div",
        portrait,
        tag(
            "div",
            tag("h3", label or name),
            tag("p", name, class_="quiet") if label else None,
            tag("ul", lines),
            sparkline(weights),
        ),
        class_="about" if "tile" not in portrait else "about bare",
    )
    ways = {+1: ("Raise", "raises"), -1: ("Lower", "lowers")}
    helpful = (
        -1 if scores.lower_is_better else +1
    )  # what helps comes first; for a loss that is what lowers it
    strips = []
    for sign in (helpful, -helpful):
        verb, direction = ways[sign]
        effects = _effects(context, row, sign)
        strips.append(_strip(context, f"{verb} its {scores.output}", effects, largest, label, direction))
    return tag("article", about, tag("div", strips, class_="strips"), class_="card", data_class=label or None)


def _effects(context: Context, row: int, sign: int) -> list[Effect]:
    """The k strongest weights of one sign, strongest first, as (id, column, weight)."""
    assert context.attribution is not None
    weights = context.weight[row]
    order = np.argsort(-sign * weights, kind="stable")[: context.k]
    ids = context.attribution.train_ids
    return [Effect(ids[j], int(j), float(weights[j])) for j in order if sign * weights[j] > 0]


def _lines(scores: Attribution, context: Context, row: int) -> list[Markup]:
    lines = []
    if context.realised is not None:
        outputs = context.realised[:, row]
        number = numbers.plural(len(outputs), "retraining")
        lines.append(
            Markup(
                f"mean {tag('span', scores.output)} {tag('b', numbers.signed(float(outputs.mean())))} over"
                f" {number}"
            )
        )
        if context.is_margin:
            lines.append(Markup(f"right in {tag('b', numbers.percent(float((outputs > 0).mean())))} of them"))
    correlation = context.correlation(row)
    if correlation is not None:
        lines.append(Markup(f"rank correlation {tag('b', numbers.fixed(correlation))} on held-out masks"))
    nonzero = int((context.weight[row] != 0).sum())
    if nonzero < context.weight.shape[1]:
        lines.append(
            Markup(
                f"{tag('b', numbers.count(nonzero))} of {numbers.count(context.weight.shape[1])} weights"
                " are not zero"
            )
        )
    return lines


def _strip(
    context: Context, title: str, effects: list[Effect], largest: float, target_label: str, direction: str
) -> Markup:
    if not effects:
        return tag(
            "div",
            tag("h4", title),
            tag("p", "None has such a weight.", class_="quiet"),
            class_=f"strip {direction}",
        )
    items, digits = [], numbers.digits_for(largest)
    for effect in effects:
        place = context.positions("train")[effect.index]
        name, label = context.name_of("train", place), context.label_of("train", place)
        items.append(
            tag(
                "li",
                _portrait("train", context, place, f"{name}{', labelled ' + label if label else ''}"),
                tag(
                    "span",
                    class_="bar",
                    style=f"--share:{abs(effect.weight) / largest:.3f}",
                    aria_hidden="true",
                ),
                tag("b", numbers.signed(effect.weight, digits)),
                tag("span", label, class_="label" if label == target_label else "label other", title=name)
                if label
                else None,
            )
        )
    return tag("div", tag("h4", title), tag("ol", items), class_=f"strip {direction}")


def _portrait(side: str, context: Context, place: int, alt: str) -> Markup:
    """The picture of an example; its text, or its id on a card, where there is no picture."""
    address = context.picture(side, place)
    if address:
        return tag("img", src=address, alt=alt, title=alt, loading="lazy", decoding="async")
    words = context.words(side, place)
    if words:
        return tag("blockquote", words[:240] + ("…" if len(words) > 240 else ""), title=alt)
    return tag("span", str(context.name_of(side, place)), class_="tile", title=alt)


def _class(context: Context, row: int) -> str:
    return context.label_of("target", context.positions("target")[row])
