"""Naming a study on the command line: ``module:attribute``, as uvicorn and gunicorn name an application."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from whence.errors import InputError

if TYPE_CHECKING:
    from whence.study import Study


def load_study(name: str) -> Study:
    """The study that `name` points to; the current folder can be imported from, and a function without
    arguments that makes a study will do.

    Raises
    ------
    InputError : nothing of that name, or not a study; close names are suggested.
    """
    from whence.study import Study

    found = load_object(name, "study")
    if callable(found) and not isinstance(found, Study):
        found = found()
    if not isinstance(found, Study):
        raise InputError(f"{name} is of type {type(found).__name__}, not a whence.Study.")
    return found


def load_object(name: str, what: str) -> Any:
    """What `name` points to, ``module:attribute``; `what` it is meant to be, for messages."""
    from whence.study import Study

    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise InputError(
            f"{what} must be written module:attribute, for example my_study:{what} for the variable `{what}` "
            f"in my_study.py; received {name!r}."
        )
    if module_name.endswith(".py") or "/" in module_name:
        raise InputError(
            f"{what} names a module, not a file: write {_as_module(module_name)}:{attribute}, not {name}."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as problem:
        if problem.name is None or not f"{module_name}.".startswith(f"{problem.name}."):
            raise  # something that the module itself imports
        near = _near(module_name, [entry[:-3] for entry in os.listdir() if entry.endswith(".py")])
        raise InputError(
            f"there is no module {module_name!r} in {os.getcwd()} or among the installed packages{near}."
        ) from None
    found = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            studies = [key for key, value in vars(module).items() if isinstance(value, Study)]
            near = _near(part, [key for key in vars(module) if not key.startswith("_")])
            have = f"; its studies are {', '.join(studies)}" if studies and not near else near
            raise InputError(f"module {module_name!r} has no {attribute!r}{have}.")
        found = getattr(found, part)
    return found


def _near(wrong: str, names: list[str]) -> str:
    close = difflib.get_close_matches(wrong, names, n=1)
    return f"; did you mean {close[0]!r}" if close else ""


def _as_module(path: str) -> str:
    return os.path.relpath(path).removesuffix(".py").replace(os.sep, ".")
