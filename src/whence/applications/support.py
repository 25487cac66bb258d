"""Counterfactual support: the smallest set of training examples whose removal flips a prediction.

Ilyas et al. 2022, section 4.2 ("data support", brittleness), and Singla et al. 2023, whose bisection and
relabelled variant this follows. The estimate is calibrated on other targets that were verified, and a target
that no set up to the cap flips is censored, not left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.calibration import Calibration
from whence.applications.support_finding import Support, make
from whence.applications.support_search import (
    DRAWN,
    Action,
    Protocol,
    Settings,
    TargetSupport,
    check_margin,
    check_targets,
    taken_at_its_word,
)
from whence.errors import InputError
from whence.evaluate.removals import helpfulness, ranking

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study


def support(
    attribution: Attribution,
    study: Study | None = None,
    target: Any = None,
    *,
    targets: int | Sequence[Any] | None = None,
    action: Action = "remove",
    limit: int | None = None,
    calibration: Calibration | None = None,
    certainty: float = 0.95,
    retrainings: int = 5,
    controls: int = 40,
    steps: int = 7,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> Support:
    """The smallest prefix of a target's ranking whose removal makes its mean margin negative.

    With a study the sets are found and confirmed by retraining. Without one they are what the attribution
    predicts, which it must then be able to: calibrated, or with a `calibration`.

    Parameters
    ----------
    attribution : of a margin (any output that is positive where the prediction is right).
    target : the id of one target.
    targets : ids of several, or how many to draw from those that are clearly right (default: up to
        20). Drawn ones are right by more than 2 standard errors, so that chance alone hardly flips them.
    action : "remove", or "relabel" for mislabelling support: the examples stay, under the class that the
        target is next likeliest to be called.
    limit : largest set to try (default a fifth of the training set); never more than the examples with a
        positive weight. What does not flip up to there is censored.
    calibration : of other targets, from `Support.calibration`; a search then begins at the size it says.
        Without it each target's calibrated size comes from the other targets of the same search.
    certainty : probability with which the calibrated size shall flip the target.
    retrainings : fresh seeds for each set, at least 2. controls : retrainings on everything.
    steps : trials after which the bracket between the largest set that did not flip a target and the smallest
        that did is narrowed no more, unless its ends differ by more than a factor of 2; it is done earlier at
        ten per cent. Bisection takes flipping for monotone in the size. The set that is found is tried once
        more; if that fails, the search goes on above it.
    seed : draws targets, breaks ties, seeds the retrainings.
    to : folder for the retrainings, so that the search resumes; default a temporary one.

    Raises
    ------
    InputError : unknown target, one that is misclassified already, another study's attribution, a vector or
        loss output, an attribution without scale where nothing is to be retrained.
    """
    if target is not None and targets is not None:
        raise InputError("target and targets are both given; name one target, or several.")
    wanted = [target] if target is not None else targets
    if wanted is not None:
        check_targets(attribution, wanted)
    settings = Settings(
        action, limit, certainty, retrainings, controls, steps, seed, to, workers, progress
    )  # fmt: skip
    settings.check()
    if study is None:
        return _predicted(attribution, wanted, settings, calibration)
    protocol = Protocol({"": attribution}, study, settings)
    protocol.measure_controls()
    ids = protocol.choose(wanted)
    if action == "relabel":
        protocol.find_runners_up(ids)
    opened = [protocol.open(attribution, one, calibration) for one in ids]
    protocol.flips.search([one for one, _ in opened])
    rows, found = protocol.rows(attribution, ids, opened, calibration)
    return make(attribution, rows, settings, found, protocol.flips.trained, study)


def _predicted(
    scores: Attribution,
    wanted: int | Sequence[Any] | None,
    settings: Settings,
    calibration: Calibration | None,
) -> Support:
    """What the attribution says, nothing retrained."""
    check_margin(scores, scores.output)
    if not scores.calibrated:
        raise InputError(
            f"{scores.method or 'the attribution'} is right only up to scale, so it cannot say when a "
            f"{scores.output} falls below 0; pass the study, so that it is found by retraining."
        )
    if settings.action == "relabel":
        raise InputError("action='relabel' is found by retraining; pass the study.")
    base = scores.predict(np.ones(scores.shape[-1]))
    if wanted is None or isinstance(wanted, int | np.integer):
        right = np.flatnonzero(base > 0)
        wanted = min(DRAWN, max(len(right), 1)) if wanted is None else wanted
        if len(right) < wanted:
            raise InputError(
                f"targets is {wanted}, but {len(right)} have a positive predicted {scores.output}."
            )
        rng = np.random.default_rng(settings.seed)
        index = np.sort(rng.choice(right, int(wanted), replace=False))
    else:
        index = scores.target_index(wanted)
        wrong = [i for i in index if base[i] <= 0]
        if wrong:
            raise InputError(
                f"target {scores.target_ids[wrong[0]]} is misclassified already: its predicted "
                f"{scores.output} is {base[wrong[0]]:.2f} after training on everything; "
                "choose a target with a positive one."
            )
    rows = []
    for i in index.tolist():
        ranked = ranking(scores, i, np.random.default_rng([settings.seed, i]))
        ranked = ranked[helpfulness(scores, i)[ranked] > 0][: settings.cap(scores.shape[-1])]
        drops = np.cumsum(helpfulness(scores, i)[ranked].astype(np.float64))
        estimate = taken_at_its_word(scores, float(base[i]), drops)
        sure = None if calibration is None else calibration.size(float(base[i]), drops, settings.certainty)
        chosen = ranked[: (sure if calibration is not None else estimate) or 0]
        rows.append(
            TargetSupport(
                target=scores.target_ids[i].item(), base=float(base[i]), chance=None, estimate=estimate,
                calibrated=sure, support=None, tried=0, cap=len(ranked), margin=None, margin_se=None,
                examples=tuple(scores.train_ids[chosen].tolist()), trials=(),
            )
        )  # fmt: skip
    return make(scores, tuple(rows), settings, calibration, 0, None)
