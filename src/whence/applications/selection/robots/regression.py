"""Cluster effects by regression: DataMIL's estimator in simulation, whose code its release lacks.

Retrain on random sets of clusters (``Subsets.grouped``), regress the targets' mean loss on which clusters
were there (Dass et al. 2026, arXiv 2505.09603, section 3; Ilyas et al. 2022, arXiv 2202.00622).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from whence.applications.selection.robots.clusters import cluster_codes, target_positions
from whence.attribution import Attribution
from whence.bank import Bank
from whence.errors import InputError
from whence.evaluate.correlation import correlations
from whence.methods.regression import ridge
from whence.provenance import versions

FEWEST = 20


def cluster_regression(
    bank: Bank, clusters: np.ndarray, targets: Mapping[str, Sequence[Any]] | None = None, output: str = "loss"
) -> Attribution:
    """Ridge regression of the mean output over each group of targets on the clusters of a bank.

    One unknown a cluster, however long it is: regressing on steps would shrink the effect of a short cluster
    more. The penalty minimises the leave-one-out error on training and validation rows; where the bank has a
    held-out part, the provenance says how predictions there correlate with what came.

    Returns
    -------
    Attribution with a row for each group and a column for each step: a cluster's effect shared out evenly
    over its steps, so that the sum over a cluster is its effect. Units of the output, calibrated.

    Parameters
    ----------
    bank : retrainings on unions of whole clusters.
    clusters : cluster id of each training example, ``(n,)``.
    targets : name -> target ids whose mean is regressed; default one group of all.

    Raises
    ------
    InputError : too few retrainings, or a mask that keeps a part of a cluster.
    """
    codes, sizes = cluster_codes(bank, clusters)
    groups = (
        {"targets": target_positions(bank, None)}
        if targets is None
        else {name: target_positions(bank, ids) for name, ids in targets.items()}
    )
    parts = [bank.select(part, output) for part in ("train", "validation")]
    masks = np.concatenate([part.masks for part in parts])
    if len(masks) < FEWEST:
        raise InputError(f"the bank has {len(masks)} retrainings to fit, but at least {FEWEST} are needed.")
    design = _by_cluster(masks, codes, sizes)
    outputs = _means(np.concatenate([part.outputs for part in parts]), groups)
    fit = ridge(design, outputs)
    held = bank.select("held_out", output)
    foretold: dict[str, float] = {}
    if len(held.masks) >= 3:
        predicted = _by_cluster(held.masks, codes, sizes) @ fit.weight.T + fit.bias
        found = correlations(predicted, _means(held.outputs, groups))
        foretold = {name: float(value) for name, value in zip(groups, found, strict=True)}
    return Attribution(
        np.asarray((fit.weight / sizes)[:, codes], np.float32),
        bias=np.asarray(fit.bias, np.float32),
        target_ids=list(groups),
        train_ids=bank.train_ids,
        output=output,
        units=f"mean {output} per example",
        calibrated=True,
        method="regression on clusters (ridge)",
        keep=bank.keep,
        provenance={
            "study": bank.study_fingerprint,
            "method": "ridge on clusters",
            "versions": versions(),
            "rows": len(masks),
            "clusters": len(sizes),
            "held_out_correlation": foretold,
        },
    )


def _by_cluster(masks: np.ndarray, codes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Masks over clusters ``(m, clusters)`` of masks over steps ``(m, n)``."""
    first = np.unique(codes, return_index=True)[1]
    whole = masks[:, first]
    if not (whole[:, codes] == masks).all():
        raise InputError(
            "a mask of the bank keeps a part of a cluster; retrain with subsets=Subsets.grouped(clusters)."
        )
    return whole


def _means(outputs: np.ndarray, groups: Mapping[str, list[int]]) -> np.ndarray:
    return np.stack(
        [outputs[:, positions].mean(1, dtype=np.float64) for positions in groups.values()], axis=1
    )
