"""What an attribution says a forget set does to the logits; and why it may not be asked.

Matching and its direct form need logits of every class, in absolute terms, at training examples and targets.
Softmax ignores a constant added to all logits of an example, so logits are centred over classes throughout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from whence.applications.unlearning.request import Request, examined
from whence.attribution import Attribution
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.study import Study


def check_logits(attribution: Attribution, study: Study) -> None:
    """Raise `InputError` unless `attribution` is of the logits of `study` (or of `examined(study)`), at all
    its training examples, in absolute terms."""
    if attribution.output != "logits" or attribution.output_ids is None:
        raise InputError(
            f"attribution explains {attribution.output}, but matching needs the logits of every class; "
            'retrain whence.applications.unlearning.examined(study) and attribute its output "logits"'
            f"{', or pass it through two_class_logits' if attribution.output == 'margin' else ''}."
        )
    made_for = attribution.provenance.get("study")
    if made_for is not None and made_for not in (study.fingerprint, examined(study).fingerprint):
        raise InputError(
            f"attribution was estimated for another study (fingerprint {str(made_for)[:12]}); pass one of "
            f"whence.applications.unlearning.examined(study), {examined(study).fingerprint[:12]}."
        )
    if len(attribution.output_ids) != study.class_count:
        raise InputError(
            f"attribution has {len(attribution.output_ids)} logits, but the study has {study.class_count} "
            "classes; pass an attribution of this study."
        )
    if set(attribution.train_ids.tolist()) != set(study.train_ids.tolist()):
        raise InputError(
            "attribution weighs other training examples than the study has; pass an attribution of this "
            "study."
        )
    missing = set(study.train_ids.tolist()) - set(attribution.target_ids.tolist())
    if missing:
        raise InputError(
            f"attribution lacks {len(missing)} training examples among its targets, for example "
            f"{min(map(str, missing))}; retrain whence.applications.unlearning.examined(study), whose "
            "targets they are."
        )
    if not attribution.calibrated:
        raise InputError(
            f"attribution ({attribution.method or 'unnamed method'}) is right only up to scale; fit its "
            "scale on held-out retrainings with whence.applications.unlearning.fit_scale(attribution, bank)."
        )


def removal(
    attribution: Attribution, request: Request, target_ids: np.ndarray, staying: float = 1.0
) -> np.ndarray:
    """Predicted change of the centred logits when the forget set is left out: float32 ``(targets,
    classes)``; at training examples that stay, `staying` times what the attribution says."""
    rows = attribution.target_index(target_ids.tolist())
    columns = attribution.train_index(request.study.train_ids[request.forget].tolist())
    weight = attribution.weight[:, :, columns].sum(-1, dtype=np.float64)[rows]
    share = np.where(np.isin(target_ids, request.study.train_ids[request.retain]), staying, 1.0)
    return -(share[:, None] * (weight - weight.mean(1, keepdims=True))).astype(np.float32)


def entangled(attribution: Attribution, request: Request, count: int) -> np.ndarray:
    """Positions ``(count,)`` of the retained training examples that depend most on the forget set, or it on
    them: by the sum, over the forget set and both directions, of the absolute weights on centred logits.

    Where weights move in order that the forget set changes, these are the ones that would move with it. Ties
    go by position.
    """
    study, gone = request.study, request.study.train_ids[request.forget].tolist()
    rows = attribution.target_index(study.train_ids.tolist())
    columns = attribution.train_index(study.train_ids.tolist())
    weight = attribution.weight
    on = weight[:, :, attribution.train_index(gone)][rows]  # (n, classes, f): of all, on the forget set
    of = weight[attribution.target_index(gone)][:, :, columns]  # (f, classes, n): of the forget set, on all
    strength = sum(
        np.abs(part - part.mean(1, keepdims=True)).sum(axes, dtype=np.float64)
        for part, axes in ((on, (1, 2)), (of, (0, 1)))
    )
    order = np.argsort(-strength[request.retain], kind="stable")
    return request.retain[np.sort(order[:count])]


def check_staying(staying: float) -> None:
    """Raise `InputError` unless `staying` is a share."""
    if not 0 <= staying <= 1:
        raise InputError(f"staying must be a share from 0 to 1, received {staying}.")


def two_class_logits(attribution: Attribution, study: Study) -> Attribution:
    """An attribution of the margin as one of both (centred) logits, for studies of two classes, where it is
    exact: the margin is the difference of the logits, so that they are plus and minus half of it.

    Raises
    ------
    InputError : more classes, another output than "margin", targets that the study lacks.
    """
    if study.class_count != 2 or attribution.output != "margin":
        raise InputError(
            f"received an attribution of {attribution.output} in a study of {study.class_count} classes, but "
            "only the margin of two classes tells the logits."
        )
    full = examined(study)
    place = {identity: i for i, identity in enumerate(full.target_ids.tolist())}
    unknown = [identity for identity in attribution.target_ids.tolist() if identity not in place]
    if unknown or full.target_labels is None:
        raise InputError(
            f"attribution has the target {unknown[0]!r}, which examined(study) lacks; pass its study."
        )
    labels = full.target_labels[[place[identity] for identity in attribution.target_ids.tolist()]]
    half = np.where(labels[:, None] == np.arange(2), 0.5, -0.5).astype(np.float32)  # (targets, classes)
    return Attribution(
        attribution.weight[:, None, :] * half[:, :, None],
        bias=attribution.bias[:, None] * half,
        target_ids=attribution.target_ids,
        train_ids=attribution.train_ids,
        output_ids=study.classes or ["0", "1"],
        output="logits",
        calibrated=attribution.calibrated,
        method=attribution.method,
        keep=attribution.keep,
        provenance=attribution.provenance,
    )
