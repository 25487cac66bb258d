"""DataMIL where few episodes are good: what fills a choice, and whether the estimate should fill by rank.

The pool, the five reported tasks, the demonstrations and the metagradient are those of `datamil`. A tenth of
its 3,600 episodes are 360, of which 20 are by the expert of the task: most of a choice is filling. On eight
other tasks of the pool, with demonstrations of their own, the task's expert episodes are filled up in several
ways, which says what filling does to success and what to the loss; and the metagradient's choice is taken by
rank, or only a head of it and the rest drawn at random, anew for each seed. The head with which it succeeds
most often there is the one that it gets on the reported tasks.

All policies are co-trained: half of each batch are the five demonstrations. A metagradient descent that
starts from the metagradient's choice, as it did where its settings were found, stands beside them.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import whence
from benchmarks import datamil
from benchmarks.datamil_rows import (
    DESCENDED,
    METAGRADIENT,
    best_other,
    over_tasks,
    rows_of_choices,
    rows_of_rounds,
    rows_of_success,
)
from benchmarks.harness import RUNS, Result
from whence.applications.selection import Attributed, Random
from whence.applications.selection.robots import (
    ActionRetrieval,
    BehaviorRetrieval,
    MetagradientDescent,
    StateRetrieval,
    SubsequenceMatching,
    compare_demonstrations,
)
from whence.applications.selection.robots.finding import ALL, TARGET
from whence.evaluate.intervals import mean_interval
from whence.provenance import usable_cores
from whence.study.robots import target_groups

SETTINGS = {
    "validation": {
        "tasks": (
            "stick-push-v3",
            "push-wall-v3",
            "bin-picking-v3",
            "box-close-v3",
            "assembly-v3",
            "basketball-v3",
            "peg-insert-side-v3",
            "push-v3",
        ),
        "seed": 77_001,
        "seeds": 2,
        "episodes": 25,
    },
    "heads": (None, 0.01, 0.02),  # None: the whole choice by rank
}
FULL = datamil.FULL | SETTINGS
QUICK = (
    datamil.QUICK
    | SETTINGS
    | {
        "validation": {"tasks": ("push-v3",), "seed": 77_001, "seeds": 2, "episodes": 3},
        "heads": (None, 0.05),
    }
)
FILLINGS = {
    "none": lambda prior, own, expert: own & False,
    "experts of other tasks": lambda prior, own, expert: ~own & expert,
    "any of other tasks": lambda prior, own, expert: ~own,
    "all worse ones of the task": lambda prior, own, expert: own & ~expert,
}


def run(quick: bool = False) -> Result:
    return measure(QUICK if quick else FULL)


def measure(settings: dict) -> Result:
    folder = RUNS / f"datamil-{len(settings['others'])}-{settings['expert']}-{settings['seed']}"
    prior, score, report = datamil.demonstrations(folder, settings)
    result = Result("datamil_filling", settings | {"pool_episodes": prior.episodes})
    plan = settings["validation"]
    others = datamil.halves(
        folder, "validation-demonstrations", plan["tasks"], settings["demonstrations"], plan["seed"]
    )
    head = validate(result, folder, prior, *others, settings)
    study, metagradient = estimated(prior, score, folder, settings)
    tasks, groups = list(settings["targets"]), target_groups(score)
    compare = comparing(study, report, prior, groups, folder, settings)
    descended = MetagradientDescent(settings["fraction"], **settings["descent"]).attribute(
        study,
        prior.clusters(),
        groups,
        metagradient,
        target_episodes=score.episode_of,
        seed=settings["seed"],
        to=folder / "descent",
        processes=usable_cores(),
    )
    estimate = Attributed.given(metagradient, METAGRADIENT)
    episodes = {"episodes": prior.episode_of, "target_episodes": score.episode_of}
    rules = [
        StateRetrieval(),
        ActionRetrieval(**episodes),
        BehaviorRetrieval(),
        SubsequenceMatching(**episodes),
    ]
    ranked = compare([Attributed.given(descended, DESCENDED), estimate, *rules, Random()])
    filled = compare([estimate], head=head) if head else ranked
    rows_of_success(result, ranked, tasks, "success_ranked")
    rows_of_choices(result, ranked, prior, tasks, "ranked_choice_of")
    rows_of_rounds(result, descended, "descent")
    result.settings["head"] = head
    if head:
        rows_of_success(result, filled, tasks, "success_filled")
    claims(result, ranked, filled, tasks)
    return result


def estimated(prior, score, folder, settings) -> tuple[whence.Study, whence.Attribution]:
    """The study of the demonstrations to choose by, and its metagradient."""
    study = datamil.study_of(prior, score, settings)
    groups = target_groups(score)
    return study, datamil.by_injection(study, prior.clusters(), groups, folder, settings)


def comparing(study, report, prior, groups, folder, settings, **options):
    return partial(
        compare_demonstrations,
        study,
        report,
        clusters=prior.clusters(),
        tasks=groups,
        fractions=(settings["fraction"],),
        to=folder,
        processes=usable_cores(),
        **{"seeds": settings["seeds"], "episodes": settings["episodes"]} | options,
        horizon=settings["horizon"],
        **settings["cotraining"],
    )


def validate(result, folder, prior, score, report, settings) -> float | None:
    """The head with which the metagradient's choice succeeds most often on other tasks."""
    plan, groups = settings["validation"], target_groups(score)
    tasks = list(groups)
    study, metagradient = estimated(prior, score, folder, settings)
    part = {"seeds": plan["seeds"], "episodes": plan["episodes"]}
    compare = comparing(study, report, prior, groups, folder, settings, **part)
    for name, filling in FILLINGS.items():
        rule = Attributed.given(known(study, prior, tasks, filling), name)
        count = settings["fraction"] if name != "none" else settings["expert"] / prior.episodes
        found = compare([rule], fractions=(count,))
        result.row(known_filling=name, **over_policies(found, name, tasks))
    means = {}
    for head in settings["heads"]:
        found = compare([Attributed.given(metagradient, METAGRADIENT)], head=head)
        for name in (METAGRADIENT,) if head else (ALL, TARGET, METAGRADIENT):
            result.row(validation=name, head=head, **over_policies(found, name, tasks))
        means[head] = over_tasks(found, METAGRADIENT, tasks).mean()
    return max(means, key=means.__getitem__)


def over_policies(found, name, tasks) -> dict[str, float]:
    """Success with its interval over tasks and seeds, and the loss on held-out demonstrations."""
    arms = [next(arm for arm in found.arms if (arm.task, arm.name) == (task, name)) for task in tasks]
    mean, (low, high) = mean_interval(np.concatenate([arm.rates for arm in arms]))
    loss = float(np.mean([arm.losses for arm in arms]))
    return {"success": mean, "low": low, "high": high, "held_out_loss": loss}


def known(study, prior, tasks, filling) -> whence.Attribution:
    """What nobody is told: first the expert episodes of the task, then some of those of the filling."""
    expert = prior.sources == "expert"
    rng = np.random.default_rng(0)
    rows = []
    for task in tasks:
        own = prior.tasks == task
        order = rng.random(prior.episodes)
        rows.append(-2.0 * (own & expert) - filling(prior, own, expert) * (0.5 + 0.5 * order) - 0.01 * order)
    return whence.Attribution(
        np.array(rows)[:, prior.episode_of].astype(np.float32),
        target_ids=tasks,
        train_ids=study.train_ids,
        output="loss",
        method="known",
    )


def claims(result, ranked, filled, tasks) -> None:
    """The descent by rank, and the metagradient with the head that did best elsewhere, against the best
    rule."""
    rival = best_other(ranked, tasks)
    theirs = over_tasks(ranked, rival, tasks)
    head = result.settings["head"]
    for name, found, how in (
        (DESCENDED, ranked, "by rank"),
        (METAGRADIENT, filled, f"with a head of {head:.0%} by rank" if head else "by rank"),
    ):
        mean, interval = mean_interval(over_tasks(found, name, tasks) - theirs)
        result.claim(
            f"{name}, {how}, ahead of the best other rule ({rival}), mean success over {len(tasks)} tasks, "
            f"all with {result.settings['fraction']:.0%}, co-trained",
            mean,
            at_least=0.05,
            interval=interval,
        )
