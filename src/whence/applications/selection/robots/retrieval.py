"""Retrieval: choose the steps whose state, or whose next actions, look like those of a target
demonstration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.errors import InputError

_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class StateRetrieval(Selector):
    """Minus the distance of a step's observation, standardised over the candidates, to the nearest one of a
    target step."""

    name: str = "state retrieval"
    needs: ClassVar[tuple[str, ...]] = ("inputs",)

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) at most 0."""
        prior, targets = standardised(pool)
        return -nearest(prior, targets)


@dataclass(frozen=True, eq=False)
class ActionRetrieval(Selector):
    """Minus the distance of the next `horizon` actions of a step to the nearest ones of a target step.

    Parameters
    ----------
    episodes : the episode of each candidate ``(n,)``, `Demonstrations.episode_of`.
    target_episodes : the same for all targets of the study. The last actions of an episode are repeated.
    horizon : how many actions are compared.
    """

    episodes: np.ndarray = field(repr=False)
    target_episodes: np.ndarray = field(repr=False)
    horizon: int = 8
    name: str = "action retrieval"
    needs: ClassVar[tuple[str, ...]] = ("inputs",)

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) at most 0."""
        actions, wanted = answers(pool)
        episodes, target_episodes = check_episodes(pool, self.episodes, self.target_episodes)
        mine = chunks(actions, episodes, self.horizon)
        theirs = chunks(wanted, target_episodes, self.horizon)[pool.target_index]
        return -nearest(mine, theirs)


def standardised(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Observations of the candidates ``(n, d)`` and of the pool's targets ``(t, d)`` in units of their spread
    over the candidates; values that never vary count 0."""
    prior = np.asarray(pool.study.train_inputs, np.float32).reshape(pool.n, -1)
    targets = np.asarray(pool.study.target_inputs, np.float32)[pool.target_index].reshape(-1, prior.shape[1])
    centre, spread = prior.mean(0), prior.std(0)
    scale = np.where(spread > 1e-6, spread, np.inf)
    return (prior - centre) / scale, (targets - centre) / scale


def answers(pool: Pool) -> tuple[np.ndarray, np.ndarray]:
    """Actions of the candidates ``(n, a)`` and of all targets of the study."""
    mine, theirs = pool.study.train.answers, pool.study.targets.answers
    if mine is None or theirs is None or mine.ndim != 2:
        raise InputError(
            f"{pool.study!r} has no vectors of actions as answers; make the study with "
            "whence.study.robots.cloning_study."
        )
    return mine.astype(np.float32), theirs.astype(np.float32)


def check_episodes(pool: Pool, mine: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Episodes of the candidates and of all targets of the study, or an `InputError` about their number."""
    mine, theirs = np.asarray(mine), np.asarray(theirs)
    if mine.shape != (pool.n,) or theirs.shape != (len(pool.study.target_ids),):
        raise InputError(
            f"episodes must name the episode of each of {pool.n} candidates and target_episodes that of each "
            f"of {len(pool.study.target_ids)} targets, received shapes {mine.shape} and {theirs.shape}."
        )
    return mine, theirs


def chunks(values: np.ndarray, episodes: np.ndarray, horizon: int) -> np.ndarray:
    """``(n, horizon * a)``: each step's values and those of the steps after it, the episode's last
    repeated."""
    if horizon < 1:
        raise InputError(f"horizon must be at least 1 step, received {horizon}.")
    ends = np.flatnonzero(np.r_[np.diff(episodes) != 0, True])
    last = ends[np.searchsorted(ends, np.arange(len(episodes)))]
    index = np.minimum(np.arange(len(episodes))[:, None] + np.arange(horizon), last[:, None])
    return values[index].reshape(len(values), -1)


def nearest(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Euclidean distance ``(n,)`` of rows of `mine` (n, d) to the nearest of `theirs` (t, d)."""
    found = np.empty(len(mine))
    squares = np.square(theirs).sum(1)
    for start in range(0, len(mine), _BLOCK):
        part = mine[start : start + _BLOCK]
        distances = np.square(part).sum(1)[:, None] - 2 * part @ theirs.T + squares
        found[start : start + _BLOCK] = np.sqrt(np.maximum(distances.min(1), 0))
    return found
