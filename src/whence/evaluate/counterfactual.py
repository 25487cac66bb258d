"""The counterfactual check: remove the examples that an attribution names, retrain, compare what happens with
what it said.

Ilyas et al. 2022, section 4.1: predicted and realised change of the output, over targets and sizes of removed
sets.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.agreement import Agreement, agreement
from whence.evaluate.removals import (
    KINDS,
    check,
    choose_targets,
    columns_in,
    leave_out,
    rows_in,
    sets_of,
)
from whence.evaluate.result import Result, table, with_interval

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study


@dataclass(frozen=True)
class Removal(Result):
    """One set of training examples, left out of training.

    `predicted` and `realised` are changes of the target's mean output against the full training set;
    `realised_se` is the standard error of `realised` over seeds, controls included. `removed` holds train
    ids.
    """

    target: Any
    kind: str
    k: int
    predicted: float
    realised: float
    realised_se: float
    retrainings: int
    removed: tuple[Any, ...]


@dataclass(frozen=True)
class Counterfactual(Result):
    """What removals did, against what the attribution said they would do.

    Attributes
    ----------
    rows : one `Removal` for each target, kind and k.
    overall : agreement over all rows; the attributes `spearman`, `pearson` and `slope` are shortcuts into it.
    by_kind : agreement within "top", "bottom" and "random" alone. Pooling kinds flatters: telling
        helpful from harmful sets is easier than ordering sets of one kind.
    all_targets : agreement over every removed set and *every* target of the attribution, not only the target
        that the set was chosen for (mostly small effects, so mostly noise).
    attainable : Pearson correlation that the true changes would reach with `realised`, given its standard
        errors.
    n : training examples. retrainings, controls : number on left-out sets (each), and on the full set (all).
    failed : rows left out because fewer than 2 of their retrainings gave finite outputs.
    """

    rows: tuple[Removal, ...]
    overall: Agreement
    by_kind: dict[str, Agreement]
    all_targets: Agreement
    attainable: float | None
    n: int
    targets: int
    retrainings: int
    controls: int
    trained: int
    failed: int
    output: str
    units: str
    method: str
    calibrated: bool

    @property
    def spearman(self) -> float:
        return self.overall.spearman

    @property
    def pearson(self) -> float:
        return self.overall.pearson

    @property
    def slope(self) -> float:
        return self.overall.slope

    def __str__(self) -> str:
        o = self.overall
        scale = "" if self.calibrated else " (not calibrated: the slope is only a unit conversion)"
        attainable = (
            "" if self.attainable is None else f", at most {self.attainable:.3f} given retraining noise"
        )
        failed = f"; {self.failed} rows left out, their retrainings failed" if self.failed else ""
        lines = [
            f"Removals of {self.method or 'an unnamed method'} on {self.output}: Spearman "
            f"{with_interval(o.spearman, o.spearman_interval)}, Pearson "
            f"{with_interval(o.pearson, o.pearson_interval)}"
            f"{attainable}; slope {with_interval(o.slope, o.slope_interval)}{scale}",
            f"n={self.n:,}, {self.targets} targets, {o.rows} removed sets x {self.retrainings} retrainings "
            f"against "
            f"{self.controls} on the full set{failed}; 95 % intervals resample targets",
        ]
        cells = []
        for kind, k in dict.fromkeys((row.kind, row.k) for row in self.rows):
            chosen = [row for row in self.rows if (row.kind, row.k) == (kind, k)]
            predicted, realised = (
                np.mean([getattr(r, what) for r in chosen]) for what in ("predicted", "realised")
            )
            cells.append((f"{kind} {k}", len(chosen), f"{predicted:+.3f}", f"{realised:+.3f}"))
        return "\n".join(lines) + "\n" + table(("removed", "targets", "predicted", "realised"), cells)


def counterfactual(
    attribution: Attribution,
    study: Study,
    targets: int | Sequence[Any] = 10,
    k: Sequence[int] = (10, 20, 40, 80),
    kinds: Sequence[str] = KINDS,
    retrainings: int = 10,
    controls: int | None = None,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    bootstrap: int = 1000,
    progress: bool = False,
) -> Counterfactual:
    """Remove sets of training examples, retrain, and compare predicted with realised change.

    Parameters
    ----------
    attribution : scalar output, for the training examples of `study`.
    targets : ids, or a number of targets to draw at random.
    k : sizes of the removed sets, each below the number of training examples.
    kinds : "top" removes the k most helpful examples of a target, "bottom" the k most harmful, "random" any
        k. Ties (zero weights of a sparse datamodel) are broken at random.
    retrainings : fresh seeds for each removed set, at least 2.
    controls : retrainings on the full training set that all removals share; default about
        ``retrainings * sqrt(number of sets)``, which makes differences most precise for the cost (Dunnett
        1955).
    seed : draws targets and random sets and breaks ties.
    to : path of the bank that keeps the retrainings, so that the check resumes; default a temporary one.
    workers, progress : as in `whence.retrain`.
    bootstrap : resamples of the targets for the intervals; 0 for none.

    Notes
    -----
    Predictions come from ``attribution.effect_of_removing``. Weights were fitted around subsets of ``keep *
    n`` examples; on the full set effects of single examples tend to be smaller, so a slope below 1 is
    expected.

    Raises
    ------
    InputError : unknown targets or kinds, k out of range, an attribution of another training set or of a
        vector output.
    """
    output = check(attribution, study, k, kinds, retrainings)
    rng = np.random.default_rng(seed)
    chosen = choose_targets(attribution, targets, rng)
    sets = [
        (target, kind, size, removed)
        for target in chosen
        for kind in dict.fromkeys(kinds)
        for size, removed in sets_of(attribution, target, kind, k, rng)
    ]
    wanted = retrainings * math.sqrt(len(sets)) if controls is None else controls
    copies = max(1, math.ceil(wanted / retrainings))
    columns = columns_in(attribution, study)
    outputs = leave_out(
        study,
        [*[[]] * copies, *(columns[removed].tolist() for *_, removed in sets)],
        retrainings,
        output,
        seed=seed,
        to=to,
        workers=workers,
        progress=progress,
    )
    mine = rows_in(attribution, study)
    return _compare(
        attribution, [part[:, mine] for part in outputs], sets, copies, output, retrainings, bootstrap, seed
    )


def _compare(
    attribution: Attribution,
    outputs: list[np.ndarray],
    sets: list[tuple[int, str, int, np.ndarray]],
    copies: int,
    output: str,
    retrainings: int,
    bootstrap: int,
    seed: int,
) -> Counterfactual:
    control = np.concatenate(outputs[:copies])
    if len(control) < 2:
        raise InputError(
            "fewer than 2 retrainings on the full training set gave finite outputs; mend the recipe first."
        )
    base, base_variance = control.mean(0), control.var(0, ddof=1) / len(control)

    rows: list[Removal] = []
    everywhere: list[tuple[np.ndarray, np.ndarray]] = []
    ids = attribution.train_ids
    for number, (target, kind, size, removed) in enumerate(sets):
        own = outputs[copies + number]
        if len(own) < 2:
            continue
        realised = own.mean(0) - base
        error = np.sqrt(own.var(0, ddof=1) / len(own) + base_variance)
        predicted = attribution.effect_of_removing(ids[removed])
        everywhere.append((predicted, realised))
        identity = attribution.target_ids[target]
        rows.append(
            Removal(
                target=identity.item() if hasattr(identity, "item") else identity,
                kind=kind,
                k=size,
                predicted=float(predicted[target]),
                realised=float(realised[target]),
                realised_se=float(error[target]),
                retrainings=len(own),
                removed=tuple(ids[removed].tolist()),
            )
        )
    if len(rows) < 2:
        raise InputError(
            f"only {len(rows)} removed sets could be measured; pass more targets, sizes or kinds."
        )
    changes = np.array([row.realised for row in rows])
    spread = changes.var(ddof=1)
    noise = np.mean([row.realised_se**2 for row in rows])
    # On all targets, too, the removed sets are what was drawn: resampled by the target they were chosen for.
    owners = np.array([row.target for row in rows], dtype=object)
    predicted_all, realised_all = (np.concatenate([pair[i] for pair in everywhere]) for i in (0, 1))
    by_kind = {}
    for kind in dict.fromkeys(row.kind for row in rows):
        chosen = [row for row in rows if row.kind == kind]
        if len(chosen) > 1:
            by_kind[kind] = _agreement_of(chosen, bootstrap, seed)
    return Counterfactual(
        rows=tuple(rows),
        overall=_agreement_of(rows, bootstrap, seed),
        by_kind=by_kind,
        all_targets=agreement(
            predicted_all, realised_all, np.repeat(owners, control.shape[1]), min(bootstrap, 200), seed
        ),
        attainable=float(np.sqrt(max(0.0, 1 - noise / spread))) if spread > 0 else None,
        n=attribution.shape[-1],
        targets=len(set(owners.tolist())),
        retrainings=retrainings,
        controls=len(control),
        trained=sum(map(len, outputs)),
        failed=len(sets) - len(rows),
        output=output,
        units=attribution.units,
        method=attribution.method,
        calibrated=attribution.calibrated,
    )


def _agreement_of(rows: Sequence[Removal], bootstrap: int, seed: int) -> Agreement:
    predicted, realised = (
        np.array([getattr(row, what) for row in rows]) for what in ("predicted", "realised")
    )
    return agreement(
        predicted, realised, np.array([row.target for row in rows], dtype=object), bootstrap, seed
    )
