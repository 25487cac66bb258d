"""What the verbs share in printing: text for people, one JSON document for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def show(text: Any, data: Any, as_json: bool) -> None:
    """Print `data` as JSON when asked to, else `text`."""
    typer.echo(json.dumps(data, allow_nan=False) if as_json else str(text))


def numbers(text: str, argument: str) -> list[int]:
    """Whole numbers written with commas: "10,20,40"."""
    from whence.errors import InputError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"{argument} must be whole numbers with commas, for example 10,20,40; received {text!r}."
        ) from None


def named(paths: list[Path]) -> dict[str, Path]:
    """Each path under a short name: its last part, or all of it where two have the same last part."""
    last = [path.resolve().name for path in paths]
    return {
        name if last.count(name) == 1 else str(path): path for name, path in zip(last, paths, strict=True)
    }
