"""Demonstrations: their parts fit together, clusters of unequal length, what cannot be is refused."""

import numpy as np
import pytest

from tests.study.robots.made import driven
from whence.errors import InputError
from whence.study.robots import Demonstrations


def test_steps_know_their_episode():
    d = driven(4)
    assert d.steps == d.lengths.sum() == len(d.observations) and d.episodes == 4
    np.testing.assert_array_equal(np.bincount(d.episode_of), d.lengths)
    np.testing.assert_array_equal(d.step_of[d.starts], 0)
    np.testing.assert_array_equal(d.steps_of([1, 3]), np.flatnonzero(np.isin(d.episode_of, [1, 3])))


def test_some_episodes_are_taken_whole():
    d = Demonstrations.concatenate([driven(3, "a"), driven(2, "b", seed=1, source="noisy")])
    some = d.take(np.array([False, True, False, True, False]))
    assert some.episodes == 2 and list(some.tasks) == ["a", "b"] and list(some.sources) == ["expert", "noisy"]
    np.testing.assert_array_equal(some.observations, d.observations[d.steps_of([1, 3])])
    np.testing.assert_array_equal(d.of_task("b").actions, driven(2, "b", seed=1).actions)


@pytest.mark.parametrize("length", [1, 4, 5, 1000])
def test_clusters_are_pieces_of_one_episode(length):
    d = driven(5)
    clusters = d.clusters(length)
    sizes = np.bincount(clusters)
    assert (np.diff(clusters) >= 0).all() and sizes.min() >= 1 and sizes.max() <= length
    assert len(sizes) == (-(-d.lengths // length)).sum()
    for cluster in range(len(sizes)):
        assert len(set(d.episode_of[clusters == cluster].tolist())) == 1
    np.testing.assert_array_equal(d.clusters(), d.episode_of)


def test_a_file_gives_back_what_was_saved(tmp_path):
    from whence.study.robots import read

    d = driven(3)
    d.save(tmp_path / "some.npz")
    again = read(tmp_path / "some.npz")
    for name in ("observations", "actions", "lengths", "tasks", "sources"):
        np.testing.assert_array_equal(getattr(again, name), getattr(d, name))
    assert again.success is None and again.rewards is None


def parts(**changed):
    good = {
        "observations": np.zeros((5, 3)),
        "actions": np.zeros((5, 2)),
        "lengths": np.array([2, 3]),
        "tasks": np.array(["a", "b"]),
    }
    return good | changed


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lengths": np.array([2, 4])}, "observations must have 2 dimensions and one entry for each step, 6"),
        ({"lengths": np.array([5, 0])}, "at least 1 for each"),
        ({"lengths": np.array([2.0, 3.0])}, "whole numbers"),
        ({"actions": np.zeros(5)}, "actions must have 2 dimensions"),
        ({"tasks": np.array(["a"])}, "tasks must have 1 dimension and one entry for each episode, 2"),
        ({"rewards": np.array([0, 1, np.nan, 0, 0])}, "rewards hold NaN or infinite values, first in step 2"),
        ({"observations": np.full((5, 3), np.inf)}, "first in step 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changed, words):
    with pytest.raises(InputError, match=words):
        Demonstrations(**parts(**changed))


def test_other_sizes_are_refused():
    with pytest.raises(InputError, match="observations of size 3 and actions of size 2, where 4 and 2"):
        Demonstrations.concatenate([driven(2), Demonstrations(**parts())])
    with pytest.raises(InputError, match="no episode of 'c'; tasks are reach"):
        driven(2).of_task("c")
    with pytest.raises(InputError, match="no episode was chosen"):
        driven(2).take([])
