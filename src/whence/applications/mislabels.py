"""Mislabels: training examples whose labels look wrong, by everything that is known of them.

Attributions say what an example does for its own output, a bank what retrainings without it make of it,
training dynamics how it was learnt, class probabilities what it looks like. Each gives rankings
(`whence.applications.mislabels_rankings`); confident learning also says how many labels are wrong.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.mislabels_cleaning import check_held_out
from whence.applications.mislabels_confident import suggested_labels
from whence.applications.mislabels_evidence import Evidence, gather
from whence.applications.mislabels_finding import Mislabel, Mislabels
from whence.errors import InputError
from whence.finding import Chart, Examples, Series, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.study import Study
    from whence.training.dynamics import Dynamics

LISTED = 50  # suspects in the table
_ESTIMATE = {
    "mixture": "what wrong labels would look like",
    "confident learning": "confident learning",
    "threshold class": "the threshold class",
}
SHOWN, PER_CLASS = 24, 8  # pictures of the first suspects, and of each class's
UNKNOWN = 0.05  # share of labels taken for wrong where nothing estimates it
# The first of these that there is decides, unless asked otherwise; see docs/how-to/mislabels.md.
PREFERRED = ("combined", "out-of-fold margin", "self-confidence", "AUM")


def mislabels(
    attribution: Attribution | Mapping[str, Attribution] | None = None,
    study: Study | None = None,
    *,
    bank: Bank | None = None,
    dynamics: Dynamics | None = None,
    probabilities: np.ndarray | None = None,
    by: str | None = None,
    count: int | None = None,
    retrainings: int = 20,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Mislabels:
    """Training examples whose labels look wrong, most suspicious first.

    Any one of the first four kinds of evidence will do; all that is passed is ranked by, side by side.

    Parameters
    ----------
    attribution : train x train, of any method: ``method.attribute(self_targets(study))`` with
        `whence.study.variants.self_targets`. Several by name, to compare.
    study : gives labels, their names, pictures, and a way to verify. Its targets are held-out examples with
        right labels; the retrainings of `verify` are judged by them.
    bank : of ``self_targets(study)``, with the output "logits" (`whence.study.variants.with_outputs`) or
        "margin". Each retraining predicts the examples that it left out.
    dynamics : `whence.training.dynamics` of the study.
    probabilities : (n, classes) out-of-fold class probabilities in the order of the study, for example of
        scikit-learn's ``cross_val_predict``; default those of the bank, where it recorded logits.
    by : the ranking to go by; default the first there is of "combined" (mean of the ranks by confident
        margin, which knows examples left out, and by AUM, which knows them trained on), "out-of-fold margin",
        "self-confidence", "AUM", then self-influence.
    count : labels to take for wrong; default the estimated number, or 5 % where nothing estimates it.
    verify : with a study, retrain without the suspects and with their labels changed.
    retrainings, seed, to, workers, progress : as in `Mislabels.verify`.

    Raises
    ------
    InputError : no evidence, evidence of other examples or other labels, an attribution that is not train x
        train or explains a vector output, a bank of other targets, probabilities that are none; a study that
        cannot verify.
    """
    if study is not None and verify:
        check_held_out(study, retrainings)
    known = gather(attribution, study, bank, dynamics, probabilities)
    chosen = by or next((name for name in PREFERRED if name in known.rankings), next(iter(known.rankings)))
    if chosen not in known.rankings:
        raise InputError(f"by is {by!r}, but the evidence gives the rankings {', '.join(known.rankings)}.")
    n = len(known.ids)
    if count is None:
        likely = next(iter(known.estimates.values()), UNKNOWN * n)
        count = min(max(round(likely), 1), n - 1)
    if not 0 < count < n:
        raise InputError(f"count is {count}, but it must be a whole number from 1 to {n - 1}.")
    suggested = None
    if known.probabilities is not None and known.labels is not None:
        suggested = suggested_labels(known.labels, known.probabilities)
    suspects = _suspects(known, suggested, chosen, count)
    found = Mislabels(
        title="Labels that look wrong",
        statement=_statement(known, chosen, count),
        table=_table(suspects, known),
        chart=_chart(known.rankings[chosen], suspects, chosen),
        examples=_strips(suspects),
        meaning=(
            "A rank of 1 is the most suspicious example of that ranking. Suspicious are wrong labels, and "
            "right ones that the model finds hard; a person can tell them apart."
        ),
        provenance=_provenance(attribution, bank, chosen),
        suspects=suspects,
        by=chosen,
        estimates=known.estimates,
        rankings=known.rankings,
        ids=known.ids,
        labels=known.labels,
        suggested=suggested,
    )
    if study is None or not verify:
        return found
    return found.verify(study, None, retrainings, seed, to, workers, progress)


def _suspects(known: Evidence, suggested: np.ndarray | None, by: str, count: int) -> tuple[Mislabel, ...]:
    places = {name: _ranks(score) for name, score in known.rankings.items()}
    first = np.argsort(places[by])[:count]
    return tuple(
        Mislabel(
            train=known.ids[i].item(),
            place=i,
            given=None if known.labels is None else _name(known, known.labels[i]),
            suggested=None if suggested is None else _name(known, suggested[i]),
            chance=None if known.chance is None else float(known.chance[i]),
            ranks={name: int(ranks[i]) for name, ranks in places.items()},
        )
        for i in first.tolist()
    )


def _ranks(score: np.ndarray) -> np.ndarray:
    """1 for the most suspicious; ties in the order of the examples."""
    ranks = np.empty(len(score), np.int64)
    ranks[np.argsort(-score, kind="stable")] = np.arange(1, len(score) + 1)
    return ranks


def _name(known: Evidence, label: int) -> Any:
    return known.classes[label] if known.classes else int(label)


def _statement(known: Evidence, by: str, count: int) -> str:
    n = len(known.ids)
    if not known.estimates:
        return f"{count:,} of {n:,} labels are taken for wrong, by {by}; how many are is not known"
    (first, likely), *rest = known.estimates.items()
    others = "".join(f", {value:,.0f} by {_ESTIMATE[name]}" for name, value in rest)
    return (
        f"About {likely:,.0f} of {n:,} labels ({likely / n:.1%}) are wrong by {_ESTIMATE[first]}{others}; "
        f"{count:,} are suspected by {by}"
    )


def _table(suspects: tuple[Mislabel, ...], known: Evidence) -> Table:
    columns = ("training example", "given", "suggested", "chance of the given", *known.rankings)
    rows = [
        (one.train, one.given, one.suggested, one.chance, *one.ranks.values()) for one in suspects[:LISTED]
    ]
    return Table(columns, rows)


def _chart(score: np.ndarray, suspects: tuple[Mislabel, ...], by: str) -> Chart:
    taken = np.zeros(len(score), bool)
    taken[[one.place for one in suspects]] = True
    series = [
        Series("suspected", score[taken].tolist()),
        Series("the others", score[~taken].tolist()),
    ]
    return Chart("histogram", series, f"suspicion by {by}", "training examples")


def _strips(suspects: tuple[Mislabel, ...]) -> list[Examples]:
    """The most suspicious of all, then of each class."""
    strips = [_strip("Most suspicious labels", suspects[:SHOWN])]
    for label in dict.fromkeys(one.given for one in suspects if one.given is not None):
        members = [one for one in suspects if one.given == label]
        strips.append(_strip(f"Labelled {label} ({len(members):,} suspected)", members[:PER_CLASS]))
    return strips


def _strip(caption: str, members: Any) -> Examples:
    notes = ["" if one.suggested is None else f"rather {one.suggested}" for one in members]
    return Examples(caption, [one.place for one in members], "train", notes)


def _provenance(attribution: Any, bank: Bank | None, by: str) -> dict[str, Any]:
    named = attribution if isinstance(attribution, Mapping) else {"": attribution}
    methods = [scores.method for scores in named.values() if scores is not None]
    return {
        "ranking": by,
        "methods": ", ".join(methods) or None,
        "retrainings read": None if bank is None else bank.rows_committed,
        "study of the bank": None if bank is None else bank.study_fingerprint,
    }
