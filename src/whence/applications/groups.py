"""Group attribution: what whole classes, sources, clusters or other sets of training examples do.

The effect of a group is the sum of its members' weights; that is exact for a linear output and the
first-order part of any (Saunshi et al. 2023, on group influence). Groups that act together, such as near
duplicates, do more when they leave than the sum says, which leaving them out shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.errors import InputError
from whence.evaluate.agreement import Agreement, agreement
from whence.evaluate.removals import check_retrainings, check_same_study, columns_in, leave_out, rows_in
from whence.evaluate.result import Result
from whence.finding import Chart, Series, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

MOST_VERIFIED = 20  # groups, unless asked otherwise


@dataclass(frozen=True)
class GroupEffect(Result):
    """A group and its effect on the chosen targets, averaged over them, in units of the output.

    `effect` is of including the group; leaving it out is predicted to change the output by minus that.
    `standard_error` takes the errors of the weights as independent. `realised` is the change when the group
    was left out, `realised_se` its standard error over seeds.
    """

    group: Any
    size: int
    effect: float
    standard_error: float | None
    realised: float | None
    realised_se: float | None


@dataclass(frozen=True)
class Groups(Applied):
    """Effects of groups of training examples.

    Attributes
    ----------
    rows : one `GroupEffect` for each group, largest effect first.
    groups : the names; weight, standard_error : (targets, groups) sums of weights, for every chosen target.
    agreement : realised against predicted change over (group, target), intervals over groups; None before
        `verify`.
    """

    rows: tuple[GroupEffect, ...] = ()
    groups: tuple[Any, ...] = ()
    targets: tuple[Any, ...] = ()
    agreement: Agreement | None = None
    weight: np.ndarray = field(repr=False, compare=False, kw_only=True)
    standard_error: np.ndarray | None = field(repr=False, compare=False, default=None)
    members: Mapping[Any, np.ndarray] = field(repr=False, compare=False, default_factory=dict)
    attribution: Attribution = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        most: int = MOST_VERIFIED,
        retrainings: int = 10,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Groups:
        """Leave out each group whole and retrain.

        Parameters
        ----------
        most : groups to leave out, those of largest effect first. retrainings : fresh seeds for each; twice
            as many train on everything. The rest is as in `whence.retrain`.
        """
        output = check_same_study(self.attribution, study)
        check_retrainings(retrainings)
        chosen = [row.group for row in self.rows[: max(most, 1)]]
        columns, place = columns_in(self.attribution, study), rows_in(self.attribution, study)
        place = place[self.attribution.target_index(list(self.targets))]
        sets = [columns[self.members[name]].tolist() for name in chosen]
        everything = [name for name, members in zip(chosen, sets, strict=True) if len(members) == study.n]
        if everything:
            raise InputError(
                f"group {everything[0]!r} holds all {study.n} training examples; without it nothing is left "
                "to train on, so pass smaller groups."
            )
        outputs = leave_out(
            study, [[], [], *sets], retrainings, output, seed=seed, to=to, workers=workers, progress=progress
        )
        full = np.concatenate(outputs[:2])[:, place]
        realised, error = {}, {}
        for name, part in zip(chosen, outputs[2:], strict=True):
            mean = part[:, place].mean(
                1
            )  # over targets, so that the error over seeds keeps their correlation
            base = full.mean(1)
            realised[name] = part[:, place].mean(0) - full.mean(0)
            error[name] = float(np.sqrt(mean.var(ddof=1) / len(mean) + base.var(ddof=1) / len(base)))
        return _finding(
            self.attribution, self.targets, self.members, self.weight, self.standard_error,
            realised, error, retrainings, seed,
        )  # fmt: skip


def groups(
    attribution: Attribution,
    study: Study | None = None,
    by: str | Sequence[Any] | np.ndarray | Mapping[Any, Sequence[Any]] = "class",
    *,
    targets: Sequence[Any] | None = None,
    most: int = MOST_VERIFIED,
    retrainings: int = 10,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Groups:
    """An attribution reduced over groups of training examples, verified by leaving groups out.

    Parameters
    ----------
    attribution : of a scalar output.
    study : gives class names and verifies.
    by : "class" (needs a study with labels), one value for each training example (its source, cluster,
        customer, ...; None for no group), or a mapping from a group's name to train ids (groups may then
        overlap).
    targets : ids of the targets to average over (default all).
    verify : with a study, leave groups out and retrain.
    most, retrainings, seed, to, workers, progress : as in `Groups.verify`.

    Raises
    ------
    InputError : an empty group, unknown ids, a wrong number of values, a vector output, another study.
    """
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); groups need a scalar one such as "
            "margin."
        )
    if study is not None:
        check_same_study(attribution, study)
        check_retrainings(retrainings)
    members = _members(attribution, study, by)
    ids = attribution.target_ids.tolist() if targets is None else list(targets)
    rows = attribution.target_index(ids)
    if not len(rows) or len(set(rows.tolist())) < len(rows):
        raise InputError("targets must name at least one target, and none of them twice.")
    weight = np.stack(
        [attribution.weight[rows][:, at].sum(1, dtype=np.float64) for at in members.values()], axis=1
    )
    errors = attribution.standard_error
    if errors is not None:
        errors = np.stack(
            [np.sqrt(np.square(errors[rows][:, at].astype(np.float64)).sum(1)) for at in members.values()],
            axis=1,
        )
    found = _finding(attribution, tuple(ids), members, weight, errors, {}, {}, 0, seed)
    if study is None or not verify:
        return found
    return found.verify(study, most, retrainings, seed, to, workers, progress)


def _members(scores: Attribution, study: Study | None, by: Any) -> dict[Any, np.ndarray]:
    """Group name -> columns of the attribution."""
    n = scores.shape[-1]
    if isinstance(by, Mapping):
        found = {name: np.unique(scores.train_index(list(ids))) for name, ids in by.items()}
    else:
        if isinstance(by, str):
            if by != "class":
                raise InputError(
                    f"by is {by!r}, but it must be 'class', one value for each training example, or a "
                    "mapping."
                )
            if study is None or study.train_labels is None:
                raise InputError(
                    "by='class' needs a study with labels; pass it, or one value for each example."
                )
            labels = study.train_labels[columns_in(scores, study)]
            values = [study.classes[label] if study.classes else int(label) for label in labels]
        else:
            values = list(by.tolist() if isinstance(by, np.ndarray) else by)
        if len(values) != n:
            raise InputError(
                f"by has {len(values)} values, but there are {n} training examples; pass one each."
            )
        names = [name for name in dict.fromkeys(values) if name is not None]
        found = {name: np.array([i for i, v in enumerate(values) if v == name]) for name in names}
    empty = [name for name, at in found.items() if not len(at)]
    if empty or not found:
        raise InputError(
            f"group {empty[0]!r} is empty; name at least one training example in each."
            if empty
            else "by names no group; give at least one."
        )
    return found


def _finding(
    scores: Attribution, targets: tuple[Any, ...], members: Mapping[Any, np.ndarray], weight: np.ndarray,
    errors: np.ndarray | None, realised: Mapping[Any, np.ndarray], realised_se: Mapping[Any, float],
    retrainings: int, seed: int,
) -> Groups:  # fmt: skip
    rows = []
    for g, (name, at) in enumerate(members.items()):
        error = None
        if errors is not None:
            # Weights of different targets come from the same retrainings, so their errors do not average out.
            error = float(errors[:, g].mean())
        rows.append(
            GroupEffect(
                group=name,
                size=len(at),
                effect=float(weight[:, g].mean()),
                standard_error=error,
                realised=float(realised[name].mean()) if name in realised else None,
                realised_se=realised_se.get(name),
            )
        )
    rows.sort(key=lambda row: -abs(row.effect))
    agreed, words = None, None
    if realised:
        place = {name: g for g, name in enumerate(members)}
        predicted = np.concatenate([-weight[:, place[name]] for name in realised])
        owners = np.repeat(np.arange(len(realised)), len(targets))
        if len(predicted) > 1:
            agreed = agreement(predicted, np.concatenate(list(realised.values())), owners, 500, seed)
        match = (
            ""
            if agreed is None
            else f"; Spearman with the prediction {agreed.spearman:.2f} over {agreed.rows} "
        )
        words = (
            f"{len(realised)} groups left out whole, {retrainings} fresh retrainings each against "
            f"{2 * retrainings} on everything{match}{'(group, target) pairs' if match else ''}"
        )
    first = rows[0]
    half = "" if first.standard_error is None else f" (standard error {first.standard_error:.2f})"
    return Groups(
        title="Effects of groups",
        statement=(
            f"Of {len(rows)} groups, {_name(first.group)} ({first.size:,} examples) moves the "
            f"{scores.output} most: {first.effect:+.2f}{half}, averaged over {len(targets):,} targets"
        ),
        table=_table(rows),
        chart=_chart(rows, scores),
        verified=words,
        meaning=scores.meaning,
        provenance={
            "method": scores.method,
            "study": scores.provenance.get("study"),
            "retrainings": retrainings,
        },
        rows=tuple(rows),
        groups=tuple(members),
        targets=targets,
        agreement=agreed,
        weight=weight,
        standard_error=errors,
        members=dict(members),
        attribution=scores,
    )


def _table(rows: Sequence[GroupEffect]) -> Table:
    columns = (
        "group",
        "examples",
        "effect",
        "standard error",
        "predicted without it",
        "realised",
        "its error",
    )
    cells = [
        (
            _name(row.group),
            row.size,
            row.effect,
            row.standard_error,
            -row.effect,
            row.realised,
            row.realised_se,
        )
        for row in rows
    ]
    return Table(columns, cells)


def _chart(rows: Sequence[GroupEffect], scores: Attribution) -> Chart:
    shown = rows[:MOST_VERIFIED]
    names = [_name(row.group) for row in shown]
    series = [_bars("predicted", names, [-r.effect for r in shown], [r.standard_error for r in shown])]
    done = [r for r in shown if r.realised is not None]
    if done:
        change = [r.realised for r in done if r.realised is not None]
        series.append(
            _bars("realised", [_name(r.group) for r in done], change, [r.realised_se for r in done])
        )
    return Chart("bars", series, "group left out", f"change of the mean {scores.output}")


def _bars(name: str, groups: list[str], change: list[float], errors: Sequence[float | None]) -> Series:
    known = [error for error in errors if error is not None]
    if len(known) < len(change):
        return Series(name, groups, change)
    ends = [[c + sign * 1.96 * e for c, e in zip(change, known, strict=True)] for sign in (-1, 1)]
    return Series(name, groups, change, low=ends[0], high=ends[1])


def _name(group: Any) -> str:
    return group if isinstance(group, str) else f"group {group}"
