"""Cluster effects by regression: DataMIL's estimator in simulation, whose code its release lacks.

Retrain on random sets of clusters (``Subsets.grouped``), regress the targets' mean loss on which clusters
were there (Dass et al. 2026, arXiv 2505.09603, section 3; Ilyas et al. 2022, arXiv 2202.00622). Clusters are
mostly more than retrainings, and a cheap attribution of the same targets is then worth more than another
thousand retrainings: with a prior the regression is a guided datamodel on clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from whence.applications.selection.base import Selector, scores_of
from whence.applications.selection.pool import Pool
from whence.applications.selection.robots.clusters import cluster_codes, target_positions
from whence.attribution import Attribution
from whence.bank import Bank
from whence.errors import InputError
from whence.evaluate.correlation import correlations
from whence.methods.guided import aligned, as_priors, guide
from whence.methods.regression import ridge
from whence.provenance import versions
from whence.study import Study

FEWEST = 20


def cluster_regression(
    bank: Bank,
    clusters: np.ndarray,
    targets: Mapping[str, Sequence[Any]] | None = None,
    output: str = "loss",
    *,
    prior: Attribution | Sequence[Attribution] | None = None,
) -> Attribution:
    """Ridge regression of the mean output over each group of targets on the clusters of a bank.

    One unknown a cluster, however long it is: regressing on steps would shrink the effect of a short cluster
    more. The penalty minimises the leave-one-out error on training and validation rows; where the bank has a
    held-out part, the provenance says how predictions there correlate with what came. With a prior the
    regression starts from it, and its strength is chosen by cross-validation
    (`whence.methods.guided`).

    Returns
    -------
    Attribution with a row for each group and a column for each step: a cluster's effect shared out evenly
    over its steps, so that the sum over a cluster is its effect. Units of the output, calibrated.

    Parameters
    ----------
    bank : retrainings on unions of whole clusters.
    clusters : cluster id of each training example, ``(n,)``.
    targets : name -> target ids whose mean is regressed; default one group of all.
    prior : one or several cheap attributions with a row for each group, say of `LateInjection` and, by
        `rule_prior`, of a retrieval rule; scale and sign do not matter.

    Raises
    ------
    InputError : too few retrainings, a mask that keeps a part of a cluster, or a prior that lacks a group or
        a training example.
    """
    priors = [] if prior is None else as_priors(prior)
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
    method = "ridge"
    if priors:
        method = f"guided by {', '.join(one.method for one in priors)}"
        rows = [aligned(one, list(groups), bank.train_ids.tolist(), "group").numpy() for one in priors]
        sums = [np.stack([np.bincount(codes, row) for row in one]) for one in rows]
        weight, bias = guided_weights(design, outputs, sums)
    else:
        fit = ridge(design, outputs)
        weight, bias = fit.weight, fit.bias
    held = bank.select("held_out", output)
    foretold: dict[str, float] = {}
    if len(held.masks) >= 3:
        predicted = _by_cluster(held.masks, codes, sizes) @ weight.T + bias
        found = correlations(predicted, _means(held.outputs, groups))
        foretold = {name: float(value) for name, value in zip(groups, found, strict=True)}
    return Attribution(
        np.asarray((weight / sizes)[:, codes], np.float32),
        bias=np.asarray(bias, np.float32),
        target_ids=list(groups),
        train_ids=bank.train_ids,
        output=output,
        units=f"mean {output} per example",
        calibrated=True,
        method=f"regression on clusters ({method})",
        keep=bank.keep,
        provenance={
            "study": bank.study_fingerprint,
            "method": f"{method}, on clusters",
            "versions": versions(),
            "rows": len(masks),
            "clusters": len(sizes),
            "held_out_correlation": foretold,
        },
    )


def rule_prior(selector: Selector, study: Study, tasks: Mapping[str, Sequence[Any]]) -> Attribution:
    """What a rule says of each task as a prior for `cluster_regression`.

    Returns
    -------
    Attribution ``(tasks, steps)`` of ranks, -1/2 for the step that the rule would choose first and 1/2 for
    the last; not calibrated.

    Parameters
    ----------
    selector : a rule such as `SubsequenceMatching`. tasks : name -> target ids.

    Raises
    ------
    InputError : the study lacks what the rule reads, or a task's ids are none of its targets.
    """
    whole = Pool(study)
    scores = [scores_of(selector, whole.only(ids, task)) for task, ids in tasks.items()]
    ranks = np.stack([np.argsort(np.argsort(-row, kind="stable")) for row in scores])
    return Attribution(
        (ranks / max(study.n - 1, 1) - 0.5).astype(np.float32),
        target_ids=list(tasks),
        train_ids=study.train_ids,
        output="loss",
        units="rank",
        method=selector.name,
        provenance={"study": study.fingerprint, "method": selector.name},
    )


def guided_weights(
    design: np.ndarray, outputs: np.ndarray, priors: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of outputs (m, groups) on a design (m, clusters) that starts from priors (groups,
    clusters): weights (groups, clusters) and biases (groups,)."""
    s, y = torch.as_tensor(design, dtype=torch.float64), torch.as_tensor(outputs, dtype=torch.float64)
    s_mean, y_mean = s.mean(0), y.mean(0)
    weight, _ = guide(s - s_mean, y - y_mean, [torch.as_tensor(one) for one in priors])
    return weight.numpy(), (y_mean - weight @ s_mean).numpy()


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
