"""Cluster effects near the choice: guided regressions on random halves of fewer and fewer clusters.

A datamodel holds near the sets that it was fitted on (Ilyas et al. 2022, arXiv 2202.00622). Random tenths of
a mixed pool hold an episode or two of the target's own task, and there any episode of it helps, also one for
a wrong goal; among twenty good ones it hurts. So what a regression on the whole pool ranks first is looked at
again, with metagradients there and policies trained on halves of it, then of the better half, and so on.
DataMIL's metagradient moves its base point to the same end (Dass et al. 2026, arXiv 2505.09603).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.applications.selection.robots.clusters import cluster_codes, target_positions, target_steps
from whence.applications.selection.robots.late_injection import LateInjection
from whence.applications.selection.robots.policies import Order, check_cloning, train_policies
from whence.applications.selection.robots.ranks import best_first, ranked
from whence.applications.selection.robots.regression import guided_weights
from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.guided import aligned, as_priors
from whence.methods.regression import ridge
from whence.provenance import fingerprint
from whence.study import Study
from whence.study.robots import Demonstrations

_FEWEST = 4  # clusters in a round: fewer have no halves worth telling apart


@dataclass(frozen=True)
class Narrowing:
    """Look again at what an attribution ranks first, in rounds.

    In each round `models` policies are trained on random halves of the candidate clusters, for `steps` steps,
    and the targets' mean loss is regressed on which clusters were there, guided by the effects of the round
    before (at first by those of the attribution), by the metagradient of a policy trained on all candidates,
    and by what else is given. The better half are the candidates of the next round.

    Parameters
    ----------
    candidates : share of all clusters that the first round looks at.
    rounds : how many at most; they end where fewer than four clusters would be left.
    models : policies of a round.
    steps : of each policy. Short ones are enough to tell what the long ones of a comparison would do.
    injection : the metagradient of each round, by default of all candidates in eight trials; that one round's
        base point stays at the candidates takes ``feedback=0``.
    """

    candidates: float = 0.1
    rounds: int = 4
    models: int = 128
    steps: int = 400
    injection: LateInjection = LateInjection(trials=8, steps=400, at=330, share=1.0, feedback=0.0)

    def __post_init__(self) -> None:
        if not 0 < self.candidates <= 1:
            raise InputError(f"candidates must be a share in (0, 1], received {self.candidates}.")
        if self.rounds < 1 or self.steps < 1 or self.models < 20:
            raise InputError(
                f"rounds={self.rounds} and steps={self.steps} must be at least 1, models={self.models} at "
                "least 20."
            )

    def attribute(
        self,
        study: Study,
        clusters: np.ndarray,
        tasks: Mapping[str, Sequence[Any]],
        first: Attribution,
        *,
        prior: Attribution | Sequence[Attribution] | None = None,
        seed: int = 0,
        to: str | Path | None = None,
        processes: int = 1,
        progress: bool = True,
    ) -> Attribution:
        """A row for each task: ranks, -1/2 for the steps of the best cluster and up to 1/2 for the last, the
        same for all steps of a cluster; lower is better, as for a loss. Clusters that leave in a later round
        come before those that left earlier, in the order of their effect in their last round; those that
        were never looked at keep the order of `first` (its mean over steps) behind them.

        Parameters
        ----------
        study : see `whence.study.robots.cloning_study`.
        clusters : cluster id of each training example, ``(n,)``.
        tasks : name -> target ids whose mean loss is meant.
        first : an attribution with a row for each task, as of `cluster_regression`; of an output of which
            less is better (a loss) or more, as it says.
        prior : further cheap attributions with a row for each task that guide every round, say of retrieval
            rules by `rule_prior`; scale and sign do not matter.
        to : a folder for the policies and metagradients; what is there is not made again.
        processes : that train at once.

        Raises
        ------
        InputError : a study of no cloning, fewer than four candidates, an attribution that lacks a task or a
            training example, policies that diverge.
        """
        check_cloning(study)
        codes, sizes = cluster_codes(study, clusters)
        count = round(self.candidates * len(sizes))
        if count < _FEWEST:
            raise InputError(
                f"candidates={self.candidates:g} of {len(sizes)} clusters are {count}, but at least "
                f"{_FEWEST} are needed; pass more of them."
            )
        if not tasks:
            raise InputError("tasks is empty; name at least one task and its targets.")
        given = [first, *([] if prior is None else as_priors(prior))]
        known = [aligned(one, list(tasks), study.train_ids.tolist(), "task").numpy() for one in given]
        targets = {task: target_steps(study, ids, task) for task, ids in tasks.items()}
        orders, told = [], {}
        for i, task in enumerate(tasks):
            judged = _Judge(study, clusters, tasks[task], targets[task], self, seed, to, processes, progress)
            guides = [
                _of_clusters(one[i], codes, sizes, ranks=way.units == "rank")
                for one, way in zip(known, given, strict=True)
            ]
            order, losses = self._narrowed(
                judged, best_first(first, known[0][i], codes, sizes), guides, count
            )
            orders.append(order)
            told[task] = losses
        return ranked(
            study,
            codes,
            list(tasks),
            orders,
            f"narrowed ({first.method or 'an attribution'})",
            method=repr(self),
            seed=seed,
            first=first.method,
            prior=[one.method for one in given[1:]],
            losses=told,
        )

    def _narrowed(
        self,
        judged: _Judge,
        order: np.ndarray,
        guides: Sequence[np.ndarray],
        count: int,
    ) -> tuple[np.ndarray, list[float]]:
        """All clusters, best first, and the mean loss of each round's policies; the first of the guides is
        replaced by what each round finds."""
        effects, losses = guides[0].copy(), []
        for number in range(self.rounds):
            if count < _FEWEST:
                break
            held = np.sort(order[:count])
            masks, outputs = judged(held, number)
            losses.append(float(outputs.mean()))
            near = [effects[held], judged.gradient(held, number), *(one[held] for one in guides[1:])]
            effects[held] = _fitted(masks, outputs, near)
            order[:count] = held[np.argsort(effects[held], kind="stable")]
            count //= 2
        return order, losses


def _fitted(masks: np.ndarray, outputs: np.ndarray, guides: Sequence[np.ndarray]) -> np.ndarray:
    """Effects: all sets of a round are of one size, so each is that of taking one cluster for another."""
    design, y = masks.astype(np.float64), outputs[:, None]
    telling = [(one - one.mean())[None] for one in guides if np.ptp(one) > 0]
    return guided_weights(design, y, telling)[0][0] if telling else ridge(design, y).weight[0]


_APART = 1000  # between the seeds of the metagradients of two rounds


def _of_clusters(row: np.ndarray, codes: np.ndarray, sizes: np.ndarray, *, ranks: bool) -> np.ndarray:
    """What is said of each cluster: amounts add up over its steps, ranks do not."""
    sums = np.bincount(codes, row)
    return sums / sizes if ranks else sums


@dataclass(frozen=True)
class _Judge:
    """What policies on some of the clusters say of these: the targets' mean loss of a round's policies, and
    its metagradient."""

    study: Study
    clusters: np.ndarray
    ids: Sequence[Any]
    targets: Demonstrations
    plan: Narrowing
    seed: int
    to: str | Path | None
    processes: int
    progress: bool

    def __call__(self, held: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Masks over the clusters `held` ``(models, k)`` and losses ``(models,)``."""
        rng, codes = np.random.default_rng([self.seed, number, 0x4A110]), self.codes
        masks = np.zeros((self.plan.models, len(held)), dtype=bool)
        for mask in masks:
            mask[rng.choice(len(held), len(held) // 2, replace=False)] = True
        orders = [
            Order(np.flatnonzero(np.isin(codes, held[mask])), int(rng.integers(2**31))) for mask in masks
        ]
        policies = train_policies(
            self.study,
            orders,
            steps=self.plan.steps,
            to=self.to,
            processes=self.processes,
            progress=self.progress,
        )
        losses = np.array([policy.mean_loss(self.targets) for policy in policies])
        if not np.isfinite(losses).all():
            lost = int((~np.isfinite(losses)).sum())
            raise InputError(
                f"{lost} of {len(losses)} policies of round {number + 1} have no finite loss on the targets; "
                "lower the learning rate, or bound the loss's deviation from below."
            )
        return masks, losses

    def gradient(self, held: np.ndarray, number: int) -> np.ndarray:
        """The derivative by each of the clusters `held`, at a policy trained on all of them ``(k,)``."""
        parts = {
            "study": self.study.fingerprint,
            "codes": self.codes,
            "held": held,
            "targets": np.asarray(target_positions(self.study, self.ids)),
            "injection": repr(self.plan.injection),
            "seed": self.seed + _APART * number,
        }
        path = None if self.to is None else Path(self.to) / f"gradient-{fingerprint(parts)[:20]}.npy"
        if path is not None and path.exists():
            return np.load(path, allow_pickle=False)
        found = self.plan.injection.attribute(
            self.study,
            self.clusters,
            self.ids,
            seed=self.seed + _APART * number,
            among=np.unique(self.clusters)[held],
        )
        gradient = np.bincount(self.codes, found.weight[0])[held]
        if path is not None:
            unfinished = path.with_suffix(".part.npy")
            np.save(unfinished, gradient)
            unfinished.rename(path)
        return gradient

    @property
    def codes(self) -> np.ndarray:
        return cluster_codes(self.study, self.clusters)[0]
