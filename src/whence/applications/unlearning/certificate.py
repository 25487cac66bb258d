"""A certificate of unlearning: what was forgotten, how close it came to retraining, what it cost, and what it
leaves open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.unlearning.forget_sets import check_forget
from whence.applications.unlearning.measures import Measures, chart, meaning, measure, statement, table
from whence.applications.unlearning.outputs import Outputs, Part, check_parts
from whence.errors import InputError
from whence.evaluate.removals import check_retrainings, leave_out
from whence.finding import Examples
from whence.study.variants import with_outputs

if TYPE_CHECKING:
    from whence.study import Study

SHOWN = 24  # pictures of what was forgotten


@dataclass(frozen=True)
class Certificate(Applied):
    """How models that unlearned a forget set compare with models retrained without it.

    Attributes
    ----------
    method : what unlearned. forget : ids of what was forgotten.
    measures : every measure, each with its floor.
    parts : the outputs that were compared.
    """

    method: str = ""
    forget: tuple[Any, ...] = ()
    measures: Measures = field(kw_only=True)
    parts: Mapping[str, Part] = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        retrainings: int | None = None,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Certificate:
        """Judge the same unlearned models by fresh oracles; the old ones give the floor.

        Parameters
        ----------
        study : has the points among its targets, under the ids of the parts.
        retrainings : fresh oracles; default as many as there were. The rest is as in `whence.retrain`; if the
            old oracles were made with the same `seed`, pass another.
        """
        at = check_forget(study, self.forget)
        old = len(self.parts["forget"].oracles.margin)
        count = old if retrainings is None else retrainings
        check_retrainings(count)
        places = {name: _places(study, name, part) for name, part in self.parts.items()}
        logged = with_outputs(study, ["logits"])
        labels = study.target_labels
        assert labels is not None  # with_outputs refuses studies without them
        (logits,) = leave_out(
            logged, [at.tolist()], count, "logits", seed=seed, to=to, workers=workers, progress=progress
        )
        fresh = {
            name: replace(
                part,
                oracles=Outputs.of(logits[:, places[name]], labels[places[name]]),
                oracles_again=part.oracles,
            )
            for name, part in self.parts.items()
        }
        again = certify(
            fresh, study, self.forget, method=self.method, cost=self.measures.cost,
            attribution_cost=self.measures.attribution_cost, seed=seed,
        )  # fmt: skip
        was, now = self.measures.klom["forget"].forward.p95, again.measures.klom["forget"].forward.p95
        return replace(
            again,
            verified=(
                f"judged by {len(logits)} further retrainings without the forget set: on it the 95th "
                f"percentile of KLoM is {now:.2f} ({was:.2f} by the first {old})"
            ),
        )


def certify(
    parts: Mapping[str, Part],
    study: Study,
    forget: Any,
    *,
    method: str,
    cost: float,
    attribution_cost: float | None = None,
    bins: int | None = None,
    seed: int = 0,
) -> Certificate:
    """Compare unlearned models with oracles by every measure, with the floor of each.

    Parameters
    ----------
    parts : "forget", "retain" and "validation" -> `Part`.
    study : whose training examples were forgotten. forget : their ids.
    method : what unlearned, in words.
    cost : of unlearning one model, as a share of retraining it.
    attribution_cost : of the attribution that the method used, in the same unit. It is paid once for all
        forget sets, so it stands apart.
    bins, seed : as in `klom`; by default the same number of bins for all parts.

    Raises
    ------
    InputError : ids that the training set lacks, everything forgotten, too few oracles for the bins,
        different points, outputs that are not finite, models that are on both sides, a negative cost.
    """
    at = check_forget(study, forget)
    ids = study.train_ids[at].tolist()
    check_parts(parts, ids)
    for name, price in (("cost", cost), ("attribution_cost", attribution_cost)):
        if price is not None and not (price >= 0 and np.isfinite(price)):
            raise InputError(f"{name} is {price}, but it must be a share of one retraining, 0 or more.")
    found = measure(parts, cost, attribution_cost, bins, seed)
    one = found.klom["forget"]
    return Certificate(
        title=f"Certificate of unlearning by {method}",
        statement=statement(method, len(ids), found),
        table=table(found),
        chart=chart(found),
        examples=[Examples(_caption(len(ids)), at[:SHOWN].tolist())],
        verified=(
            f"{one.unlearned} unlearned models against {one.oracles} retrainings without the forget set, at "
            "the same points"
        ),
        meaning=meaning(found, {name: part.points for name, part in parts.items()}, study.n),
        provenance={
            "method": method,
            "forgotten": [str(identity) for identity in ids],
            "study": study.fingerprint,
            "unlearned models": one.unlearned,
            "oracles": one.oracles,
            "floor": one.floor_from,
            "bins": one.bins,
            "seed": seed,
        },
        method=method,
        forget=tuple(ids),
        measures=found,
        parts=dict(parts),
    )


def _caption(count: int) -> str:
    return f"Forgotten, the first {SHOWN} of {count:,}" if count > SHOWN else f"Forgotten ({count})"


def _places(study: Study, name: str, part: Part) -> np.ndarray:
    if part.ids is None:
        raise InputError(
            f"the {name} part has no ids, so its points cannot be found in the study; pass Part(..., "
            "ids=target ids)."
        )
    position = {identity: i for i, identity in enumerate(study.target_ids.tolist())}
    ids = np.asarray(part.ids).tolist()
    missing = [identity for identity in ids if identity not in position]
    if missing:
        raise InputError(
            f"{len(missing)} points of the {name} part are no targets of the study, for example "
            f"{missing[0]!r}; pass a study with them as targets (whence.study.variants.with_targets)."
        )
    return np.array([position[identity] for identity in ids])
