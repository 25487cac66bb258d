"""What the DataMIL benchmark says: rows of success, loss, choices and estimates, and its claims."""

from __future__ import annotations

import numpy as np

from whence.applications.selection import Random
from whence.applications.selection.robots.finding import ALL, TARGET, over_seeds
from whence.evaluate.correlation import correlations
from whence.evaluate.intervals import mean_interval

WALL = "pick-place-wall-v3"
HEURISTICS = ("state retrieval", "action retrieval", "BehaviorRetrieval", "subsequence DTW")
REGRESSION, METAGRADIENT, GUIDED = "DataMIL, regression", "DataMIL, metagradient", "DataMIL, guided"
NARROWED, DESCENDED = "DataMIL, narrowed", "DataMIL, descended"
ORACLE = "the task's expert episodes alone"


def rows_of_success(result, found, tasks, kind="success") -> None:
    """A row for each rule and fraction; where each task has its own, the fractions stand in the row."""
    for name in dict.fromkeys(arm.name for arm in found.arms):
        mine = [arm for arm in found.arms if arm.name == name]
        kept = {arm.task: arm.fraction for arm in mine}
        rates = [arm.rates for arm in mine]
        mean, low, high = over_seeds(rates)
        result.row(
            **{kind: name},
            kept=", ".join(f"{100 * kept[task]:.3g}%" for task in tasks)
            if len(set(kept.values())) > 1
            else mine[0].fraction,
            mean=mean,
            low=None if low is None else max(low, 0),
            high=None if high is None else min(high, 1),
            **{arm.task.removesuffix("-v3"): cell(arm.rates) for arm in mine},
        )


def cell(values) -> str:
    mean, low, high = over_seeds([values])
    return f"{mean:.2f}" if low is None else f"{mean:.2f} ({max(low, 0):.2f}..{min(high, 1):.2f})"


def rows_of_loss(result, found, tasks) -> None:
    for name, fraction in dict.fromkeys((arm.name, arm.fraction) for arm in found.arms):
        losses = {task.removesuffix("-v3"): found.arm(task, name, fraction).losses.mean() for task in tasks}
        result.row(held_out_loss=name, kept=fraction, **losses)


def rows_of_choices(result, found, prior, tasks, kind="choice_of") -> None:
    """What kinds of episodes were chosen, means over all tasks."""
    for name in dict.fromkeys(arm.name for arm in found.arms):
        if name in (ALL, TARGET):
            continue
        counts: dict[str, float] = {}
        for task in tasks:
            arm = next(arm for arm in found.arms if (arm.task, arm.name) == (task, name))
            episodes = np.unique(prior.episode_of[arm.ids])
            own = prior.tasks[episodes] == task
            counts["episodes"] = counts.get("episodes", 0) + len(episodes) / len(tasks)
            for source in dict.fromkeys(prior.sources.tolist()):
                label = f"own, {source}"
                counts[label] = counts.get(label, 0) + (
                    own & (prior.sources[episodes] == source)
                ).sum() / len(tasks)
        result.row(**{kind: name}, **counts)


def rows_of_curve(result, curve) -> None:
    """Success on one task over the kept fraction."""
    for arm in sorted(curve.arms, key=lambda arm: arm.fraction):
        if arm.name not in (ALL, TARGET):
            mean, low, high = over_seeds([arm.rates])
            result.row(
                curve=arm.task, chosen_by=arm.name, kept=arm.fraction, success=mean, low=low, high=high
            )


def rows_of_rounds(result, found, kind) -> None:
    """The targets' mean loss of the policies of each round: falls as long as looking again helps."""
    for task, losses in found.provenance["losses"].items():
        result.row(**{kind: task}, **{f"round_{i + 1}": loss for i, loss in enumerate(losses)})


def rows_of_estimates(result, regression, metagradient, guided, clusters, tasks, seconds, each) -> None:
    """Rank correlation over clusters of the two estimates, and what they cost."""
    effects = [
        np.stack([np.bincount(clusters, row) for row in scores.data["weight"].values], axis=1)
        for scores in (regression, metagradient)
    ]
    ranks = correlations(*effects)
    for i, task in enumerate(tasks):
        result.row(
            estimates_of=task,
            rank_correlation=ranks[i],
            held_out_correlation_of_regression=regression.provenance["held_out_correlation"].get(task),
            held_out_correlation_of_guided=guided.provenance["held_out_correlation"].get(task),
        )
    result.row(
        cost="processor seconds",
        regression_for_all_tasks=seconds,
        metagradient_for_one_task=each,
        ratio_one_task=seconds / each,
        ratio_all_tasks=seconds / each / len(tasks),
    )


def rates(found, name, task) -> np.ndarray:
    return next(arm for arm in found.arms if (arm.task, arm.name) == (task, name)).rates


def over_tasks(found, name, tasks) -> np.ndarray:
    """Mean success over tasks, ``(seeds,)``."""
    return np.mean([rates(found, name, task) for task in tasks], axis=0)


def best_other(found, tasks) -> str:
    """Of what is no DataMIL, the rule with the highest mean success."""
    return max(
        (*HEURISTICS, TARGET, ALL, Random().name), key=lambda name: over_tasks(found, name, tasks).mean()
    )


def claims(result, found, tuned, again, tried, cotrained, tasks) -> None:
    # where all data never succeeds, one success in all rollouts stands for it
    least = 1 / (result.settings["seeds"] * result.settings["episodes"])
    everything = rates(found, ALL, WALL)
    share = f"{result.settings['fraction']:.0%}"
    estimates = (NARROWED, GUIDED, REGRESSION, METAGRADIENT)
    for name in estimates[1:]:
        chosen = rates(found, name, WALL)
        result.claim(
            f"{WALL}: success with the {share} chosen by {name}, as a multiple of that with all data",
            chosen.mean() / max(everything.mean(), least),
            at_least=3,
            interval=ratio_interval(chosen, everything, least),
        )
    rival, by_trials = best_other(tuned, tasks), best_other(tried, tasks)
    mixed = f"all with {share}, co-trained with the demonstrations"
    for among, names, other, where in (
        (cotrained, (DESCENDED, *estimates[1:]), best_other(cotrained, tasks), mixed),
        (tuned, estimates, rival, "each with the fraction of its lowest loss"),
        (again, estimates[:1], rival, "the same with further seeds"),
        (tried, estimates, by_trials, "each with the fraction of its most successful trials"),
        (found, estimates[1:], best_other(found, tasks), f"all with {share}"),
    ):
        for name in names:
            ahead = over_tasks(among, name, tasks) - over_tasks(among, other, tasks)
            mean, interval = mean_interval(ahead)
            result.claim(
                f"{name} ahead of the best other rule ({other}), mean success over {len(tasks)} tasks, "
                f"{where}",
                mean,
                at_least=0.05,
                interval=interval,
            )


def ratio_interval(
    first: np.ndarray, second: np.ndarray, least: float, times: int = 2000
) -> tuple[float, float]:
    """95 % of a ratio of means by bootstrap over seeds, each side's own."""
    rng = np.random.default_rng(0)
    draws = [
        rng.choice(first, len(first)).mean() / max(rng.choice(second, len(second)).mean(), least)
        for _ in range(times)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
