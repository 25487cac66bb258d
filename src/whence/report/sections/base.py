"""The one function that turns a noun into sections; each file of this folder registers what it knows."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from whence.errors import InputError
from whence.report.block import Section
from whence.report.context import Context


@singledispatch
def section(noun: Any, context: Context) -> list[Section]:
    """Sections that show `noun`. Register more with `section.register(YourType)`."""
    raise InputError(
        f"`items` holds a {type(noun).__name__}, which a report cannot show; pass an Attribution, a"
        " Finding, results of whence.evaluate, a Scoreboard or a Section."
    )


@section.register
def _(noun: Section, context: Context) -> list[Section]:
    return [noun]
