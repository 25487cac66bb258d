"""Markup from Python values.

Everything is escaped unless it is already `Markup`, so a label cannot become a tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from whence.report import numbers

_VOID = {"img", "input", "meta", "br", "hr"}


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """One element. `class_` is written `class`, `data_id` is written `data-id`; None and False attributes
    are left out."""
    written = "".join(
        _attribute(key, value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{text(children)}</{name}>")


def text(value: Any) -> Markup:
    """Children of an element: markup as it is, sequences one after the other, None as nothing, all else
    escaped."""
    if value is None:
        return Markup("")
    if isinstance(value, Markup):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return Markup("".join(text(item) for item in value))
    return Markup(escape(str(value)))


def embedded_json(value: Any) -> Markup:
    """JSON that is safe inside a script element: no `<` survives, so nothing in it can close the element."""
    written = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character, code in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        written = written.replace(character, code)
    return Markup(written)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> Markup:
    """A table that scrolls sideways on its own on a narrow screen; columns of numbers are set to the
    right."""
    numeric = [
        bool(rows) and all(row[i] is None or numbers.is_number(row[i]) for row in rows)
        for i in range(len(columns))
    ]
    head = tag(
        "tr",
        [tag("th", name, scope="col", class_="num" if num else None) for name, num in zip(columns, numeric)],
    )
    body = [
        tag("tr", [tag("td", _cell(cell), class_="num" if num else None) for cell, num in zip(row, numeric)])
        for row in rows
    ]
    return tag(
        "div",
        tag("table", tag("caption", caption) if caption else None, tag("thead", head), tag("tbody", body)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption or "Table",
    )


def definitions(pairs: Sequence[tuple[str, Any]]) -> Markup:
    """A list of terms and what they are; pairs without a value are left out."""
    kept = [(term, value) for term, value in pairs if value not in (None, "", {}, [])]
    return tag("dl", [tag("div", tag("dt", term), tag("dd", value)) for term, value in kept])


def _cell(value: Any) -> Any:
    if value is None:
        return "–"
    return numbers.auto(value) if numbers.is_number(value) else value


def _attribute(name: str, value: Any) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value), quote=True)}"'
