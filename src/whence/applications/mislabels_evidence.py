"""What is known of each training example's label, brought into one order, and the rankings that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.applications import mislabels_rankings as rank
from whence.applications.mislabels_confident import (
    cleanlab_is_there,
    cleanlab_ranking,
    confused_labels,
    wrong_labels,
)
from whence.applications.mislabels_folds import folds
from whence.attribution import Attribution
from whence.errors import InputError
from whence.training.dynamics import Dynamics

if TYPE_CHECKING:
    from whence.bank import Bank
    from whence.study import Study


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything by training example, in the order of `ids`.

    Attributes
    ----------
    rankings : name -> (n,), larger = more suspicious.
    labels : (n,) given labels. classes : their names. probabilities : (n, classes) of the truth, out of fold
        where that is known, else from the training dynamics. chance : (n,) out-of-fold probability of the
        given label. All None where unknown.
    estimates : numbers of wrong labels by what estimates them, best first; empty where nothing does.
    """

    ids: np.ndarray
    rankings: dict[str, np.ndarray]
    labels: np.ndarray | None
    classes: Sequence[str] | None
    probabilities: np.ndarray | None
    chance: np.ndarray | None
    estimates: dict[str, float]


def gather(
    attribution: Attribution | Mapping[str, Attribution] | None,
    study: Study | None,
    bank: Bank | None,
    dynamics: Dynamics | None,
    probabilities: np.ndarray | None,
) -> Evidence:
    """See `whence.applications.mislabels.mislabels` for the arguments and what is refused."""
    attributions = _named(attribution)
    sources = [s for s in (study, bank, dynamics, *attributions.values()) if s is not None]
    if not (attributions or bank is not None or dynamics is not None or probabilities is not None):
        raise InputError(
            "there is nothing to judge labels by; pass an attribution that is train x train, a bank of "
            "self_targets(study), training dynamics, or out-of-fold probabilities."
        )
    if not sources:
        raise InputError("probabilities alone do not say the given labels; pass the study as well.")
    ids = sources[0].train_ids
    labels = _labels(ids, study, bank, dynamics)
    rankings: dict[str, np.ndarray] = {}
    chance = None
    estimates: dict[str, float] = {}
    if bank is not None:
        found = folds(bank)
        order = _order(ids, found.train_ids, "the bank")
        rankings["out-of-fold margin"] = rank.out_of_fold_margin(found)[order]
        rankings["in-fold margin"] = rank.in_fold_margin(found)[order]
        rankings["memorisation"] = rank.memorisation(found)[order]
        chance = found.out_chance[order]
        if probabilities is None and found.probabilities is not None:
            probabilities = found.probabilities[order]
    if probabilities is not None:
        if labels is None:
            raise InputError("probabilities alone do not say the given labels; pass the study as well.")
        probabilities = _checked(probabilities, labels)
        rankings["self-confidence"] = rank.self_confidence(labels, probabilities)
        rankings["normalised margin"] = rank.normalised_margin(labels, probabilities)
        rankings["confident margin"] = rank.confident_margin(labels, probabilities)
        if cleanlab_is_there():
            rankings["cleanlab"] = cleanlab_ranking(labels, probabilities)
        chance = 1 - rankings["self-confidence"]
        estimates["mixture"] = wrong_labels(labels, probabilities)
        estimates["confident learning"] = confused_labels(labels, probabilities)
    if dynamics is not None:
        order = _order(ids, dynamics.train_ids, "the training dynamics")
        area = rank.area_under_margin(dynamics)
        rankings["AUM"], rankings["data map"] = area[order], rank.data_map(dynamics)[order]
        if probabilities is None:
            probabilities = dynamics.classes[order]
        if dynamics.has_threshold_class:
            estimates["threshold class"] = float((-area < rank.threshold_of(dynamics)).sum())
    if "confident margin" in rankings and "AUM" in rankings:
        rankings["combined"] = rank.mean_rank([rankings["confident margin"], rankings["AUM"]])
    for name, scores in attributions.items():
        order = _order(ids, scores.train_ids, "the attribution")
        rankings[name] = rank.self_influence(scores)[order]
    classes = next((s.classes for s in (study, bank) if s is not None and s.classes), None)
    return Evidence(ids, rankings, labels, classes, probabilities, chance, estimates)


def _named(attribution: Attribution | Mapping[str, Attribution] | None) -> dict[str, Attribution]:
    if attribution is None:
        return {}
    if isinstance(attribution, Attribution):
        return {"self-influence": attribution}
    return {f"self-influence, {name}": scores for name, scores in attribution.items()}


def _labels(
    ids: np.ndarray, study: Study | None, bank: Bank | None, dynamics: Dynamics | None
) -> np.ndarray | None:
    """Given labels in the order of `ids`, the same in all that know them."""
    known: list[tuple[str, np.ndarray]] = []
    for name, source, found in (
        ("the study", study, None if study is None else study.train_labels),
        ("the bank", bank, None if bank is None else bank.train_labels),
        ("the training dynamics", dynamics, None if dynamics is None else dynamics.labels),
    ):
        if source is not None and found is not None:
            known.append((name, found[_order(ids, source.train_ids, name)]))
    for name, labels in known[1:]:
        other = int((labels != known[0][1]).sum())
        if other:
            raise InputError(
                f"{name} and {known[0][0]} give {other} training examples different labels; pass what was "
                "made of one study."
            )
    return known[0][1] if known else None


def _order(ids: np.ndarray, own: np.ndarray, whose: str) -> np.ndarray:
    """Where each of `ids` stands in `own`."""
    place = {identity: i for i, identity in enumerate(own.tolist())}
    if set(place) != set(ids.tolist()):
        raise InputError(
            f"{whose} has {len(own)} training examples, not the same as the other evidence's {len(ids)}; "
            "pass what was made of one study."
        )
    return np.array([place[identity] for identity in ids.tolist()])


def _checked(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    found = np.asarray(probabilities, np.float64)
    if found.ndim != 2 or len(found) != len(labels) or found.shape[1] <= labels.max():
        raise InputError(
            f"probabilities has shape {found.shape}, but it must be ({len(labels)}, classes) with at least "
            f"{int(labels.max()) + 1} classes, in the order of the study."
        )
    sums = found.sum(1)
    if not np.isfinite(found).all() or found.min() < 0 or np.abs(sums - 1).max() > 1e-3:
        raise InputError(
            f"probabilities must be at least 0 with rows that sum to 1, received values from {found.min():g} "
            f"and sums from {sums.min():g} to {sums.max():g}."
        )
    return found
