"""The counterfactual check: remove the examples that an attribution names, retrain, compare what happens with
what it said.

Ilyas et al. 2022, section 4.1: predicted and realised change of the output, over targets and sizes of removed
sets.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.evaluate.correlation import correlations, percentile_interval
from whence.evaluate.result import Result, table, with_interval
from whence.subsets import Subsets

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.study import Study

KINDS = ("top", "bottom", "random")


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
class Agreement(Result):
    """Realised against predicted change over a pool of removals: ``realised = intercept + slope *
    predicted``.

    Intervals are 95 %, by bootstrap over targets (all rows of a target together); None with fewer than 3
    targets. With fewer than about 10 targets they are too narrow.
    """

    rows: int
    spearman: float
    spearman_interval: tuple[float, float] | None
    pearson: float
    pearson_interval: tuple[float, float] | None
    slope: float
    slope_interval: tuple[float, float] | None
    intercept: float


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
    from whence.retraining import retrain  # the executor stack loads only where something is trained

    output = _check(attribution, study, k, kinds, retrainings)
    rng = np.random.default_rng(seed)
    chosen = _targets(attribution, targets, rng)
    sets = [
        (target, kind, size, removed)
        for target in chosen
        for kind in dict.fromkeys(kinds)
        for size, removed in _sets(attribution, target, kind, k, rng)
    ]
    wanted = retrainings * math.sqrt(len(sets)) if controls is None else controls
    copies = max(1, math.ceil(wanted / retrainings))
    position = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
    columns = np.array([position[identity] for identity in attribution.train_ids.tolist()])
    empty: list[list[int]] = [[]] * copies
    subsets = Subsets.leaving_out(study.n, [*empty, *(columns[removed].tolist() for *_, removed in sets)])

    with tempfile.TemporaryDirectory() as scratch:
        bank = retrain(
            study,
            len(empty + sets) * retrainings,
            subsets=subsets,
            validation=0.0,
            held_out=0.0,
            seeds=retrainings,
            seed=seed,
            to=os.path.join(scratch, "counterfactual.zarr") if to is None else to,
            workers=workers,
            progress=progress,
        )
        return _compare(attribution, bank, sets, copies, output, retrainings, bootstrap, seed)


def _check(
    attribution: Attribution, study: Study, k: Sequence[int], kinds: Sequence[str], retrainings: int
) -> str:
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); the check needs a scalar one "
            f"such as margin."
        )
    output = attribution.output
    if output not in study.outputs:
        raise InputError(
            f"attribution explains {output!r}, but the study records {', '.join(map(repr, study.outputs))}."
        )
    if set(attribution.train_ids.tolist()) != set(study.train_ids.tolist()):
        raise InputError(
            "attribution weighs other training examples than the study has; use an attribution of this study."
        )
    missing = set(attribution.target_ids.tolist()) - set(study.target_ids.tolist())
    if missing:
        raise InputError(
            f"attribution explains {len(missing)} targets that the study lacks, for example "
            f"{min(map(str, missing))}."
        )
    if not k or any(int(size) != size or not 0 < size < study.n for size in k):
        raise InputError(f"k is {tuple(k)}, but each size must be a whole number from 1 to {study.n - 1}.")
    if not kinds or set(kinds) - set(KINDS):
        raise InputError(f"kinds is {tuple(kinds)}, but it must hold some of {', '.join(KINDS)}.")
    if retrainings < 2:
        raise InputError(
            f"retrainings is {retrainings}, but at least 2 are needed to know the noise; 10 or more would do."
        )
    return output


def _targets(attribution: Attribution, targets: int | Sequence[Any], rng: np.random.Generator) -> list[int]:
    """Row numbers of the attribution."""
    count = len(attribution.target_ids)
    if isinstance(targets, int | np.integer):
        if not 0 < targets <= count:
            raise InputError(
                f"targets is {targets}, but the attribution has {count} of them; pass 1 to {count}, or ids."
            )
        return sorted(rng.choice(count, size=int(targets), replace=False).tolist())
    rows = attribution.target_index(targets).tolist()
    if not rows or len(set(rows)) < len(rows):
        raise InputError("targets must name at least one target, and none of them twice.")
    return rows


def _sets(
    attribution: Attribution, target: int, kind: str, k: Sequence[int], rng: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    """For each size, the columns to remove. Larger top and bottom sets contain the smaller ones."""
    n = attribution.shape[-1]
    if kind == "random":
        return [(int(size), rng.choice(n, size=int(size), replace=False)) for size in k]
    helpfulness = attribution.weight[target] * (-1 if attribution.lower_is_better else 1)
    shuffled = rng.permutation(n)
    order = shuffled[
        np.argsort(-helpfulness[shuffled] if kind == "top" else helpfulness[shuffled], kind="stable")
    ]
    return [(int(size), order[: int(size)]) for size in k]


def _compare(
    attribution: Attribution,
    bank: Bank,
    sets: list[tuple[int, str, int, np.ndarray]],
    copies: int,
    output: str,
    retrainings: int,
    bootstrap: int,
    seed: int,
) -> Counterfactual:
    sample = bank.select("train", output)
    at = {identity: i for i, identity in enumerate(np.asarray(bank.target_ids).tolist())}
    columns = [at[identity] for identity in attribution.target_ids.tolist()]
    outputs, mask_index = np.asarray(sample.outputs, np.float64)[:, columns], np.asarray(sample.mask_index)
    control = outputs[mask_index < copies]
    if len(control) < 2:
        raise InputError(
            "fewer than 2 retrainings on the full training set gave finite outputs; mend the recipe first."
        )
    base, base_variance = control.mean(0), control.var(0, ddof=1) / len(control)

    rows: list[Removal] = []
    everywhere: list[tuple[np.ndarray, np.ndarray]] = []
    ids = attribution.train_ids
    for number, (target, kind, size, removed) in enumerate(sets):
        own = outputs[mask_index == copies + number]
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
    # In the check on all targets it is the removed sets that are drawn, so they, by their target, are
    # resampled too.
    owners = np.array([sets_row.target for sets_row in rows], dtype=object)
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
        all_targets=_agreement(
            predicted_all, realised_all, np.repeat(owners, len(columns)), min(bootstrap, 200), seed
        ),
        attainable=float(np.sqrt(max(0.0, 1 - noise / spread))) if spread > 0 else None,
        n=attribution.shape[-1],
        targets=len(set(owners.tolist())),
        retrainings=retrainings,
        controls=len(control),
        trained=len(outputs),
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
    return _agreement(
        predicted, realised, np.array([row.target for row in rows], dtype=object), bootstrap, seed
    )


def _agreement(
    predicted: np.ndarray, realised: np.ndarray, owners: np.ndarray, bootstrap: int, seed: int
) -> Agreement:
    spearman, pearson, slope = _statistics(predicted, realised)
    intervals: list[tuple[float, float] | None] = [None, None, None]
    groups = [np.flatnonzero([owner == name for owner in owners]) for name in dict.fromkeys(owners.tolist())]
    if bootstrap and len(groups) >= 3:
        rng = np.random.default_rng(seed)
        draws = []
        for _ in range(bootstrap):
            drawn = np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])
            draws.append(_statistics(predicted[drawn], realised[drawn]))
        intervals = [percentile_interval(column) for column in np.array(draws).T]
    return Agreement(
        rows=len(predicted),
        spearman=spearman,
        spearman_interval=intervals[0],
        pearson=pearson,
        pearson_interval=intervals[1],
        slope=slope,
        slope_interval=intervals[2],
        intercept=float(realised.mean() - slope * predicted.mean()),
    )


def _statistics(predicted: np.ndarray, realised: np.ndarray) -> tuple[float, float, float]:
    x, y = predicted[:, None], realised[:, None]
    centred = predicted - predicted.mean()
    spread = float(centred @ centred)
    slope = float(centred @ realised) / spread if spread > 0 else 0.0
    return float(correlations(x, y)[0]), float(correlations(x, y, "pearson")[0]), slope
