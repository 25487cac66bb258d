"""What is said of whole clusters as an attribution of steps, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.provenance import versions
from whence.study import Study


def best_first(first: Attribution, row: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Clusters ``(clusters,)`` by the mean over their steps of a row ``(n,)`` of `first`, best first by the
    sign of its output."""
    sign = 1 if first.lower_is_better else -1
    return np.argsort(sign * np.bincount(codes, row) / sizes, kind="stable")


def ranked(
    study: Study,
    codes: np.ndarray,
    tasks: Sequence[str],
    orders: Sequence[np.ndarray],
    name: str,
    **provenance: Any,
) -> Attribution:
    """A row for each task from an order ``(clusters,)`` of its clusters, best first: ranks, -1/2 for the
    steps of the best cluster and up to 1/2 for the last. `name` is the method's; the provenance adds to study
    and versions."""
    ranks = np.empty((len(orders), len(orders[0])))
    for row, order in zip(ranks, orders, strict=True):
        row[order] = np.arange(len(order)) / max(len(order) - 1, 1) - 0.5
    return Attribution(
        ranks[:, codes].astype(np.float32),
        target_ids=list(tasks),
        train_ids=study.train_ids,
        output="loss",
        units="rank",
        method=name,
        provenance={"study": study.fingerprint, "versions": versions(), **provenance},
    )
