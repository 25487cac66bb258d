"""Cluster effects by late-injection metagradients: DataMIL's estimator, as its release computes it.

Dass et al. 2026 (arXiv 2505.09603) on the count surrogate of Engstrom et al. 2025 (arXiv 2503.13751).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.applications.selection.robots.clusters import cluster_codes, target_positions
from whence.attribution import Attribution
from whence.errors import InputError
from whence.provenance import versions
from whence.training.injection import InjectedRun


@dataclass(frozen=True)
class LateInjection:
    """What a little of each cluster, injected late, would do to the targets' mean loss.

    In each trial a model is trained on the clusters that are included for `at` steps; then one step takes
    every step of a random `share` of all clusters at weight 0; then training goes on to `steps`. The
    derivative of the targets' loss by the weight z_c of cluster c, all its steps together, is taken back from
    the end to the injected step only. After each trial clusters of the lowest fifth of its derivatives come
    in and those of the highest fifth go out (`feedback`), so the base point moves towards data that help. A
    cluster's effect is its mean derivative over the trials in which it was injected.

    Parameters
    ----------
    trials : how many (50 in the release).
    steps, at : length of a run and where the injection is (1100 and 1000 in the release).
    share : of the clusters that are injected in a trial (0.5).
    feedback : quantile at either end that changes what is included after each trial; 0 trains on all clusters
        throughout.
    """

    trials: int = 50
    steps: int = 1100
    at: int = 1000
    share: float = 0.5
    feedback: float = 0.2
    memory: int = 2**31

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"trials must be at least 1, received {self.trials}.")
        if not 0 < self.at < self.steps:
            raise InputError(f"at={self.at} must lie between 1 and steps - 1 = {self.steps - 1}.")
        if not (0 < self.share <= 1 and 0 <= self.feedback < 0.5):
            raise InputError(
                f"share must lie in (0, 1] and feedback in [0, 0.5), received {self.share} and "
                f"{self.feedback}."
            )

    def attribute(
        self,
        study: Any,
        clusters: np.ndarray,
        targets: Sequence[Any] | None = None,
        name: str = "targets",
        seed: int = 0,
        among: Sequence[Any] | None = None,
    ) -> Attribution:
        """One row: the effect on the mean loss of the targets, shared out evenly over the steps of each
        cluster, so that the sum over a cluster is its derivative; 0 for clusters that were never injected.

        Parameters
        ----------
        study : of a Recipe with a loss of its own; its examples are steps.
        clusters : cluster id of each training example, ``(n,)``.
        targets : ids of targets whose mean loss is meant; default all.
        name : of the row.
        among : ids of those clusters that are looked at, the rest is neither trained on nor injected;
            default all.

        Raises
        ------
        InputError : an id in `among` that is no cluster's, or derivatives that are not finite.
        """
        codes, sizes = cluster_codes(study, clusters)
        positions = target_positions(study, targets)
        total, count = np.zeros(len(sizes)), np.zeros(len(sizes))
        known = np.unique(clusters)
        held = known if among is None else np.unique(among)
        if not len(held):
            raise InputError("among is empty; name at least one cluster by its id.")
        unknown = np.setdiff1d(held, known).tolist()
        if unknown:
            raise InputError(f"among names {unknown[0]!r}, which is no cluster's id.")
        pool = included = np.isin(known, held)
        losses = []
        for trial in range(self.trials):
            effects, loss = self._trial(study, codes, pool, included, positions, seed, trial)
            injected = np.isfinite(effects)
            total[injected] += effects[injected]
            count += injected
            losses.append(loss)
            included = self._next(included, effects)
        mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
        return Attribution(
            np.asarray((mean / sizes)[codes][None], np.float32),
            target_ids=[name],
            train_ids=study.train_ids,
            output="loss",
            units="derivative of the mean loss by weight",
            method="late-injection metagradient",
            provenance={
                "study": study.fingerprint,
                "method": repr(self),
                "versions": versions(),
                "seed": seed,
                "losses": losses,
            },
        )

    def _trial(
        self,
        study: Any,
        codes: np.ndarray,
        pool: np.ndarray,
        included: np.ndarray,
        positions: list[int],
        seed: int,
        trial: int,
    ) -> tuple[np.ndarray, float]:
        """Derivative by each cluster's weight, NaN where it was not injected, and the mean loss at the
        end."""
        rng = np.random.default_rng([seed, trial])
        chosen = np.zeros(len(pool), dtype=bool)
        drawn = rng.permutation(np.flatnonzero(pool))
        chosen[drawn[: max(1, round(self.share * len(drawn)))]] = True
        run = InjectedRun(
            study,
            np.flatnonzero(included[codes]),
            np.flatnonzero(chosen[codes]),
            steps=self.steps,
            at=self.at,
            seed=seed + trial,
        )
        found = run.differentiate("loss", [positions], self.memory)
        if not np.isfinite(found.gradient).all():
            raise InputError(
                f"the derivatives of trial {trial} are not finite; lower the learning rate, or set "
                "eps_root of Adam."
            )
        effects = np.bincount(codes, found.gradient[0], minlength=len(pool))
        return np.where(chosen, effects, np.nan), float(found.outputs[0])

    def _next(self, included: np.ndarray, effects: np.ndarray) -> np.ndarray:
        known = np.isfinite(effects) & (effects != 0)
        if not self.feedback or known.sum() < 5:
            return included
        low, high = np.quantile(effects[known], [self.feedback, 1 - self.feedback])
        changed = included.copy()
        changed[known & (effects <= low)] = True
        changed[known & (effects >= high)] = False
        return changed if changed.any() else included
