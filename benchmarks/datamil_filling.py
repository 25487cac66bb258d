"""DataMIL where few episodes are good: the choice by rank, or a head of it and the rest at random.

The pool, the five reported tasks, the demonstrations and the metagradient are those of `datamil`. A tenth of
its 3,600 episodes are 360, of which 20 are by the expert of the task: most of a choice is filling, and what
rankings fill with are worse episodes of the same task, which the cloning loss likes and success does not. So
each rule takes only a head of its ranking, and the rest is drawn at random, anew for each seed. Which head,
if any, is settled for each rule by success on eight other tasks of the pool, with demonstrations of their
own. There it is also measured what filling does to success and to the loss where nobody has to guess: the
task's expert episodes with several fillings.

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
from whence.applications.selection import Attributed, Pool, Random, Selector
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
    heads = validate(result, folder, prior, *others, settings)
    study, metagradient, rules = rules_of(prior, score, folder, settings)
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
    ranked = compare([Attributed.given(descended, DESCENDED), *rules, Random()])
    rows_of_success(result, ranked, tasks, "success_ranked")
    rows_of_choices(result, ranked, prior, tasks, "ranked_choice_of")
    rows_of_rounds(result, descended, "descent")
    filled = {None: ranked}
    for head in sorted({head for head in heads.values() if head}):
        filled[head] = compare(rules, head=head)
        rows_of_success(result, filled[head], tasks, f"success_filled_{head:g}")
        rows_of_choices(result, filled[head], prior, tasks, f"filled_choice_of_{head:g}")
    claims(result, filled, heads, tasks)
    return result


def rules_of(prior, score, folder, settings):
    """The study, its metagradient, and the rules: by that one and those that it is compared with."""
    study = datamil.study_of(prior, score, settings)
    metagradient = datamil.by_injection(study, prior.clusters(), target_groups(score), folder, settings)
    episodes = {"episodes": prior.episode_of, "target_episodes": score.episode_of}
    retrieval = (
        StateRetrieval(),
        ActionRetrieval(**episodes),
        BehaviorRetrieval(),
        SubsequenceMatching(**episodes),
    )
    return study, metagradient, [Attributed.given(metagradient, METAGRADIENT), *map(Once, retrieval)]


class Once(Selector):
    """A rule whose scores are remembered, for they are asked for with each head."""

    def __init__(self, rule: Selector) -> None:
        self.rule, self.name, self.needs = rule, rule.name, rule.needs
        self.known: dict[str, np.ndarray] = {}

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        if pool.task not in self.known:
            self.known[pool.task] = self.rule.scores(pool, seed)
        return self.known[pool.task]


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


def validate(result, folder, prior, score, report, settings) -> dict[str, float | None]:
    """The head with which each rule succeeds most often on other tasks."""
    plan, groups = settings["validation"], target_groups(score)
    tasks = list(groups)
    study, _, rules = rules_of(prior, score, folder, settings)
    part = {"seeds": plan["seeds"], "episodes": plan["episodes"]}
    compare = comparing(study, report, prior, groups, folder, settings, **part)
    by_head = {}
    for head in settings["heads"]:
        by_head[head] = compare(rules, head=head)
        names = [rule.name for rule in rules] if head else [ALL, TARGET, *(rule.name for rule in rules)]
        for name in names:
            result.row(validation=name, head=head, **over_policies(by_head[head], name, tasks))
    for name, filling in FILLINGS.items():
        rule = Attributed.given(known(study, prior, tasks, filling), name)
        count = settings["fraction"] if name != "none" else settings["expert"] / prior.episodes
        found = compare([rule], fractions=(count,))
        result.row(known_filling=name, **over_policies(found, name, tasks))
    return {
        rule.name: max(settings["heads"], key=lambda head: over_tasks(by_head[head], rule.name, tasks).mean())
        for rule in rules
    }


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


def claims(result, filled, heads, tasks) -> None:
    """The estimate against the best of the other rules: as it ranks, with the heads that did best elsewhere,
    and however either is filled."""
    ranked = filled[None]
    rates = {rule: over_tasks(filled[head], rule, tasks) for rule, head in heads.items()}
    rates |= {name: over_tasks(ranked, name, tasks) for name in (TARGET, ALL, Random().name)}
    hindsight = rates | {
        f"{rule}, head {head}": over_tasks(found, rule, tasks)
        for head, found in filled.items()
        for rule in heads
        if rule != METAGRADIENT
    }
    rival = best_other(ranked, tasks)
    theirs = over_tasks(ranked, rival, tasks), rival
    for name, mine, theirs, other, where in (
        (DESCENDED, over_tasks(ranked, DESCENDED, tasks), *theirs, "by rank"),
        (METAGRADIENT, over_tasks(ranked, METAGRADIENT, tasks), *theirs, "by rank"),
        (METAGRADIENT, rates[METAGRADIENT], *best(rates), "each filled as did best on other tasks"),
        (METAGRADIENT, rates[METAGRADIENT], *best(hindsight), "the other filled as does best here"),
    ):
        mean, interval = mean_interval(mine - theirs)
        result.claim(
            f"{name} ahead of the best other rule ({other}), mean success over {len(tasks)} tasks, all with "
            f"{result.settings['fraction']:.0%}, co-trained, {where}",
            mean,
            at_least=0.05,
            interval=interval,
        )


def best(rates) -> tuple[np.ndarray, str]:
    """Success over seeds of what is no DataMIL and succeeds most often, and its name."""
    name = max((name for name in rates if name != METAGRADIENT), key=lambda name: rates[name].mean())
    return rates[name], name
