"""One self-contained HTML file that says what was found, whether it can be trusted, and where it came
from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.counterfactual import Counterfactual
from whence.evaluate.lds import LDS, Comparison
from whence.evaluate.learning_curve import LearningCurve
from whence.report import numbers
from whence.report.block import Section
from whence.report.context import Context
from whence.report.html import Markup, tag
from whence.report.page import page
from whence.report.scores import Scoreboard, capital
from whence.report.sections import check, curve, gallery, prediction, provenance, section, trust, weights

_ORDER = ("trust", "prediction", "check", "gallery", "finding", "weights", "curve", "cost", "provenance")


def report(
    items: Any,
    to: str | os.PathLike[str] = "report.html",
    *,
    title: str | None = None,
    study: Any = None,
    bank: Any = None,
    targets: Sequence[Any] | None = None,
    k: int = 8,
    reproduce: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report and return where it is.

    The file needs no network and no server: pictures, figures and the plotting library are inside.

    Parameters
    ----------
    items : one or a list of
        `Attribution` (the first is the one the report is about: gallery, weights, predictions), results of
        `whence.evaluate` (`Comparison`, `LDS` or {name: LDS}; `Counterfactual`; `CostCurve`;
        `LearningCurve`, several are drawn together), `Finding`, or a ready `Scoreboard` or `Section`. Their
        order does not matter, except among findings.
    to : file to write; its folder is made.
    title : words at the top; by default the study's name.
    study : the Study; gives images, labels and class names.
    bank : the Bank; gives predictions against held-out retrainings, mean outputs, subsets and seeds.
    targets : ids of the targets to show one by one; by default a dozen, a round over the classes.
    k : training examples shown on either side of a target.
    reproduce : commands or code that make these numbers again, printed as they are.
    details : further facts for the provenance (machine, seconds, ...), JSON-able.

    Raises
    ------
    InputError : nothing to show, or an item that a report cannot show.

    Examples
    --------
    >>> whence.report([scores, comparison], study=study, bank=bank, to="report.html")  # doctest: +SKIP
    """
    given = _listed(items)
    attribution = next((item for item in given if isinstance(item, Attribution)), None)
    models = _fitted_on(bank, attribution)
    nouns = [
        _board(item, attribution, models) if isinstance(item, LDS | Comparison | Mapping) else item
        for item in given
    ]
    curves = [noun for noun in nouns if isinstance(noun, LearningCurve)]
    checked = next((noun for noun in nouns if isinstance(noun, Counterfactual)), None)
    context = Context(
        study=study,
        bank=bank,
        attribution=attribution,
        board=next((noun for noun in nouns if isinstance(noun, Scoreboard)), None),
        wanted=targets,
        first=tuple(dict.fromkeys(row.target for row in checked.rows)) if checked else (),
        k=k,
    )
    sections: list[Section] = []
    for noun in nouns:
        if noun is attribution:
            sections += attribution_sections(attribution, context)
        elif isinstance(noun, LearningCurve):
            sections += section(curve.together(curves), context) if noun is curves[0] else []
        elif not isinstance(noun, Attribution):
            sections += section(noun, context)
    sections.append(provenance.provenance_section(context, reproduce, details or {}))
    sections = _unique(sorted(sections, key=_place))
    written = page(title or _title(context), _verdict(context, checked), _cards(context, checked), sections)
    path = Path(to)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")  # a reader never meets half a page
    scratch.write_text(written, encoding="utf-8", newline="\n")
    os.replace(scratch, path)
    return path


def attribution_sections(scores: Attribution, context: Context) -> list[Section]:
    """What an attribution alone, or with its bank and study, has to show."""
    return [
        *prediction.prediction_sections(scores, context),
        gallery.gallery_section(scores, context),
        weights.weights_section(scores, context),
    ]


def _listed(items: Any) -> list[Any]:
    listed = list(items) if isinstance(items, Iterable) and not isinstance(items, str | Mapping) else [items]
    if not listed:
        raise InputError("`items` is empty; pass an Attribution, a Finding or results of whence.evaluate.")
    return listed


def _board(
    results: LDS | Comparison | Mapping[str, LDS], attribution: Attribution | None, models: int | None
) -> Scoreboard:
    if isinstance(results, Mapping) and not all(isinstance(value, LDS) for value in results.values()):
        kinds = sorted({type(value).__name__ for value in results.values()})
        raise InputError(
            f"`items` holds a mapping of {', '.join(kinds)}; a report reads {{name: whence.evaluate.LDS}}."
        )
    named = (
        results.scores if isinstance(results, Comparison) else results if isinstance(results, Mapping) else {}
    )
    method = attribution.method if attribution is not None else None
    # The row of the attribution that the report is about, by name or by the method that it records.
    own = next((name for name, lds in named.items() if method and method in (name, lds.method)), None)
    return Scoreboard.of(results, main=own, models=models)


def _fitted_on(bank: Any, attribution: Attribution | None) -> int | None:
    """Rows that a method could fit to: train and validation parts (penalties are refitted on both)."""
    if bank is None or attribution is None:
        return None
    try:
        return sum(len(bank.select(part, attribution.output).outputs) for part in ("train", "validation"))
    except (InputError, KeyError):
        return None


def _verdict(context: Context, checked: Counterfactual | None) -> Markup:
    parts = [trust.verdict(context.board)] if context.board else []
    if checked is not None:
        parts.append(
            Markup(
                f"Left out and retrained {tag('b', numbers.count(checked.trained))} times over,"
                f" {tag('span', numbers.plural(len(checked.rows), 'removal'))} changed the"
                f" {tag('span', checked.output)} with Spearman"
                f" {tag('b', numbers.estimate(checked.spearman, checked.overall.spearman_interval))} to"
                " what was predicted."
            )
        )
    if not parts and context.attribution is not None:
        a, b = numbers.count(context.attribution.shape[0]), numbers.count(context.attribution.shape[-1])
        parts.append(
            Markup(
                f"How {tag('b', b)} training examples shaped {tag('b', a)} targets. Nothing here was held"
                " against retrainings yet."
            )
        )
    return Markup(" ".join(parts))


def _cards(context: Context, checked: Counterfactual | None) -> list[tuple[str, str, str]]:
    """Key numbers as (value, name, note)."""
    cards: list[tuple[str, str, str]] = []
    board = context.board
    if board is not None:
        cards.append(
            (
                numbers.fixed(board.lead.lds),
                "LDS, held-out",
                numbers.interval(board.lead.interval) or "no interval",
            )
        )
        if board.ceiling:
            share = numbers.percent(board.lead.lds / board.ceiling)
            cards.append((numbers.fixed(board.ceiling), "noise ceiling", f"{share} of it reached"))
        if board.best_baseline is not None and board.best_baseline is not board.lead:
            cards.append(
                (numbers.fixed(board.best_baseline.lds), "best baseline", capital(board.best_baseline.name))
            )
    if checked is not None:
        right, aimed = check.right_direction(checked)
        cards.append(
            (
                numbers.fixed(checked.spearman),
                "removals, Spearman",
                f"{right} of {aimed} in the right direction",
            )
        )
    committed = getattr(context.bank, "rows_committed", None)
    if committed:
        cards.append(
            (
                numbers.count(committed),
                "retrainings",
                f"each on {numbers.percent(context.bank.keep)} of the data",
            )
        )
    if context.attribution is not None:
        weight = context.attribution
        cards.append(
            (
                numbers.count(weight.shape[-1]),
                "training examples",
                f"{numbers.count(weight.shape[0])} targets",
            )
        )
    return cards


def _title(context: Context) -> str:
    name = getattr(context.study, "name", "")
    return f"Datamodels of {name}" if name and name != "study" else "Where predictions come from"


def _place(part: Section) -> int:
    key = "finding" if part.key.startswith("finding") else part.key
    return _ORDER.index(key) if key in _ORDER else _ORDER.index("finding")


def _unique(sections: Iterable[Section]) -> list[Section]:
    """Anchors must differ: a second section of one name gets a number."""
    seen: dict[str, int] = {}
    out = []
    for part in sections:
        seen[part.key] = seen.get(part.key, 0) + 1
        key = part.key if seen[part.key] == 1 else f"{part.key}-{seen[part.key]}"
        out.append(Section(key, part.nav, part.question, part.title, part.body))
    return out
