"""Subsequence matching: choose the pieces of trajectories that warp onto a piece of a target demonstration.

STRAP (Memmel et al. 2025, arXiv 2412.15182) cuts target demonstrations into pieces and finds, by dynamic time
warping with free ends, the best match of each in every trajectory. Its features are of a vision model; here
they are standardised observations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.applications.selection.robots.retrieval import check_episodes, nearest, standardised
from whence.errors import InputError


@dataclass(frozen=True, eq=False)
class SubsequenceMatching(Selector):
    """Minus the lowest cost, for each step of the piece that is matched, of the matches that a step is part
    of; steps of no match come after all that are, by their distance to the targets.

    Parameters
    ----------
    episodes : the episode of each candidate ``(n,)``, `Demonstrations.episode_of`.
    target_episodes : the same for all targets of the study.
    length : steps of a piece; the last of an episode is the longer for what is left.
    """

    episodes: np.ndarray = field(repr=False)
    target_episodes: np.ndarray = field(repr=False)
    length: int = 20
    name: str = "subsequence DTW"
    needs: ClassVar[tuple[str, ...]] = ("inputs",)

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InputError(f"length must be at least 1 step, received {self.length}.")

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) at most 0."""
        prior, targets = standardised(pool)
        episodes, target_episodes = check_episodes(pool, self.episodes, self.target_episodes)
        starts = np.flatnonzero(np.r_[True, np.diff(episodes) != 0])
        lengths = np.diff(np.r_[starts, pool.n])
        best = np.full(pool.n, np.inf)
        for piece in self._pieces(targets, target_episodes[pool.target_index]):
            distances = _distances(piece, prior, starts, lengths)
            cost, first, last = match(distances, lengths)
            for episode in range(len(starts)):
                part = slice(starts[episode] + first[episode], starts[episode] + last[episode] + 1)
                best[part] = np.minimum(best[part], cost[episode] / len(piece))
        unmatched = ~np.isfinite(best)
        if unmatched.any():
            floor = best[~unmatched].max() if (~unmatched).any() else 0.0
            best[unmatched] = floor + nearest(prior[unmatched], targets)
        return -best

    def _pieces(self, targets: np.ndarray, episodes: np.ndarray) -> list[np.ndarray]:
        found = []
        for episode in dict.fromkeys(episodes.tolist()):
            steps = targets[episodes == episode]
            count = max(1, len(steps) // self.length)
            cuts = [self.length * k for k in range(1, count)]
            found += np.split(steps, cuts)
        return found


def _distances(piece: np.ndarray, prior: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Distances ``(rows of the piece, episodes, longest)``, infinite beyond the end of an episode."""
    squares = np.square(prior).sum(1)[:, None] - 2 * prior @ piece.T + np.square(piece).sum(1)
    each = np.sqrt(np.maximum(squares, 0))
    found = np.full((len(piece), len(starts), int(lengths.max())), np.inf)
    episode = np.repeat(np.arange(len(starts)), lengths)
    step = np.arange(len(prior)) - np.repeat(starts, lengths)
    found[:, episode, step] = each.T
    return found


def match(distances: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Dynamic time warping of a whole piece onto any part of each episode.

    Parameters
    ----------
    distances : ``(rows, episodes, longest)``; lengths : ``(episodes,)``.

    Returns
    -------
    Cost of the best warping path, and the first and the last step it takes, ``(episodes,)`` each.
    """
    rows, episodes, longest = distances.shape
    cost = distances[0].copy()  # a piece may start anywhere
    begin = np.broadcast_to(np.arange(longest), (episodes, longest)).copy()
    for row in range(1, rows):
        above, start_above = cost, begin
        cost, begin = np.empty_like(above), np.empty_like(start_above)
        left = np.full(episodes, np.inf)
        start_left = np.zeros(episodes, dtype=begin.dtype)
        for step in range(longest):
            choices = [above[:, step], left]
            starts = [start_above[:, step], start_left]
            if step:
                choices.append(above[:, step - 1])
                starts.append(start_above[:, step - 1])
            stacked = np.stack(choices)
            which = stacked.argmin(0)
            left = distances[row, :, step] + np.take_along_axis(stacked, which[None], 0)[0]
            start_left = np.take_along_axis(np.stack(starts), which[None], 0)[0]
            cost[:, step], begin[:, step] = left, start_left
    last = cost.argmin(1)
    each = np.arange(episodes)
    return cost[each, last], begin[each, last], last
