"""What a user's function is, in a form that survives a restart and ignores comments and formatting."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def describe_callable(function: Callable[..., Any]) -> dict[str, Any]:
    """Qualified name and a hash of the parsed source, so editing a comment does not make "another study"."""
    if isinstance(function, functools.partial):
        return {
            "partial": describe_callable(function.func),
            "arguments": [repr(a) for a in function.args],
            "keywords": {k: repr(v) for k, v in sorted(function.keywords.items())},
        }
    named = function if hasattr(function, "__qualname__") else type(function)
    name = f"{getattr(named, '__module__', '?')}.{getattr(named, '__qualname__', '?')}"
    # A script run as __main__ is the same study as the module imported by a worker or the command line.
    return {"name": name.rpartition(".")[2], "source": _source_hash(named)}


def _source_hash(named: Any) -> str:
    try:
        text = textwrap.dedent(inspect.getsource(named))
    except (OSError, TypeError):
        return "no source"
    try:
        text = ast.dump(ast.parse(text))
    except SyntaxError:  # a lambda cut out of the middle of an expression
        text = " ".join(text.split())
    return hashlib.sha256(text.encode()).hexdigest()[:16]
