"""Making an empty bank: what is said about the study and the plan once, when nothing is recorded yet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.bank import _layout
from whence.errors import InputError
from whence.provenance import versions

if TYPE_CHECKING:
    from whence.study import Study
    from whence.subsets import Plan

DEFAULT_BLOCK = 16


def of_study(
    path: Path, study: Study, plan: Plan, block: int | None, engine: Mapping[str, Any] | None
) -> None:
    """An empty bank of `study` at `path`; nothing happens when one is there."""
    shapes = study.output_shapes().items()
    about = {
        "study_fingerprint": study.fingerprint,
        "study": study.describe(),
        "classes": study.classes,
        "plan": plan.spec(),
        "n": study.n,
        "targets": len(study.target_ids),
        "outputs": {name: {"shape": list(shape), "dtype": "float32"} for name, shape in shapes},
    }
    labels = {"train": study.train_labels, "target": study.target_labels}
    make(path, about, block, engine, {"train": study.train_ids, "target": study.target_ids}, labels)


def make(
    path: Path,
    about: Mapping[str, Any],
    block: int | None,
    engine: Mapping[str, Any] | None,
    ids: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray | None],
) -> None:
    """An empty bank at `path` from its attributes, ids and labels (of "train" and "target")."""
    if block is not None and block < 1:
        raise InputError(f"block must be at least 1 row, received {block}.")
    for name, values in ids.items():
        if len(np.unique(values)) != len(values):
            raise InputError(f"{name}_ids has duplicates; every example needs its own id.")
    columns = _layout.columns_of(about["n"], about["targets"], about["outputs"])
    attributes = {
        "format": _layout.FORMAT,
        "block": block or DEFAULT_BLOCK,
        "engine": None if engine is None else dict(engine),
        "versions": versions(),
        **about,
    }
    if not _layout.is_bank(path):
        _layout.create(path, columns, attributes["block"], attributes, named(ids, labels))


def named(
    ids: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray | None]
) -> dict[str, tuple[str, np.ndarray]]:
    """Ids and class labels as the arrays of a bank: name to dimension and values."""
    written = {name: (name, values) for name, values in ids.items()}
    return written | {
        f"{name}_label": (name, values) for name, values in labels.items() if values is not None
    }
