"""Clusters of steps: whole trajectories or pieces of them, as numbers, and the targets they are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.errors import InputError
from whence.study.robots import Demonstrations


def cluster_codes(study: Any, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters as numbers from 0, ``(n,)``, and the number of steps in each, ``(clusters,)``."""
    array = np.asarray(clusters)
    if array.shape != (study.n,):
        raise InputError(
            f"clusters must have one id for each of {study.n} training examples, received shape "
            f"{array.shape}."
        )
    codes = np.unique(array, return_inverse=True)[1]
    return codes, np.bincount(codes)


def share_of(fraction: float, clusters: int, leaves: str) -> int:
    """How many clusters a share of them is: at least one and not all, or an `InputError`; `leaves` ends
    "which leaves nothing to"."""
    count = round(fraction * clusters)
    if not 0 < count < clusters:
        raise InputError(
            f"fraction={fraction:g} of {clusters} clusters are {count}, which leaves nothing to {leaves}; "
            "pass more clusters or another fraction."
        )
    return count


def target_positions(study: Any, ids: Sequence[Any] | None) -> list[int]:
    """Positions of target ids in a study or bank, all by default."""
    known = {identity: i for i, identity in enumerate(np.asarray(study.target_ids).tolist())}
    if ids is None:
        return list(range(len(known)))
    unknown = [identity for identity in ids if identity not in known]
    if unknown or not len(ids):
        raise InputError(
            f"targets must name at least one target by its id, received {unknown[0]!r}, which is none."
            if unknown
            else "targets is empty; name at least one target by its id."
        )
    return [known[identity] for identity in ids]


def target_steps(study: Any, ids: Sequence[Any], task: str) -> Demonstrations:
    """The targets `ids` of a cloning study as one episode, to take a mean loss over."""
    at = target_positions(study, ids)
    inputs, answers = (
        np.asarray(values, np.float32)[at] for values in (study.targets.inputs, study.targets.answers)
    )
    return Demonstrations(inputs, answers, np.array([len(at)]), np.array([task]))
