"""Leakage: targets that have a near-duplicate in the training set, ranked for a person to confirm.

Ilyas et al. 2022, section 4.3: the training images of largest datamodel weight, shown to annotators. Here the
weights, a similarity, and both together give each pair a suspicion, and removing the suspects says by
retraining how much of the targets' output hangs on them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from whence.applications.leakage_finding import LEAST, Leakage, Suspect
from whence.applications.pixel_matches import pixel_similarity
from whence.applications.suspicion import extremity, standardised, stretched, suspicion
from whence.errors import InputError
from whence.evaluate.removals import check_retrainings, check_same_study, columns_in, rows_in
from whence.finding import Chart, Pairs, Series, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

LISTED = 50  # of more pairs, so many are in the table


def leakage(
    attribution: Attribution,
    study: Study | None = None,
    *,
    similarity: Attribution | None = None,
    top: int = 100,
    retrainings: int = 20,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Leakage:
    """Targets that may have a near-duplicate in the training set.

    Parameters
    ----------
    attribution : what training on each example does to each target; a duplicate stands out in its row.
    study : gives labels and pictures, a similarity where none is passed (of uint8 images), and a way to
        verify.
    similarity : likeness of targets and training examples that knows nothing of labels, for example
        ``Similarity(encoder, signed=False).attribute(study)``; default `pixel_similarity`.
    top : pairs to list.
    verify : with a study, remove what has a suspicion of 0.8 or more and retrain (where there is any).
    retrainings, seed, to, workers, progress : as in `Leakage.verify`.

    Raises
    ------
    InputError : a vector output; a similarity of other targets or training examples; another study's
        attribution.
    """
    if top < 1:
        raise InputError(f"top is {top}, but at least one pair must be listed.")
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); leaks are looked for in a scalar "
            "one."
        )
    if study is not None:
        check_same_study(attribution, study)
        check_retrainings(retrainings)
        if similarity is None and study.is_image and "uint8" in str(study.train_inputs.dtype):
            similarity = pixel_similarity(study)
    sign = -1 if attribution.lower_is_better else 1
    evidence = {"datamodel": extremity(standardised(sign * attribution.weight.astype(np.float64)))}
    if similarity is not None:
        evidence["similarity"] = extremity(stretched(_aligned(similarity, attribution)))
        evidence["both"] = extremity(evidence["datamodel"] + evidence["similarity"])
    suspects = _suspects(attribution, study, similarity, evidence, top)
    found = Leakage(
        title="Leakage from training set to targets",
        statement=_statement(suspects, attribution),
        table=_table(suspects),
        chart=_chart(suspects),
        pairs=_pairs(suspects, attribution, study),
        meaning=(
            "Suspicion 0.9 = of all targets with a pair at least as suspicious, about 90 % should have more "
            "than the most extreme example that a target without a duplicate would have. Whether a pair "
            "shows the same thing, a person has to say."
        ),
        provenance={
            "method": attribution.method,
            "similarity": None if similarity is None else similarity.method,
            "study": attribution.provenance.get("study"),
        },
        suspects=suspects,
        attribution=attribution,
        similarity=similarity,
        evidence=evidence,
    )
    if study is None or not verify or not any(one.suspicion >= LEAST for one in suspects):
        return found
    return found.verify(study, LEAST, retrainings, seed, to, workers, progress)


def _aligned(similarity: Attribution, attribution: Attribution) -> np.ndarray:
    """(targets, train) likeness in the order of the attribution."""
    if similarity.output_ids is not None:
        raise InputError("similarity has several numbers for each pair; pass one of a scalar output.")
    for side in ("target_ids", "train_ids"):
        if set(getattr(similarity, side).tolist()) != set(getattr(attribution, side).tolist()):
            raise InputError(
                f"similarity has other {side.replace('_', ' ')} than the attribution; make both of one study."
            )
    rows, columns = (
        similarity.target_index(attribution.target_ids),
        similarity.train_index(attribution.train_ids),
    )
    return similarity.weight[np.ix_(rows, columns)].astype(np.float64)


def _suspects(
    scores: Attribution, study: Study | None, similarity: Attribution | None,
    evidence: Mapping[str, np.ndarray], top: int,
) -> tuple[Suspect, ...]:  # fmt: skip
    main = evidence.get("both", evidence["datamodel"])
    count = min(top, main.size)
    best = np.argpartition(-main, count - 1, axis=None)[:count]
    best = best[np.argsort(-main.flat[best], kind="stable")]
    likeness = None if similarity is None else _aligned(similarity, scores)
    labels = None
    if study is not None and study.train_labels is not None and study.target_labels is not None:
        labels = study.target_labels[rows_in(scores, study)], study.train_labels[columns_in(scores, study)]
    out = []
    doubts = suspicion(main.flat[best], best // main.shape[1], main.shape[0])
    for doubt, place in zip(doubts, best.tolist(), strict=True):
        i, j = divmod(place, main.shape[1])
        out.append(
            Suspect(
                target=scores.target_ids[i].item(),
                train=scores.train_ids[j].item(),
                suspicion=float(doubt),
                weight=float(scores.weight[i, j]),
                similarity=None if likeness is None else float(likeness[i, j]),
                same_class=None if labels is None else bool(labels[0][i] == labels[1][j]),
                target_place=i,
                train_place=j,
            )
        )
    return tuple(out)


def _statement(suspects: Sequence[Suspect], scores: Attribution) -> str:
    likely = {one.target for one in suspects if one.suspicion >= LEAST}
    return (
        f"{len(likely)} of {scores.shape[0]:,} targets have a training example so extreme that chance "
        f"should make at most {1 - LEAST:.0%} of such finds"
    )


def _table(suspects: Sequence[Suspect]) -> Table:
    rows = [
        (one.target, one.train, round(one.suspicion, 3), one.weight, one.similarity, _yes(one.same_class))
        for one in suspects[:LISTED]
    ]
    return Table(("target", "training example", "suspicion", "weight", "similarity", "same class"), rows)


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _chart(suspects: Sequence[Suspect]) -> Chart:
    rank = list(range(1, len(suspects) + 1))
    names = [f"{one.target} and {one.train}" for one in suspects]
    series = Series("suspicion", rank, [one.suspicion for one in suspects], labels=names)
    return Chart("lines", [series], "pairs, most suspicious first", "suspicion")


def _pairs(suspects: Sequence[Suspect], scores: Attribution, study: Study | None) -> Pairs:
    shown = suspects[:LISTED]
    targets, train = [one.target_place for one in shown], [one.train_place for one in shown]
    if study is not None:
        targets, train = rows_in(scores, study)[targets].tolist(), columns_in(scores, study)[train].tolist()
    return Pairs("Is it the same?", targets, train, notes=[f"suspicion {one.suspicion:.2f}" for one in shown])
