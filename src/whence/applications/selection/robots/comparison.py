"""Choose demonstrations by several rules, train policies on each choice, and see what they can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from whence.applications.selection.base import Selector, scores_of
from whence.applications.selection.choose import check_head, select
from whence.applications.selection.pool import Pool
from whence.applications.selection.robots.clusters import cluster_codes, target_steps
from whence.applications.selection.robots.finding import ALL, TARGET, Arm, DemonstrationFinding
from whence.applications.selection.robots.policies import Order, Policy, train_policies
from whence.applications.selection.robots.rollouts import REPORTED, Trials, check_simulator, roll_out
from whence.errors import InputError
from whence.provenance import versions
from whence.study import Study
from whence.study.robots import Demonstrations

Key = tuple[str, str, float]  # task, rule, fraction


def compare_demonstrations(
    study: Study,
    report: Demonstrations,
    selectors: Sequence[Selector],
    *,
    clusters: np.ndarray,
    tasks: Mapping[str, Sequence[Any]],
    fractions: Sequence[float] = (0.1,),
    tuned: bool | Trials = False,
    seeds: int | Sequence[int] = 5,
    steps: int = 2000,
    alpha: float = 0.0,
    reduce: Literal["mean", "sum"] = "mean",
    head: float | None = None,
    episodes: int = 50,
    horizon: int = 500,
    rollouts: bool = True,
    to: str | Path | None = None,
    processes: int = 1,
    progress: bool = True,
) -> DemonstrationFinding:
    """Train policies on what each selector chooses, on all candidates and on the target demonstrations alone.

    All policies take `steps` optimiser steps. The loss is that on `report`, demonstrations that neither the
    choice nor the training saw; success is the share of rollouts that solve the task at any step.

    Parameters
    ----------
    study : of `whence.study.robots.cloning_study`: steps of the prior, and as targets those demonstrations of
        each task that the choice is for.
    report : other demonstrations of the same tasks.
    clusters : cluster of each training example, chosen whole: `Demonstrations.clusters`.
    tasks : task -> ids of its targets: `target_groups`. Names of MetaWorld tasks where there are rollouts.
    fractions : shares of the clusters that are kept.
    tuned : keep for each rule and task only that of the fractions whose policies do best: by True those
        that lose least on the targets that the choice is for, which `alpha` must not mix into training then;
        by `Trials` those that succeed most often from other placements than the reported.
    seeds : training seeds of each policy, or how many; random rules choose anew for each.
    alpha : share of each batch that comes from the task's target demonstrations (co-training); 0 trains on
        the choice alone.
    reduce : a cluster's score, see `select`: per step, or the sum.
    head : take only this share of all clusters by each rule's ranking and draw the rest of the fraction at
        random, anew for each seed; see `select`.
    episodes, horizon : of the rollouts of each policy, see `roll_out`.
    rollouts : whether to roll out at all (needs `metaworld`).
    to : a folder for policies and rollouts; what is there is not made again.

    Raises
    ------
    InputError : a task without targets or without report demonstrations, report demonstrations that are
        targets or candidates too, observations or actions of another size, two selectors of one name,
        rollouts without MetaWorld.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    codes, _ = cluster_codes(study, clusters)
    names = [selector.name for selector in selectors]
    if len({ALL, TARGET, *names}) < len(names) + 2:
        raise InputError(
            f"selectors must differ in name, also from {ALL!r} and {TARGET!r}; received {names}."
        )
    if not numbers or not tasks or not fractions:
        raise InputError("name at least one seed, one task and one fraction.")
    check_head(head)
    if tuned and alpha and not isinstance(tuned, Trials):
        raise InputError(
            f"alpha={alpha:g} trains on the targets, so their loss cannot tune the fraction; pass alpha=0, "
            "Trials or tuned=False."
        )
    if to is None and (rollouts or isinstance(tuned, Trials)):
        check_simulator()  # before hours of training that nothing would keep
    _check_report(study, report, tasks)
    orders: dict[Key, list[Order]] = {}
    chosen: dict[Key, np.ndarray] = {}
    everything, whole = np.arange(study.n), Pool(study, groups=clusters)
    for task, ids in tasks.items():
        pool = whole.only(ids, task)
        target = pool.target_index
        mixed = target if alpha else None
        orders[task, TARGET, 0.0] = [Order(everything[:0], seed, target, 1.0) for seed in numbers]
        orders[task, ALL, 1.0] = [Order(everything, seed, mixed, alpha) for seed in numbers]
        for selector in selectors:
            drawn = selector.random or head is not None
            for seed in numbers if drawn else numbers[:1]:
                if selector.random or seed == numbers[0]:
                    scores = scores_of(selector, pool, seed)
                for fraction in fractions:
                    kept = select(
                        scores, fraction=fraction, groups=codes, reduce=reduce, head=head, seed=seed
                    )
                    key = task, selector.name, fraction
                    mine = [seed] if drawn else numbers
                    orders.setdefault(key, []).extend(Order(kept, s, mixed, alpha) for s in mine)
                    chosen.setdefault(key, kept)
    flat = [(key, order) for key, mine in orders.items() for order in mine]
    folder = None if to is None else Path(to)
    keep = None if folder is None else folder / "rollouts"

    def run(count: int, longest: int, seed: int, them: Sequence[Policy], keys: Sequence[Key]) -> list[float]:
        """Success of each policy."""
        names = [key[0] for key in keys]
        found = roll_out(
            them,
            names,
            episodes=count,
            horizon=longest,
            seed=seed,
            to=keep,
            processes=processes,
            progress=progress,
        )
        return [one.rate for one in found]

    policies = train_policies(
        study,
        [order for _, order in flat],
        steps=steps,
        to=None if folder is None else folder / "policies",
        processes=processes,
        progress=progress,
    )
    best: dict[Key, float] = {}
    if tuned:
        keys = [key for key, _ in flat]
        if isinstance(tuned, Trials):
            tried = run(tuned.episodes, tuned.horizon, tuned.seed, policies, keys)
            best = _best(keys, [-rate for rate in tried])
        else:
            told = {task: target_steps(study, ids, task) for task, ids in tasks.items()}
            best = _best(keys, [p.mean_loss(told[key[0]]) for p, key in zip(policies, keys, strict=True)])
        orders = {key: mine for key, mine in orders.items() if key in best}
        policies = [policy for policy, (key, _) in zip(policies, flat, strict=True) if key in best]
        flat = [pair for pair in flat if pair[0] in best]
    losses = [p.mean_loss(report.of_task(key[0])) for p, (key, _) in zip(policies, flat, strict=True)]
    rates: Sequence[float | None] = [None] * len(flat)
    if rollouts:
        rates = run(episodes, horizon, REPORTED, policies, [key for key, _ in flat])
    arms = []
    for task, name, fraction in orders:
        at = [i for i, (key, _) in enumerate(flat) if key == (task, name, fraction)]
        kept = chosen.get((task, name, fraction), everything if name == ALL else everything[:0])
        arms.append(
            Arm(
                task,
                name,
                fraction,
                study.train_ids[kept],
                np.array([losses[i] for i in at]),
                np.array([rates[i] for i in at]) if rollouts else None,
                best.get((task, name, fraction)),
            )
        )
    return DemonstrationFinding.of(
        arms,
        episodes=episodes,
        settings={
            "study": study.fingerprint,
            "versions": versions(),
            "seeds": numbers,
            "steps": steps,
            "alpha": alpha,
            "tuned": list(fractions) if tuned else None,
            "tuned_by": repr(tuned) if isinstance(tuned, Trials) else "loss" if tuned else None,
            "reduce": reduce,
            "head": head,
            "episodes": episodes,
            "horizon": horizon,
            "clusters": int(codes.max()) + 1,
        },
    )


def _best(keys: Sequence[Key], costs: Sequence[float]) -> dict[Key, float]:
    """Of each task and rule, the key with the lowest mean cost over its policies, and that."""
    by_key: dict[Key, list[float]] = {}
    for key, cost in zip(keys, costs, strict=True):
        by_key.setdefault(key, []).append(cost)
    best: dict[tuple[str, str], tuple[float, float]] = {}
    for (task, name, fraction), values in by_key.items():
        # a policy that diverged speaks against its fraction
        found = float(np.nan_to_num(np.mean(values), nan=np.inf)), fraction
        best[task, name] = min(best.get((task, name), found), found)
    return {(task, name, fraction): cost for (task, name), (cost, fraction) in best.items()}


def _check_report(study: Study, report: Demonstrations, tasks: Mapping[str, Sequence[Any]]) -> None:
    lacking = [task for task in tasks if task not in report.tasks]
    if lacking:
        raise InputError(f"report has no demonstration of {lacking[0]!r}; it needs some of every task.")
    for what, examples in (("a candidate", study.train), ("a target", study.targets)):
        inputs, answers = np.asarray(examples.inputs, np.float32), np.asarray(examples.answers, np.float32)
        as_one = Demonstrations(inputs, answers, np.array([len(inputs)]), np.array([""]))
        as_one.check_like(report, "report demonstrations")
        if len(shared_steps(as_one, report)):
            raise InputError(
                f"steps of the report demonstrations are also those of {what}; what is reported must be "
                "held out."
            )


def shared_steps(mine: Demonstrations, theirs: Demonstrations) -> np.ndarray:
    """Steps of `theirs` (observation and action) that are among those of `mine`."""

    def rows(demonstrations: Demonstrations) -> list[bytes]:
        joined = np.concatenate([demonstrations.observations, demonstrations.actions], axis=1)
        return [row.tobytes() for row in joined]

    known = set(rows(mine))
    return np.array([i for i, row in enumerate(rows(theirs)) if row in known], dtype=np.int64)
