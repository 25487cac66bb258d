"""Retrieval rules: distances by brute force, subsequence warping by brute force, good episodes first."""

import numpy as np
import pytest

from tests.applications.selection.robots.cloned import GOOD, cloned, pool
from tests.applications.selection.robots.cloned import targets as targets_
from whence.applications.selection import Pool, Random, scores_of, select
from whence.applications.selection.robots import (
    ActionRetrieval,
    BehaviorRetrieval,
    StateRetrieval,
    SubsequenceMatching,
)
from whence.applications.selection.robots.retrieval import chunks, nearest
from whence.applications.selection.robots.subsequence import match
from whence.errors import InputError


def made():
    prior, targets = pool(), targets_()
    return prior, targets, Pool(cloned(), groups=prior.clusters())


def test_the_nearest_is_found():
    rng = np.random.default_rng(0)
    mine, theirs = rng.normal(size=(50, 3)), rng.normal(size=(7, 3))
    brute = np.linalg.norm(mine[:, None] - theirs, axis=2).min(1)
    np.testing.assert_allclose(nearest(mine, theirs), brute, atol=1e-6)


def test_chunks_stop_at_the_end_of_an_episode():
    values, episodes = np.arange(5.0)[:, None], np.array([0, 0, 0, 1, 1])
    np.testing.assert_array_equal(
        chunks(values, episodes, 3), [[0, 1, 2], [1, 2, 2], [2, 2, 2], [3, 4, 4], [4, 4, 4]]
    )


def brute(distances, length):
    """The cheapest path through all rows with steps right, up or both, from any start to any end."""
    rows = len(distances)
    best = {}

    def walk(row, step):
        if (row, step) not in best:
            before = [] if row else [(0.0, step)]
            for r, s in ((row - 1, step), (row - 1, step - 1), (row, step - 1)):
                if r >= 0 and s >= 0 and not (row == 0 and r == 0):
                    before.append(walk(r, s))
            cost, start = min(before, key=lambda item: item[0])
            best[row, step] = cost + distances[row, step], start
        return best[row, step]

    return min(walk(rows - 1, step)[0] for step in range(length))


def test_warping_is_the_cheapest_path():
    rng = np.random.default_rng(1)
    lengths = np.array([4, 7, 1])
    distances = rng.uniform(size=(5, 3, 7))
    for episode, length in enumerate(lengths):
        distances[:, episode, length:] = np.inf
    cost, first, last = match(distances, lengths)
    for episode, length in enumerate(lengths):
        assert cost[episode] == pytest.approx(brute(distances[:, episode], length))
    assert (first <= last).all() and (last < lengths).all()


def test_a_piece_is_found_where_it_lies():
    rng = np.random.default_rng(2)
    long = rng.normal(size=(30, 2))
    piece = long[11:17]
    distances = np.linalg.norm(piece[:, None, None] - long[None, None], axis=3)
    cost, first, last = match(distances, np.array([30]))
    assert cost[0] == 0 and (first[0], last[0]) == (11, 16)


def test_every_rule_scores_every_step_and_prefers_good_episodes():
    prior, targets, candidates = made()
    episodes = prior.episode_of, targets.episode_of
    rules = {
        StateRetrieval(): 0.0,
        ActionRetrieval(*episodes, horizon=4): 0.0,
        BehaviorRetrieval(steps=300, latent=4, width=32): 0.5,
        SubsequenceMatching(*episodes, length=4): 0.0,
    }
    for rule, least in rules.items():
        scores = scores_of(rule, candidates)
        assert scores.shape == (prior.steps,) and scores.max() <= 0
        np.testing.assert_array_equal(scores, scores_of(rule, candidates))
        kept = select(scores, count=GOOD, groups=prior.clusters())
        share = np.mean(prior.sources[np.unique(prior.episode_of[kept])] == "expert")
        assert share >= least, rule.name
    assert len({rule.name for rule in rules}) == 4


def test_a_target_s_own_state_is_the_nearest():
    prior, targets, candidates = made()
    scores = StateRetrieval().scores(candidates)
    spread = prior.observations.std(0)
    for step in (0, 17):
        gaps = np.linalg.norm((prior.observations[step] - targets.observations) / spread, axis=1)
        assert scores[step] == pytest.approx(-gaps.min(), rel=1e-3)


def test_chance_takes_clusters_whole_and_long_ones_as_often():
    candidates = Pool(
        cloned(), groups=np.r_[np.zeros(1), np.ones(200), np.full(cloned().n - 201, 2)].astype(int)
    )
    best = [int(candidates.groups[Random().scores(candidates, seed).argmax()]) for seed in range(300)]
    assert min(np.bincount(best, minlength=3)) > 70


def test_what_cannot_be_compared_is_refused():
    prior, targets, candidates = made()
    with pytest.raises(InputError, match="episodes must name the episode of each"):
        ActionRetrieval(prior.episode_of[1:], targets.episode_of).scores(candidates)
    with pytest.raises(InputError, match="horizon must be at least 1"):
        ActionRetrieval(prior.episode_of, targets.episode_of, horizon=0).scores(candidates)
    with pytest.raises(InputError, match="length must be at least 1"):
        SubsequenceMatching(prior.episode_of, targets.episode_of, length=0)
    from tests.training.studies import study

    with pytest.raises(InputError, match="no vectors of actions"):
        BehaviorRetrieval().scores(Pool(study()))
