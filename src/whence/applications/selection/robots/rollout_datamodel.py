"""The rollout datamodel: effects of clusters on success itself, from policies trained near the choice.

DataMIL regresses a policy's true success rate on what it was trained on where rollouts are cheap, and the
loss on held-out demonstrations where they are not (Dass et al. 2026, arXiv 2505.09603). Success is the better
question and the noisier answer; what lets a few hundred policies answer it is `profiles`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.applications.selection.base import Selector, scores_of
from whence.applications.selection.pool import Pool
from whence.applications.selection.robots.clusters import cluster_codes, share_of, target_positions
from whence.applications.selection.robots.policies import Order, Policy, check_cloning, train_policies
from whence.applications.selection.robots.profiles import Profiles, best, knots, probe, ranks_of
from whence.applications.selection.robots.ranks import ranked
from whence.applications.selection.robots.rollouts import Trials, roll_out
from whence.applications.selection.robots.rounds import read_rounds, write_rounds
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.correlation import correlations
from whence.provenance import fingerprint
from whence.study import Study
from whence.study.robots.simulator import check_task

Success = Callable[[Sequence[Policy], str], Sequence[float]]


@dataclass(frozen=True)
class RolloutDatamodel:
    """What each cluster does to success, asked near the choice in rounds.

    The first `probes` policies are trained on choices in which, by the ranks of one of the rules, strata of
    near ranks are in or out at random. Then effects are fitted, and in each of `rounds` further rounds
    `models` policies are trained, each on what is best under effects drawn from their posterior (Thompson
    sampling), so that policies gather where the choice may be. All choices have the size that is asked for.

    Parameters
    ----------
    fraction : share of the clusters in a choice; choose as many from the attribution.
    probes, rounds, models : how many policies, see above.
    steps, alpha : of each policy, see `train_policies`: what holds for policies that are trained otherwise
        than the final ones can be wrong for these. A shorter training on smaller batches (a study with
        another `batch_size`) is cheaper; a much shorter one learns its demonstrations less by heart and needs
        other data.
    trials : the rollouts of each policy, from placements other than those that results are reported on.
    """

    fraction: float = 0.1
    probes: int = 80
    rounds: int = 2
    models: int = 32
    steps: int = 2000
    alpha: float = 0.5
    trials: Trials = Trials()

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(f"fraction must lie in (0, 1), received {self.fraction}.")
        if self.probes < 20 or self.rounds < 0 or self.models < 1 or self.steps < 1:
            raise InputError(
                f"probes={self.probes} must be at least 20, rounds={self.rounds} at least 0, "
                f"models={self.models} and steps={self.steps} at least 1."
            )
        if not 0 <= self.alpha < 1:
            raise InputError(f"alpha must lie in [0, 1), received {self.alpha}.")

    def attribute(
        self,
        study: Study,
        clusters: np.ndarray,
        tasks: Mapping[str, Sequence[Any]],
        guides: Selector | Sequence[Selector],
        *,
        success: Success | None = None,
        seed: int = 0,
        to: str | Path | None = None,
        processes: int = 1,
        progress: bool = True,
    ) -> Attribution:
        """A row for each task: ranks, -1/2 for the steps of the best cluster and up to 1/2 for the last, the
        same for all steps of a cluster; lower is better, as for a loss. Clusters are in the order of the
        posterior mean of their effect. The provenance says of each task how often each round's policies
        succeeded (`success`), how well the success of each is foretold from all others (`foretold`, a
        rank correlation), and what an episode at a rank of each guide does (`profiles`: a row for each guide
        at the ranks `knots`; success if the whole choice were such, above the mean).

        Parameters
        ----------
        study : see `whence.study.robots.cloning_study`.
        clusters : cluster id of each training example, ``(n,)``.
        tasks : name -> target ids. Names of MetaWorld tasks, unless `success` is given.
        guides : rules that rank the clusters for each task, by the mean score of their steps; they only say
            what is alike, so which end of a ranking is good is found out. An attribution is a rule by
            `Attributed.given`.
        success : a function of policies and a task's name that returns each policy's success in [0, 1], for
            robots and simulators of your own; by default rollouts in MetaWorld by `trials`.
        to : a folder in which each round is kept, so that a run that was stopped goes on with its round. Of
            `success` only the name is known there: when it changes, name another folder.
        processes : that train and roll out at once.

        Raises
        ------
        InputError : a study of no cloning, a choice of none or all clusters, no guide or task, no `metaworld`
            or no such task of it where it is needed, success outside [0, 1], a round in which all policies
            succeed alike.
        """
        check_cloning(study)
        codes, sizes = cluster_codes(study, clusters)
        count = share_of(self.fraction, len(sizes), "choose")
        guides = [guides] if isinstance(guides, Selector) else list(guides)
        if not tasks or not guides:
            raise InputError("name at least one task with its targets, and one rule in guides.")
        for guide in guides:
            if not isinstance(guide, Selector):
                raise InputError(
                    f"guides must be rules, received a {type(guide).__name__}; an attribution becomes one by "
                    "Attributed.given(attribution, name)."
                )
        if success is None:
            for task in tasks:  # before the first is trained for
                check_task(task)
        pool = Pool(study, groups=clusters)
        orders, told, foretold, profiles = [], {}, {}, {}
        for task, ids in tasks.items():
            scores = [scores_of(guide, pool.only(ids, task), seed) for guide in guides]
            ranks = ranks_of([np.bincount(codes, one) / sizes for one in scores])
            asked = _Asked(self, study, codes, task, np.array(target_positions(study, ids)), count, seed)
            masks, solved = asked.rounds(ranks, success, to, processes, progress)
            fit = Profiles(ranks, masks, solved)
            orders.append(np.argsort(-fit.mean(), kind="stable"))
            ends = np.cumsum([self.probes, *[self.models] * self.rounds])
            told[task] = [float(part.mean()) for part in np.split(solved, ends[:-1])]
            foretold[task] = float(correlations(fit.left_out()[:, None], solved[:, None])[0])
            profiles[task] = fit.functions().tolist()
        names = [guide.name for guide in guides]
        return ranked(
            study,
            codes,
            list(tasks),
            orders,
            f"rollout datamodel (guided by {', '.join(names)})",
            method=repr(self),
            seed=seed,
            guides=names,
            success=told,
            foretold=foretold,
            profiles=profiles,
            knots=knots(len(sizes), count).tolist(),
        )


@dataclass(frozen=True)
class _Asked:
    """The policies of one task."""

    plan: RolloutDatamodel
    study: Study
    codes: np.ndarray
    task: str
    positions: np.ndarray  # of the targets
    count: int
    seed: int

    def rounds(
        self,
        ranks: np.ndarray,
        success: Success | None,
        to: str | Path | None,
        processes: int,
        progress: bool,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choices ``(policies, clusters)`` and success ``(policies,)`` of all rounds."""
        plan, path = self.plan, self._path(ranks, success, to)
        masks, solved, done = np.zeros((0, ranks.shape[1]), dtype=bool), np.empty(0), np.array(0)
        if path is not None and path.exists():
            masks, solved, done = read_rounds(path, ("masks", "success", "rounds"), "rollout datamodel")
        for number in range(int(done), plan.rounds + 1):
            rng = np.random.default_rng([self.seed, number, 0x5CCE5])
            if number == 0:
                new = [probe(ranks, self.count, rng) for _ in range(plan.probes)]
            else:
                fit = Profiles(ranks, masks, solved)
                new = [best(fit.draw(rng), self.count) for _ in range(plan.models)]
            masks = np.concatenate([masks, new])
            solved = np.append(solved, self._judged(np.array(new), rng, success, processes, progress))
            if np.ptp(solved) == 0:
                raise InputError(
                    f"all {len(solved)} policies of {self.task!r} succeed in {solved[0]:.0%} of their "
                    f"trials, which tells no data from other; change steps={plan.steps} or the trials."
                )
            if path is not None:
                write_rounds(path, {"masks": masks, "success": solved, "rounds": np.array(number + 1)})
        return masks, solved

    def _judged(
        self,
        masks: np.ndarray,
        rng: np.random.Generator,
        success: Success | None,
        processes: int,
        progress: bool,
    ) -> np.ndarray:
        """Success of a policy trained on each of the choices."""
        plan = self.plan
        target = self.positions if plan.alpha else None
        orders = [
            Order(np.flatnonzero(mask[self.codes]), int(rng.integers(2**31)), target, plan.alpha)
            for mask in masks
        ]
        policies = train_policies(
            self.study, orders, steps=plan.steps, processes=processes, progress=progress
        )
        if success is None:
            found = roll_out(
                policies,
                [self.task] * len(policies),
                episodes=plan.trials.episodes,
                horizon=plan.trials.horizon,
                seed=plan.trials.seed,
                processes=processes,
                progress=progress,
            )
            return np.array([one.rate for one in found])
        given = np.asarray(success(policies, self.task), np.float64)
        if given.shape != (len(policies),) or not ((given >= 0) & (given <= 1)).all():
            raise InputError(
                f"success must return a share in [0, 1] for each of {len(policies)} policies, received shape "
                f"{given.shape}" + (f" from {given.min():g} to {given.max():g}." if given.size else ".")
            )
        return given

    def _path(self, ranks: np.ndarray, success: Success | None, to: str | Path | None) -> Path | None:
        """Where the rounds are kept."""
        if to is None:
            return None
        parts = {
            "study": self.study.fingerprint,
            "plan": repr(self.plan),
            "codes": self.codes,
            "task": self.task,
            "positions": self.positions,
            "ranks": ranks,
            "success": "MetaWorld" if success is None else getattr(success, "__qualname__", repr(success)),
            "seed": self.seed,
        }
        return Path(to) / f"rollouts-{fingerprint(parts)[:20]}.npz"
