"""DataMIL by success: the rollout datamodel on the tasks, the pool and the demonstrations of `datamil`.

For each task policies are trained on choices of a tenth, co-trained with the five demonstrations, and rolled
out from ten placements that are none of those that results are reported on; what they achieve is explained by
the ranks of the episodes under the metagradient and under two retrieval rules. Those policies take half of
the steps and half of the batch of the final ones: with fewer (1,500 of 128) other data are good than in the
end. That, and how many policies there are, was settled on other tasks of the pool, which are reported first;
the five were looked at once.

The rules ask for no rollouts, the rollout datamodel for `trials` of each of its policies: what that costs
stands beside its success, and so does what trials give without it, the rule whose own policies succeed most
often in them, task by task.
"""

from __future__ import annotations

import numpy as np

from benchmarks import datamil, datamil_filling
from benchmarks.datamil_filling import SETTINGS, comparing, estimated, over_policies
from benchmarks.datamil_rows import (
    HEURISTICS,
    METAGRADIENT,
    best_other,
    cell,
    over_tasks,
    rates,
    rows_of_choices,
    rows_of_success,
)
from benchmarks.harness import RUNS, Result
from whence.applications.selection import Attributed, Random
from whence.applications.selection.robots import (
    ActionRetrieval,
    BehaviorRetrieval,
    RolloutDatamodel,
    StateRetrieval,
    SubsequenceMatching,
    Trials,
)
from whence.applications.selection.robots.finding import ALL, TARGET, over_seeds
from whence.evaluate.intervals import mean_interval
from whence.provenance import usable_cores
from whence.study.robots import target_groups

ROLLOUTS, MOST_TRIALS = "DataMIL, rollouts", "the rule of most trials"
FULL = (
    datamil.FULL
    | {"validation": SETTINGS["validation"]}
    | {
        "rollouts": {"probes": 80, "rounds": 2, "models": 32, "steps": 2000, "trials": Trials(10, 200)},
        "rollout_batch": 256,
    }
)
QUICK = (
    datamil.QUICK
    | {"validation": datamil_filling.QUICK["validation"]}
    | {
        "rollouts": {"probes": 20, "rounds": 1, "models": 4, "steps": 150, "trials": Trials(2, 120)},
        "rollout_batch": 64,
    }
)


def run(quick: bool = False) -> Result:
    return measure(QUICK if quick else FULL)


def measure(settings: dict) -> Result:
    folder = RUNS / f"datamil-{len(settings['others'])}-{settings['expert']}-{settings['seed']}"
    prior, score, report = datamil.demonstrations(folder, settings)
    asked = dict(settings["rollouts"])
    told = settings | {"pool_episodes": prior.episodes, "rollouts": asked | {"trials": repr(asked["trials"])}}
    result = Result("datamil_rollouts", told)
    plan = settings["validation"]
    halves = datamil.halves(
        folder, "validation-demonstrations", plan["tasks"], settings["demonstrations"], plan["seed"]
    )
    part = {"seeds": plan["seeds"], "episodes": plan["episodes"]}
    found, tasks = by_rollouts(result, prior, *halves, folder, settings, **part)
    for name in dict.fromkeys(arm.name for arm in found.arms):
        result.row(validation=name, **over_policies(found, name, tasks))
    found, tasks = by_rollouts(result, prior, score, report, folder, settings)
    rows_of_success(result, found, tasks, "success_of")
    tried = most_trials(found, tasks)
    by_trials = [rates(found, name, task) for task, name in tried.items()]
    mean, low, high = over_seeds(by_trials)
    result.row(
        success_of=MOST_TRIALS,
        mean=mean,
        low=low,
        high=high,
        **{
            task.removesuffix("-v3"): f"{cell(one)}, {tried[task]}"
            for task, one in zip(tasks, by_trials, strict=True)
        },
    )
    rows_of_choices(result, found, prior, tasks, "choice_by")
    policies = asked["probes"] + asked["rounds"] * asked["models"]
    result.row(
        cost="for each task",
        policies=policies,
        steps_of_each=asked["steps"],
        rollouts=policies * asked["trials"].episodes,
    )
    rival = best_other(found, tasks)
    ours, theirs = over_tasks(found, ROLLOUTS, tasks), over_tasks(found, rival, tasks)
    where = f"mean success over {len(tasks)} tasks, all with {settings['fraction']:.0%}, co-trained"
    for other, rate, least in (
        (f"the best other rule ({rival})", theirs, 0.05),
        (MOST_TRIALS, np.mean(by_trials, axis=0), 0.0),
    ):
        mean, interval = mean_interval(ours - rate)
        result.claim(f"{ROLLOUTS} ahead of {other}, {where}", mean, at_least=least, interval=interval)
    return result


def most_trials(found, tasks) -> dict[str, str]:
    """Task -> of what is no DataMIL, the rule whose policies succeed most often in trials."""
    names = (*HEURISTICS, TARGET, ALL, Random().name)
    judged = {(arm.task, arm.name): arm.judged for arm in found.arms}
    return {task: min(names, key=lambda name: judged[task, name]) for task in tasks}


def by_rollouts(result, prior, score, report, folder, settings, **options):
    """A comparison with all rules, and its tasks."""
    study, metagradient = estimated(prior, score, folder, settings)
    groups = target_groups(score)
    episodes = {"episodes": prior.episode_of, "target_episodes": score.episode_of}
    action, matching = ActionRetrieval(**episodes), SubsequenceMatching(**episodes)
    estimate = Attributed.given(metagradient, METAGRADIENT)
    found = RolloutDatamodel(settings["fraction"], **settings["rollouts"]).attribute(
        datamil.study_of(prior, score, settings | {"batch": settings["rollout_batch"]}),
        prior.clusters(),
        groups,
        [estimate, matching, action],
        seed=settings["seed"],
        to=folder / "rollouts-by-rounds",
        processes=usable_cores(),
    )
    for task, success in found.provenance["success"].items():
        told = found.provenance["foretold"][task]
        rounds = {f"round_{i + 1}": rate for i, rate in enumerate(success)}
        result.row(rounds_of=task, **rounds, correlation_of_what_is_foretold=told)
        for rule, effects in zip(found.provenance["guides"], found.provenance["profiles"][task], strict=True):
            at = zip(found.provenance["knots"], effects, strict=True)
            result.row(profile_of=task, rule=rule, **{f"rank_{rank:.0f}": effect for rank, effect in at})
    rules = [StateRetrieval(), action, BehaviorRetrieval(), matching, Random()]
    compare = comparing(study, report, prior, groups, folder, settings, **options)
    selectors = [Attributed.given(found, ROLLOUTS), estimate, *rules]
    return compare(selectors, tuned=settings["rollouts"]["trials"]), list(groups)
