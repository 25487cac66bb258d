"""compare_selections: choose by several rules for the same target examples, train on each choice, compare."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whence.applications.selection.attributed import Attributed
from whence.applications.selection.base import Selector, scores_of
from whence.applications.selection.choose import check_head, select
from whence.applications.selection.duplicates import duplicate_rate, near_duplicates
from whence.applications.selection.finding import Choice, SelectionFinding, SelectionRow, Settings
from whence.applications.selection.judge import check_report
from whence.applications.selection.pool import Pool
from whence.applications.selection.random import Random
from whence.applications.selection.words import described
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.study import Study

Tasks = Mapping[str, tuple[Sequence[Any], Sequence[Any]]]


@dataclass(frozen=True)
class _Rules:
    """How scores become choices, the same for every selector."""

    fractions: tuple[float, ...]
    seeds: int
    unit: str
    reduce: str
    duplicates: np.ndarray | None
    distinct: bool
    head: float | None
    seed: int

    def choose(self, pool: Pool, scores: np.ndarray, fraction: float, draw: int, plain: bool) -> np.ndarray:
        how: dict[str, Any] = {"reduce": self.reduce}
        if self.unit == "size":
            how["budget"] = fraction * float(pool.sizes.sum())
        else:
            how["fraction"] = fraction
        if self.distinct and not plain:
            how["duplicates"] = self.duplicates
        if not plain:
            how["head"] = self.head
        return select(scores, sizes=pool.sizes, groups=pool.groups, seed=self.seed + draw, **how)


def compare_selections(
    study: Study | Pool,
    report: Study | None = None,
    selectors: Sequence[Selector] = (),
    fractions: Sequence[float] = (0.1,),
    *,
    tasks: Tasks | None = None,
    seeds: int = 3,
    unit: Literal["count", "size"] = "count",
    reduce: Literal["mean", "sum"] = "mean",
    multiples: Sequence[float] = (1, 2, 4, 10),
    worst: bool = True,
    distinct: bool = False,
    head: float | None = None,
    output: str = "loss",
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    device: str | None = None,
    progress: bool = False,
    verify: bool = True,
) -> SelectionFinding:
    """Which rule chooses the training data that make the learner best on the targets?

    Every rule sees the same target examples, the selection half. With `report`, a model is trained on each
    choice and judged on other examples of the same tasks; without, the finding is the choices alone.

    Parameters
    ----------
    study : its training examples are the candidates and its targets the selection half; or a `Pool` of it,
        with sizes or groups.
    report : a study of the same candidates whose targets are the report half. Its recipe may be another, as
        in `SelectionFinding.verify`.
    selectors : the rules; `Random` is added where it is missing.
    fractions : of the candidates (of groups, where the pool has some; of their size with ``unit="size"``). At
        1 everything is trained on, once for all rules.
    tasks : name -> (ids of its selection targets in `study`, ids of its report targets in `report`). A rule
        chooses for each task anew, unless it does not look at targets. Default: all of both, as one task.
    seeds : trainings of each choice, each with a training seed of its own, and of rules that are random with
        a draw of its own.
    unit : what fractions are of: "count" or "size".
    reduce : how scores become those of groups, see `select`.
    multiples : of each fraction at which random choices are trained too, as far as the pool reaches, for
        compute multipliers.
    worst : choose also what an `Attributed` rule ranks lowest: a ranking that is informative harms there.
    distinct : near-duplicates of a chosen candidate are passed over (by all rules but random ones); their
        rate is reported either way.
    head : take only this share of the candidates by each rule's ranking and draw the rest of a choice at
        random, anew for each seed; see `select`.
    output : of the report study that is compared: lower is better for a loss, higher for others.
    seed : of the draws and of the trainings.
    to, workers, device, progress : as in `SelectionFinding.verify`.
    verify : with `report`, train.

    Raises
    ------
    InputError : no selectors or repeated names, fractions outside (0, 1], a task without examples or with
        unknown ids, report examples that are also selection examples or candidates, other candidates in
        `report`, an output that is not recorded, too few distinct candidates, scores that are not finite.
    """
    pool = study if isinstance(study, Pool) else Pool(study)
    rules = _rules(fractions, seeds, unit, reduce, distinct, head, seed)
    random = next((one.name for one in selectors if isinstance(one, Random)), None)
    wanted = list(selectors) if random else [Random(), *selectors]
    _check_names(selectors)
    _check_names(wanted)
    _check_multiples(multiples)
    pairs = {pool.task: (pool.target_ids.tolist(), None)} if tasks is None else _tasks(tasks)
    pools = {name: pool.only(chosen, name) for name, (chosen, _) in pairs.items()}
    settings = Settings(
        fractions=rules.fractions,
        multiples=tuple(float(m) for m in multiples),
        output=output,
        report_ids={name: ids for name, (_, ids) in pairs.items()},
        random=random or Random.name,
    )
    if report is not None:
        check_report(pool, report, settings)
    labels = near_duplicates(pool)
    rules = _Rules(**{**vars(rules), "duplicates": labels})
    if distinct and labels is None:
        raise InputError("distinct=True needs texts or inputs to compare, and this study has neither.")
    choices, seconds = _choices(pool, pools, wanted, rules, settings, worst)
    found = SelectionFinding(
        title="Choosing training data",
        statement=described((), settings, pool, len(wanted)),
        provenance={
            "study": pool.study.fingerprint,
            "selectors": {one.name: type(one).__name__ for one in wanted},
            "seconds": seconds,
            "fractions": list(rules.fractions),
            "seeds": seeds,
            "seed": seed,
            "unit": unit,
            "head": head,
        },
        rows=rows_of(choices, tuple(pools), pool),
        tasks=tuple(pools),
        choices=choices,
        pool=pool,
        settings=settings,
    )
    if report is None or not verify:
        return found
    return found.verify(report, seed, to, workers, device, progress)


def _choices(
    pool: Pool, pools: Mapping[str, Pool], selectors: Sequence[Selector], rules: _Rules, settings: Settings,
    worst: bool,
) -> tuple[tuple[Choice, ...], dict[str, float]]:  # fmt: skip
    """Every choice, and the seconds that each selector's scores took."""
    found: list[Choice] = []
    seconds: dict[str, float] = {}
    for one in selectors:
        is_random = one.name == settings.random
        at = _with_multiples(rules.fractions, settings.multiples) if is_random else rules.fractions
        parts = list(pools.items()) if one.targeted else [(None, pool)]
        for task, part in parts:
            start = perf_counter()
            scores = [
                scores_of(one, part, rules.seed + draw) for draw in range(rules.seeds if one.random else 1)
            ]
            seconds[one.name] = seconds.get(one.name, 0.0) + perf_counter() - start
            signs = {one.name: 1.0}
            if worst and isinstance(one, Attributed):
                signs[f"{one.name}, worst"] = -1.0
            for name, sign in signs.items():
                for fraction in at:
                    if fraction == 1 and not is_random:
                        continue
                    draws = tuple(
                        rules.choose(part, sign * scores[draw % len(scores)], fraction, draw, is_random)
                        for draw in range(rules.seeds)
                    )
                    found.append(Choice(task, name, fraction, draws, _rate(rules.duplicates, draws)))
    return tuple(found), {name: round(value, 3) for name, value in seconds.items()}


def _rate(labels: np.ndarray | None, draws: Sequence[np.ndarray]) -> float | None:
    return None if labels is None else float(np.mean([duplicate_rate(labels, draw) for draw in draws]))


def rows_of(choices: Sequence[Choice], tasks: Sequence[str], pool: Pool) -> tuple[SelectionRow, ...]:
    """A row for each task and choice, nothing trained yet; what serves all tasks has a row in each."""
    return tuple(
        SelectionRow(
            task=task,
            selector=choice.selector,
            fraction=choice.fraction,
            chosen=float(np.mean([len(draw) for draw in choice.draws])),
            size=float(np.mean([pool.sizes[draw].sum() for draw in choice.draws])),
            duplicates=choice.duplicates,
        )
        for task in tasks
        for choice in choices
        if choice.task in (None, task)
    )


def _with_multiples(fractions: Sequence[float], multiples: Sequence[float]) -> tuple[float, ...]:
    every = {round(f * m, 12) for f in fractions for m in (1, *multiples)}
    return tuple(sorted(f for f in every if f <= 1))


def _rules(
    fractions: Sequence[float], seeds: int, unit: str, reduce: str, distinct: bool, head: float | None,
    seed: int,
) -> _Rules:  # fmt: skip
    if not fractions or not all(0 < fraction <= 1 for fraction in fractions):
        raise InputError(f"fractions must be one or more shares above 0 and at most 1, received {fractions}.")
    check_head(head)
    if seeds < 2:
        raise InputError(
            f"seeds is {seeds}, but at least 2 trainings of each choice are needed to know the noise; 3 or "
            "more would do."
        )
    if unit not in ("count", "size"):
        raise InputError(f'unit must be "count" or "size", received {unit!r}.')
    return _Rules(tuple(sorted(set(map(float, fractions)))), seeds, unit, reduce, None, distinct, head, seed)


def _check_names(selectors: Sequence[Selector]) -> None:
    if not selectors:
        raise InputError("selectors is empty; pass at least one rule to choose by.")
    names = [one.name for one in selectors]
    if len(set(names)) < len(names):
        raise InputError(f"the rules must have names that differ, received {names}; rename one by name=.")


def _check_multiples(multiples: Sequence[float]) -> None:
    if not all(m > 0 for m in multiples):
        raise InputError(f"multiples must be positive, received {tuple(multiples)}.")


def _tasks(tasks: Tasks) -> dict[str, tuple[list[Any], list[Any] | None]]:
    if not tasks:
        raise InputError("tasks is empty; name at least one, or leave it out.")
    found: dict[str, tuple[list[Any], list[Any] | None]] = {}
    for name, pair in tasks.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(
                f"tasks[{name!r}] must be a pair (ids of selection targets, ids of report targets)."
            )
        found[name] = list(pair[0]), list(pair[1])
    return found
