"""DataMIL by success: the rollout datamodel on the tasks, the pool and the demonstrations of `datamil`.

For each task policies are trained on choices of a tenth, co-trained with the five demonstrations, and rolled
out from ten placements that are none of those that results are reported on; what they achieve is explained by
the ranks of the episodes under the metagradient and under two retrieval rules. Those policies take half of
the steps and half of the batch of the final ones: with fewer (1,500 of 128) other data are good than in the
end. That, and how many policies there are, was settled on other tasks of the pool, which are reported first;
the five were looked at once.

The rules ask for no rollouts, the rollout datamodel for `trials` of each of its policies: what that costs
stands beside its success.
"""

from __future__ import annotations

from benchmarks import datamil, datamil_filling
from benchmarks.datamil_filling import SETTINGS, comparing, estimated, over_policies
from benchmarks.datamil_rows import METAGRADIENT, best_other, over_tasks, rows_of_choices, rows_of_success
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
from whence.evaluate.intervals import mean_interval
from whence.provenance import usable_cores
from whence.study.robots import target_groups

ROLLOUTS = "DataMIL, rollouts"
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
    rows_of_choices(result, found, prior, tasks, "choice_by")
    policies = asked["probes"] + asked["rounds"] * asked["models"]
    result.row(
        cost="for each task",
        policies=policies,
        steps_of_each=asked["steps"],
        rollouts=policies * asked["trials"].episodes,
    )
    rival = best_other(found, tasks)
    for name in (ROLLOUTS, METAGRADIENT):
        mean, interval = mean_interval(over_tasks(found, name, tasks) - over_tasks(found, rival, tasks))
        result.claim(
            f"{name} ahead of the best other rule ({rival}), mean success over {len(tasks)} tasks, all with "
            f"{settings['fraction']:.0%}, co-trained",
            mean,
            at_least=0.05,
            interval=interval,
        )
    return result


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
    for task, rates in found.provenance["success"].items():
        told = found.provenance["foretold"][task]
        rounds = {f"round_{i + 1}": rate for i, rate in enumerate(rates)}
        result.row(rounds_of=task, **rounds, correlation_of_what_is_foretold=told)
        for rule, effects in zip(found.provenance["guides"], found.provenance["profiles"][task], strict=True):
            at = zip(found.provenance["knots"], effects, strict=True)
            result.row(profile_of=task, rule=rule, **{f"rank_{rank:.0f}": effect for rank, effect in at})
    rules = [StateRetrieval(), action, BehaviorRetrieval(), matching, Random()]
    compare = comparing(study, report, prior, groups, folder, settings, **options)
    return compare([Attributed.given(found, ROLLOUTS), estimate, *rules]), list(groups)
