"""Metagradient descent on a choice of clusters: swap what hurts for what helps, at the choice itself.

Engstrom et al. 2025 (arXiv 2503.13751) descend on how often each example is trained on; DataMIL's release
moves its base point in that way too, from all clusters (Dass et al. 2026, arXiv 2505.09603). Here the choice
keeps its size, for that is what is asked for in the end, and policies are co-trained with a half of the
target's demonstrations while the other half judges, as DataMIL does where its prior is of another kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.applications.selection.robots.clusters import cluster_codes, share_of, target_positions
from whence.applications.selection.robots.policies import check_cloning, joined
from whence.applications.selection.robots.ranks import best_first, ranked
from whence.applications.selection.robots.rounds import read_rounds, write_rounds
from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.guided import aligned
from whence.provenance import fingerprint
from whence.study import Study
from whence.study.robots._processes import spread
from whence.training.injection import InjectedRun


@dataclass(frozen=True)
class MetagradientDescent:
    """Improve a choice by the derivatives at it, in rounds.

    In each round `trials` policies are trained on the choice, half of each batch being demonstrations of the
    target, a random half of them; all clusters are injected late at weight 0, and the derivatives of the mean
    loss of the other half of the demonstrations by their weights are taken back (see `LateInjection`). Those
    of the choice with the highest derivatives then change places with those outside with the lowest: a share
    `swapped` of the choice in the first round, and in equal steps down to none after the last.

    A cluster's derivative counts from the mean over the steps of the choice, times its steps: policies are
    trained for a fixed number of steps, so one that is added takes the place of a little of all others.

    Parameters
    ----------
    fraction : share of the clusters in the choice; choose as many from the attribution.
    rounds, trials : how many, and policies of each round.
    steps, at : length of a run and where the injection is.
    swapped : share of the choice, in (0, 1].
    alpha : share of the target's demonstrations in training, in expectation; 0 trains on the choice alone,
        and all demonstrations judge.
    """

    fraction: float = 0.1
    rounds: int = 16
    trials: int = 3
    steps: int = 400
    at: int = 330
    swapped: float = 0.15
    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.fraction < 1 and 0 < self.swapped <= 1):
            raise InputError(
                f"fraction must lie in (0, 1) and swapped in (0, 1], received {self.fraction} and "
                f"{self.swapped}."
            )
        if self.rounds < 1 or self.trials < 1:
            raise InputError(f"rounds={self.rounds} and trials={self.trials} must be at least 1.")
        if not 0 < self.at < self.steps:
            raise InputError(f"at={self.at} must lie between 1 and steps - 1 = {self.steps - 1}.")
        if not 0 <= self.alpha < 1:
            raise InputError(f"alpha must lie in [0, 1), received {self.alpha}.")

    def attribute(
        self,
        study: Study,
        clusters: np.ndarray,
        tasks: Mapping[str, Sequence[Any]],
        first: Attribution,
        *,
        target_episodes: np.ndarray | None = None,
        seed: int = 0,
        to: str | Path | None = None,
        processes: int = 1,
        progress: bool = True,
    ) -> Attribution:
        """A row for each task: ranks, -1/2 for the steps of the best cluster and up to 1/2 for the last, the
        same for all steps of a cluster; lower is better, as for a loss. The choice comes first, in the order
        of its last derivatives, and then the rest in that of theirs.

        Parameters
        ----------
        study : see `whence.study.robots.cloning_study`.
        clusters : cluster id of each training example, ``(n,)``.
        tasks : name -> target ids whose mean loss is meant.
        first : an attribution with a row for each task, whose best clusters are the first choice; of an
            output of which less is better (a loss) or more, as it says.
        target_episodes : the episode of each target of the study, `Demonstrations.episode_of`; needed unless
            `alpha` is 0, and two episodes of each task at least.
        to : a folder in which each round is kept, so that a run that was stopped goes on.
        processes : tasks at once.

        Raises
        ------
        InputError : a study of no cloning, a choice of none or all clusters, an attribution that lacks a task
            or a training example, too few target episodes, derivatives that are not finite.
        """
        check_cloning(study)
        codes, sizes = cluster_codes(study, clusters)
        count = share_of(self.fraction, len(sizes), "swap")
        if not tasks:
            raise InputError("tasks is empty; name at least one task and its targets.")
        rows = aligned(first, list(tasks), study.train_ids.tolist(), "task").numpy()
        jobs = []
        for row, (task, ids) in zip(rows, tasks.items(), strict=True):
            positions = np.array(target_positions(study, ids))
            episodes = self._episodes(study, positions, target_episodes, task)
            order = best_first(first, row, codes, sizes)
            jobs.append(_Job(self, study, codes, sizes, positions, episodes, order[:count], seed, to))
        found = list(spread(_descend, jobs, processes, "metagradient descent" if progress else None))
        return ranked(
            study,
            codes,
            list(tasks),
            [order for order, _ in found],
            f"metagradient descent (from {first.method or 'an attribution'})",
            method=repr(self),
            seed=seed,
            first=first.method,
            losses={task: losses for task, (_, losses) in zip(tasks, found, strict=True)},
        )

    def _episodes(
        self, study: Study, positions: np.ndarray, episodes: np.ndarray | None, task: str
    ) -> np.ndarray | None:
        """The episode of each of the positions, None where all targets judge."""
        if not self.alpha:
            return None
        if episodes is None or np.shape(episodes) != (len(study.targets),):
            received = "none" if episodes is None else f"shape {np.shape(episodes)}"
            raise InputError(
                f"alpha={self.alpha:g} trains on a half of the target's episodes: target_episodes must have "
                f"one for each of {len(study.targets)} targets, received {received}; pass alpha=0 to train "
                "on the choice alone."
            )
        mine = np.asarray(episodes)[positions]
        if len(np.unique(mine)) < 2:
            raise InputError(
                f"{task!r} has one target episode, but alpha={self.alpha:g} trains on a half of them and "
                "judges by the others; pass two or more, or alpha=0."
            )
        return mine


@dataclass(frozen=True)
class _Job:
    """The descent for one task."""

    plan: MetagradientDescent
    study: Study
    codes: np.ndarray
    sizes: np.ndarray
    positions: np.ndarray  # of the targets
    episodes: np.ndarray | None  # of the same
    first: np.ndarray  # clusters of the first choice
    seed: int
    to: str | Path | None

    def path(self) -> Path | None:
        """Where the rounds are kept."""
        if self.to is None:
            return None
        parts = {
            "study": self.study.fingerprint,
            "plan": repr(self.plan),
            "codes": self.codes,
            "positions": self.positions,
            "episodes": "all" if self.episodes is None else self.episodes,
            "first": np.sort(self.first),
            "seed": self.seed,
        }
        return Path(self.to) / f"descent-{fingerprint(parts)[:20]}.npz"


def _descend(job: _Job) -> tuple[np.ndarray, list[float]]:
    """All clusters, the choice first, and the mean loss of each round."""
    plan, path = job.plan, job.path()
    chosen = np.zeros(len(job.sizes), dtype=bool)
    chosen[job.first] = True
    slope, losses = np.zeros(len(chosen)), np.empty(0)
    if path is not None and path.exists():
        chosen, slope, losses = read_rounds(path, ("chosen", "slope", "losses"), "descent")
    for number in range(len(losses), plan.rounds):
        slope, loss = _slope(job, chosen, number)
        most = max(1, round(plan.swapped * (1 - number / plan.rounds) * chosen.sum()))
        chosen, losses = _swapped(chosen, slope, most), np.append(losses, loss)
        if path is not None:
            write_rounds(path, {"chosen": chosen, "slope": slope, "losses": losses})
    return np.lexsort((slope, ~chosen)), losses.tolist()


def _slope(job: _Job, chosen: np.ndarray, number: int) -> tuple[np.ndarray, float]:
    """What each cluster would do to the loss if it took the place of a little of the choice; and the loss."""
    plan, n, total, losses = job.plan, job.study.n, np.zeros(len(chosen)), []
    rng = np.random.default_rng([job.seed, number, 0xDE5C])
    steps = np.flatnonzero(chosen[job.codes])
    study = joined(job.study) if plan.alpha else job.study
    for trial in range(plan.trials):
        trained, judges = steps, job.positions
        if job.episodes is not None:
            names = np.unique(job.episodes)
            held = np.isin(job.episodes, rng.choice(names, len(names) // 2, replace=False))
            judges = job.positions[held]
            share = round(len(steps) * plan.alpha / (1 - plan.alpha))
            trained = np.concatenate([steps, n + np.resize(job.positions[~held], share)])
        run = InjectedRun(
            study,
            trained,
            np.arange(n),
            steps=plan.steps,
            at=plan.at,
            seed=int(rng.integers(2**31)),
        )
        found = run.differentiate("loss", [judges.tolist()])
        by_step = found.gradient[0][:n]
        if not np.isfinite(by_step).all():
            raise InputError(
                f"the derivatives of round {number + 1}, trial {trial + 1} are not finite; lower the "
                "learning rate, or set eps_root of Adam."
            )
        total += np.bincount(job.codes, by_step - by_step[steps].mean())
        losses.append(float(found.outputs[0]))
    return total / plan.trials, float(np.mean(losses))


def _swapped(chosen: np.ndarray, slope: np.ndarray, most: int) -> np.ndarray:
    """The choice with at most so many of its worst in exchange for better ones."""
    inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    worst = inside[np.argsort(-slope[inside], kind="stable")[:most]]
    best = outside[np.argsort(slope[outside], kind="stable")[:most]]
    pairs = min(len(worst), len(best))
    worst, best = worst[:pairs], best[:pairs]
    better = slope[best] < slope[worst]
    after = chosen.copy()
    after[worst[better]], after[best[better]] = False, True
    return after
