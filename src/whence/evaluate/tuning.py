"""Choosing a method's hyper-parameters on validation retrainings, never on those that are reported."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whence.errors import InputError
from whence.evaluate.lds import lds
from whence.evaluate.result import Result, table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.methods import Method

Grid = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Tuned(Result):
    """What a grid of hyper-parameters scored.

    Attributes
    ----------
    best : the settings with the highest LDS, the earlier of equals
    scores : (settings, LDS on the validation part), in the order tried
    attribution : with the best settings
    """

    best: dict[str, Any]
    scores: tuple[tuple[dict[str, Any], float], ...]
    attribution: Attribution
    part: str = "validation"

    def to_dict(self) -> dict[str, Any]:
        """The settings and their scores, without the attribution; settings as they print themselves."""
        said = [({k: _said(v) for k, v in settings.items()}, score) for settings, score in self.scores]
        return {"best": {k: _said(v) for k, v in self.best.items()}, "scores": said, "part": self.part}

    def __str__(self) -> str:
        rows = [
            (", ".join(f"{k}={_said(v)}" for k, v in settings.items()), f"{score:.3f}")
            for settings, score in sorted(self.scores, key=lambda pair: -pair[1])
        ]
        return table(("settings", "LDS (validation)"), rows)


def tune(
    make: Callable[..., Method],
    grid: Grid,
    source: Any,
    bank: Bank,
    output: str | None = None,
) -> Tuned:
    """Try every setting of a grid and keep what orders the bank's validation retrainings best.

    Parameters
    ----------
    make : settings as keyword arguments -> Method: a class, or a function that fixes the rest
    grid : values to try by name, of which all combinations are tried, or the combinations themselves
    source : what the method attributes from (a Study, or the bank)
    bank : retrainings of the same study with a validation part; its held-out part is not looked at
    """
    settings = _settings(grid)
    wanted = bank.select("validation", output or bank.outputs[0])
    if len({row.tobytes() for row in wanted.masks}) < 3:
        raise InputError(
            "tuning needs at least 3 validation retrainings, and this bank has fewer; retrain with "
            "validation=0.1."
        )
    methods = [make(**each) for each in settings]  # bad settings are refused before work starts
    for method in methods:
        method.require(source, output)
    best: tuple[float, dict[str, Any], Attribution] | None = None
    scores = []
    for each, method in zip(settings, methods, strict=True):
        attribution = method.attribute(source, output)
        score = lds(attribution, bank, part="validation", output=output, bootstrap=0).mean
        scores.append((each, score))
        if best is None or score > best[0]:
            best = score, each, attribution
    assert best is not None
    return Tuned(best[1], tuple(scores), best[2])


def _settings(grid: Grid) -> list[dict[str, Any]]:
    if isinstance(grid, Mapping):
        if any(isinstance(values, str) or not isinstance(values, Sequence) for values in grid.values()):
            raise InputError(f"grid must give a list of values for each name, received {dict(grid)!r}.")
        settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    else:
        settings = [dict(each) for each in grid]
    if not settings or not all(settings):
        raise InputError(f"grid holds nothing to try, received {grid!r}.")
    return settings


def _said(value: Any) -> str | float | int | bool | None:
    return value if isinstance(value, str | float | int | bool | None) else repr(value)
