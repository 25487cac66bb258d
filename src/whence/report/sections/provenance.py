"""Where does this come from? Study, recipe, subsets, seeds, machine, versions, meaning, and how to make it
again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whence.report import numbers
from whence.report.block import Section
from whence.report.context import Context
from whence.report.html import Markup, definitions, tag

_LONG = 24
_BANK = (
    "rows_committed",
    "rows_failed",
    "failures",
    "parts",
    "engine",
    "versions",
    "machines",
)  # of Bank.info


def provenance_section(context: Context, reproduce: str | None, details: Mapping[str, Any]) -> Section:
    """Everything that is known of the origin of the numbers, and nothing that is not."""
    groups = [
        ("Attribution", _attribution(context)),
        ("Study", _study(context)),
        ("Retrainings", _bank(context)),
        ("Run", [(_title(str(key)), _value(value, str(key))) for key, value in details.items()]),
    ]
    body = [
        tag(
            "div",
            [
                tag("div", tag("h3", title), definitions(pairs))
                for title, pairs in groups
                if any(v not in (None, "") for _, v in pairs)
            ],
            class_="sources",
        )
    ]
    if reproduce:
        body.append(
            tag(
                "div",
                tag("h3", "To make this again"),
                tag("pre", tag("code", reproduce.strip()), tabindex="0"),
                class_="reproduce",
            )
        )
    return Section(
        "provenance",
        "Provenance",
        "Where does this come from?",
        "What these numbers were made from",
        Markup("".join(body)),
    )


def _attribution(context: Context) -> list[tuple[str, Any]]:
    scores = context.attribution
    if scores is None:
        return []
    return [
        ("Method", scores.method),
        ("Meaning", scores.meaning),
        ("Output", scores.output),
        ("Units", scores.units),
        ("Calibrated", "yes" if scores.calibrated else "no, right only up to scale"),
        (
            "Size",
            (
                f"{numbers.count(scores.shape[0])} targets × {numbers.count(scores.shape[-1])} training"
                " examples"
            ),
        ),
        *_known(scores.provenance),
    ]


def _study(context: Context) -> list[tuple[str, Any]]:
    describe = getattr(context.study, "describe", None)
    known = describe() if describe else getattr(context.bank, "study_description", None)
    return _known(known) if known else []


def _bank(context: Context) -> list[tuple[str, Any]]:
    bank = context.bank
    if bank is None:
        return []
    info = bank.info() if hasattr(bank, "info") else {}
    known = {name: value for name, value in info.items() if name in _BANK}
    seconds = info.get("seconds_per_model")
    known["seconds per model"] = None if seconds is None else numbers.significant(float(seconds), 3)
    known["all together"] = numbers.duration(info["seconds_total"]) if info.get("seconds_total") else None
    spec = getattr(getattr(bank, "plan", None), "spec", None)
    known["plan"] = spec() if spec else None
    known["study fingerprint"] = getattr(bank, "study_fingerprint", None)
    return _known(known)


def _known(record: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """A JSON-able record as terms and values; nested records become one line each, long codes keep their
    start."""
    return [(_title(str(key)), _value(value, str(key))) for key, value in record.items()]


def _value(value: Any, key: str = "") -> Any:
    if value is None or value in ("", [], {}):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return tag(
            "ul",
            [
                tag("li", tag("span", str(key).replace("_", " ") + " "), _value(item, str(key)))
                for key, item in value.items()
                if item not in (None, "", [], {})
            ],
            class_="nested",
        )
    if isinstance(value, list | tuple):
        if any(isinstance(item, Mapping) for item in value):
            return tag("ul", [tag("li", _value(item)) for item in value], class_="nested")
        return ", ".join(str(item) for item in value[:_LONG]) + (
            f" and {len(value) - _LONG} more" if len(value) > _LONG else ""
        )
    if isinstance(value, str):
        code = len(value) >= 32 and all(letter in "0123456789abcdef" for letter in value)
        return tag("code", value[:16] + "…", title=value) if code else value
    if key in ("seconds", "seconds_total") and numbers.is_number(value):
        return numbers.duration(float(value))
    # As it was given (0.05 and not 0.0500), since it is there to be typed again.
    return f"{value:g}" if isinstance(value, float) else str(value)


def _title(key: str) -> str:
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if len(words) > 1 else words
