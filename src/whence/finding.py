"""Finding: what an application concluded, together with its evidence.

A Finding is plain data. Applications return one, `whence.report` and the explorer draw it; nothing here
knows how to
draw, so that a room that finds something does not depend on a room that shows it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from whence.errors import InputError

CHART_KINDS = ("bars", "scatter", "lines", "steps", "histogram")


@dataclass(frozen=True)
class Series:
    """One named set of points of a `Chart`.

    Parameters
    ----------
    name : str
        What the points are, as a reader should see it next to them.
    x, y : sequences of equal length
        Positions. Bars read category names from `x` and lengths from `y`; a histogram reads raw values from
        `x` only.
    low, high : sequences, optional
        Ends of an interval around each `y`, in the units of `y` (not offsets).
    labels : sequence of str, optional
        What each point is, shown on hover.
    """

    name: str
    x: Sequence[Any]
    y: Sequence[float] = ()
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for role in ("y", "low", "high", "labels"):
            values = getattr(self, role)
            if values is not None and len(values) not in (0, len(self.x)):
                raise InputError(
                    f"`{role}` of series {self.name!r} has {len(values)} entries for {len(self.x)} points; "
                    "give one entry a point."
                )


@dataclass(frozen=True)
class Chart:
    """A figure as data: a kind, its series, and what the axes are (with units).

    "steps" are lines that keep their height up to the next point.
    """

    kind: Literal["bars", "scatter", "lines", "steps", "histogram"]
    series: Sequence[Series]
    x_title: str = ""
    y_title: str = ""
    diagonal: bool = False  # a scatter of predicted against realised wants the line y = x
    log_x: bool = False  # sizes that span orders of magnitude

    def __post_init__(self) -> None:
        if self.kind not in CHART_KINDS:
            raise InputError(f"`kind` is {self.kind!r}; a chart is one of {', '.join(CHART_KINDS)}.")
        if not self.series:
            raise InputError("`series` is empty; a chart shows at least one series.")


@dataclass(frozen=True)
class Examples:
    """Examples that a finding points at: a caption, which side they are from, positions, and a note for each.

    Parameters
    ----------
    caption : str
    indices : sequence of int
        Positions (0-based) on the training or the target side of the study.
    side : "train" or "target"
    notes : sequence of str, optional
        One short line under each example, such as its weight.
    pictures : sequence of uint8 ``(H, W)`` or ``(H, W, 3)``, optional
        What to show in place of the study's own images: the examples after a change.
    """

    caption: str
    indices: Sequence[int]
    side: Literal["train", "target"] = "train"
    notes: Sequence[str] | None = None
    pictures: Sequence[np.ndarray] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.side not in ("train", "target"):
            raise InputError(f"`side` is {self.side!r}; it is 'train' or 'target'.")
        if self.pictures is not None and len(self.pictures) != len(self.indices):
            raise InputError(
                f"`pictures` has {len(self.pictures)} images for {len(self.indices)} examples; give one each."
            )
        if self.notes is not None and len(self.notes) != len(self.indices):
            raise InputError(
                f"`notes` has {len(self.notes)} lines for {len(self.indices)} examples; give one each."
            )


@dataclass(frozen=True)
class Pairs:
    """Targets beside training examples, for a person to say of each pair whether the two are the same thing.

    Parameters
    ----------
    caption : str
    targets, train : sequences of int of equal length
        Positions (0-based) in the study.
    notes : sequence of str, optional
        One short line under each pair, such as its suspicion.
    """

    caption: str
    targets: Sequence[int]
    train: Sequence[int]
    notes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        notes = len(self.targets) if self.notes is None else len(self.notes)
        if not len(self.targets) == len(self.train) == notes:
            raise InputError(
                f"`targets`, `train` and `notes` of pairs have {len(self.targets)}, {len(self.train)} and "
                f"{notes} entries; give one of each for a pair."
            )


@dataclass(frozen=True)
class Table:
    """Columns and rows, in the order in which they are to be read.

    Cells are text or numbers; None is "not known".
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"row {number} of `rows` has {len(row)} cells for {len(self.columns)} columns."
                )


@dataclass(frozen=True)
class Finding:
    """What an application concluded, with its evidence.

    Parameters
    ----------
    title : str
        A few words, such as "Support of test/17".
    statement : str
        One sentence that states the conclusion with its numbers and units.
    table : Table, optional
    chart : Chart, optional
    examples : sequence of Examples, optional
    pairs : Pairs, optional
    verified : str or None
        How the conclusion was checked by retraining ("removed together in 20 fresh retrainings"). None
        means that it was not, and is shown as such.
    meaning : str
        What the numbers mean: sign and units (usually `Attribution.meaning`).
    provenance : mapping
        JSON-able: method, settings, seeds, fingerprints, versions.
    """

    title: str
    statement: str
    table: Table | None = None
    chart: Chart | None = None
    examples: Sequence[Examples] = ()
    pairs: Pairs | None = None
    verified: str | None = None
    meaning: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for role in ("title", "statement"):
            if not getattr(self, role).strip():
                raise InputError(f"`{role}` of a Finding is empty; say in words what was found.")
        try:
            json.dumps(_plain(self.provenance))
        except (TypeError, ValueError) as error:
            raise InputError(f"`provenance` must be JSON-able; {error}.") from None

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON-able dicts and lists (for `--json`, for files); non-finite numbers as None."""
        return dict(_plain(self))


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        # what a field keeps from repr (an attribution to verify with) is no part of what was found
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list | tuple | range):
        return [_plain(item) for item in value]
    return value
