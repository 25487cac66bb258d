"""What a user's function is, in a form that survives a restart and ignores comments and formatting.

Two functions that could train different models must not look alike, or a bank would mix their retrainings. So
the description takes in what the source alone does not tell: arguments of `functools.partial`, defaults,
closures, the global constants, functions and classes of the user's own modules that the function mentions.
"""

from __future__ import annotations

import ast
import dataclasses
import dis
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from whence.provenance import fingerprint

_PLAIN = (bool, int, float, str, type(None))


def describe_callable(function: Callable[..., Any]) -> dict[str, Any]:
    """JSON-able: the name, a hash of the parsed source, and everything else that decides what it does."""
    return _callable(function, set())


def describe_value(value: Any) -> Any:
    """JSON-able description of an argument: numbers and text as they are, arrays by content, functions by
    source, other objects by their type."""
    return _value(value, set())


def _callable(function: Any, seen: set[int]) -> dict[str, Any]:
    if isinstance(function, functools.partial):
        return {
            "partial": _callable(function.func, seen),
            "arguments": [_value(a, seen) for a in function.args],
            "keywords": {k: _value(v, seen) for k, v in sorted(function.keywords.items())},
        }
    if isinstance(function, types.MethodType) and not inspect.isclass(function.__self__):
        owner = function.__self__
        method = {"method": _callable(function.__func__, seen), "of": _callable(type(owner), seen)}
        return {**method, "self": _value(getattr(owner, "__dict__", {}), seen)}
    named = function if hasattr(function, "__qualname__") else type(function)
    # A script run as __main__ is the same study as the module imported by a worker or the command line.
    plain: dict[str, Any] = {"name": named.__qualname__, "source": _source_hash(named)}
    if id(named) in seen:
        return plain
    seen.add(id(named))
    if named is not function and hasattr(function, "__dict__"):
        plain["self"] = _value(vars(function), seen)
    bound = _bound(named)
    if bound:
        plain["uses"] = {key: _value(value, seen) for key, value in sorted(bound.items())}
    return plain


def _value(value: Any, seen: set[int]) -> Any:
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if _is_array(value):
        return f"array {fingerprint(value)}"
    if hasattr(type(value), "named_parameters"):
        return {"module": repr(value), "weights": fingerprint(dict(value.state_dict()))}
    if isinstance(value, list | tuple | set | frozenset | dict):
        if id(value) in seen:
            return "..."
        inside = seen | {id(value)}
        if isinstance(value, dict):
            return {str(k): _value(v, inside) for k, v in value.items()}
        items = [_value(v, inside) for v in value]
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    if isinstance(value, types.ModuleType):
        return value.__name__
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"type": type(value).__qualname__, "fields": _value(fields, seen)}
    if isinstance(value, functools.partial | types.MethodType):
        return _callable(value, seen)
    if inspect.isclass(value) or inspect.isroutine(value):
        if _is_the_users(value):
            return _callable(value, seen)
        return f"{value.__module__}.{getattr(value, '__qualname__', value.__name__)}"
    if hasattr(type(value), "get_params"):  # a scikit-learn estimator
        return {"type": type(value).__qualname__, "parameters": _value(value.get_params(deep=False), seen)}
    if type(value).__repr__ is object.__repr__:
        return type(value).__qualname__
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or hasattr(type(value), "detach")  # or a tensor


def _bound(named: Any) -> dict[str, Any]:
    """What the code of a function, or of the methods of a class, gets from elsewhere."""
    found: dict[str, Any] = {}
    for function in _functions(named):
        code = function.__code__
        for position, value in enumerate(function.__defaults__ or ()):
            found[f"{function.__name__} default {position}"] = value
        for key, value in (function.__kwdefaults__ or {}).items():
            found[f"{function.__name__} default {key}"] = value
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                found[key] = cell.cell_contents
            except ValueError:  # not yet filled: a function that calls itself
                continue
        for key in _names(code):
            value = function.__globals__.get(key, _ABSENT)
            if isinstance(value, (*_PLAIN, tuple, list, dict)) or _is_array(value):
                found[key] = value
            elif (inspect.isfunction(value) or inspect.isclass(value)) and _is_the_users(value):
                found[key] = value
    if inspect.isclass(named):
        found |= {base.__qualname__: base for base in named.__bases__ if _is_the_users(base)}
    return {key: value for key, value in found.items() if value is not named}


_ABSENT = object()


def _functions(named: Any) -> Iterator[types.FunctionType]:
    members = vars(named).values() if inspect.isclass(named) and _is_the_users(named) else [named]
    for member in members:
        function = inspect.unwrap(getattr(member, "__func__", member))
        if isinstance(function, types.FunctionType) and _is_the_users(function):
            yield function


def _names(code: types.CodeType) -> set[str]:
    """The globals that code reads and does not itself write (such as a counter)."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    by_name = [(step.opname, step.argval) for step in dis.get_instructions(code)]
    read = {name for operation, name in by_name if operation == "LOAD_GLOBAL"}
    written = {name for operation, name in by_name if operation == "STORE_GLOBAL"}
    return read.union(*inner) - written


def _is_the_users(thing: Any) -> bool:
    """Not from whence, the standard library or an installed package: their versions are recorded instead."""
    top = (getattr(thing, "__module__", None) or "builtins").partition(".")[0]
    if top == "__main__":
        return True
    if top == "whence" or top in sys.stdlib_module_names:
        return False
    path = getattr(sys.modules.get(top), "__file__", None) or ""
    installed = ("site-packages" in path, "dist-packages" in path, path.startswith(_STANDARD))
    return not any(installed)


_STANDARD = sysconfig.get_paths()["stdlib"]


def _source_hash(named: Any) -> str:
    text = _source(named)
    if text is None and hasattr(named, "__code__"):
        text = repr(_raw(named.__code__))
    return "no source" if text is None else hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(named: Any) -> str | None:
    """The source without comments and formatting."""
    try:
        if getattr(named, "__name__", "") == "<lambda>":
            return _lambda_source(named)
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(named))))
    except (OSError, TypeError, SyntaxError):
        return None


def _lambda_source(function: Any) -> str | None:
    """The lambda alone, of all that stands on its line."""
    code, lines = function.__code__, inspect.findsource(function)[0]
    spans = set(code.co_positions())
    found = [
        node
        for node in ast.walk(ast.parse("".join(lines)))
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and (node.body.lineno, node.body.end_lineno, node.body.col_offset, node.body.end_col_offset) in spans
    ]
    # An inner lambda's span may be an instruction of the outer one; the walk meets the outer first.
    return ast.unparse(found[0]) if found else None


def _raw(code: types.CodeType) -> tuple[Any, ...]:
    """What can be told of a function without source (an interactive session): its compiled form."""
    constants = [_raw(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    return code.co_code, constants, code.co_names
