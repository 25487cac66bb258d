"""Saying in a few words where two studies or two plans differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def differences(there: Mapping[str, Any], here: Mapping[str, Any], asked: str) -> list[str]:
    """Up to three differences between nested JSON-able descriptions; `asked` says whose the second is."""
    mine, theirs = _flat(there), _flat(here)
    return [
        f"{key} is {_short(mine.get(key))} there, {_short(theirs.get(key))} {asked}"
        for key in mine | theirs
        if mine.get(key) != theirs.get(key) and key != "fingerprint"
    ][:3]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: json.loads(json.dumps(value))}
    return {
        key: inner
        for name, item in value.items()
        for key, inner in _flat(item, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
