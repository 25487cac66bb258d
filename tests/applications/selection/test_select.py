"""Exact counts, budgets, thresholds, groups of unequal length, ties, duplicates; bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.applications.selection import duplicate_rate, select
from whence.errors import InputError

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=50)


@pytest.mark.parametrize("fraction, count", [(0.1, 5), (0.11, 6), (0.5, 25), (1.0, 50), (0.001, 1)])
def test_a_fraction_is_exactly_so_many(fraction, count):
    chosen = select(SCORES, fraction=fraction)
    assert len(chosen) == count
    assert set(chosen) == set(np.argsort(-SCORES)[:count]) and (np.diff(chosen) > 0).all()


def test_equal_scores_neither_add_candidates_nor_favour_the_first():
    # a threshold at the k-th score would keep all that are equal to it
    scores = np.zeros(1000)
    assert len(select(scores, count=100)) == 100
    chosen = select(scores, count=100, seed=3)
    assert 350 < chosen.mean() < 650 and not np.array_equal(chosen, select(scores, count=100, seed=4))
    np.testing.assert_array_equal(chosen, select(scores, count=100, seed=3))


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=30), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_what_is_taken_is_never_worse_than_what_is_left(scores, count, seed):
    scores = np.array(scores)
    count = min(count, len(scores))
    chosen = select(scores, count=count, seed=seed)
    left = np.setdiff1d(np.arange(len(scores)), chosen)
    assert len(chosen) == count
    assert not len(left) or scores[chosen].min() >= scores[left].max()
    worst = select(scores, count=count, seed=seed, worst=True)
    np.testing.assert_array_equal(worst, select(-scores, count=count, seed=seed))


def test_positive_scale_and_order_of_candidates_do_not_matter():
    order = RNG.permutation(50)
    first = select(SCORES, count=12)
    np.testing.assert_array_equal(first, select(1e-9 * SCORES + 7e-8, count=12))
    assert set(order[select(SCORES[order], count=12)]) == set(first)


def test_a_budget_takes_the_longest_head_that_fits():
    sizes = np.r_[3.0, 5.0, 4.0, 1.0, 1.0]
    scores = np.r_[5.0, 4.0, 3.0, 2.0, 1.0]
    np.testing.assert_array_equal(select(scores, budget=8, sizes=sizes), [0, 1])
    np.testing.assert_array_equal(select(scores, budget=11.9, sizes=sizes), [0, 1])  # the next one has 4
    np.testing.assert_array_equal(select(scores, budget=14, sizes=sizes), range(5))
    np.testing.assert_array_equal(select(scores, budget=6, sizes=sizes, worst=True), [2, 3, 4])
    with pytest.raises(InputError, match="14 in all, less than the budget of 15"):
        select(scores, budget=15, sizes=sizes)
    with pytest.raises(InputError, match="first candidate alone has 3"):
        select(scores, budget=2, sizes=sizes)


def test_budgets_of_fractions_survive_rounding():
    sizes = np.full(30, 0.1)
    assert len(select(SCORES[:30], budget=0.3 * sizes.sum(), sizes=sizes)) == 9
    assert len(select(SCORES[:30], budget=1.0 * sizes.sum(), sizes=sizes)) == 30


def test_a_threshold_keeps_all_that_reach_it():
    np.testing.assert_array_equal(select([1.0, 3.0, 2.0, 3.0], threshold=2), [1, 2, 3])
    np.testing.assert_array_equal(select([1.0, 3.0, 2.0, 3.0], threshold=2, worst=True), [0, 2])
    with pytest.raises(InputError, match="no candidate reaches the threshold 9"):
        select([1.0, 3.0], threshold=9)


def test_behind_the_head_the_choice_is_drawn_at_random():
    best = set(np.argsort(-SCORES)[:5])
    draws = [set(select(SCORES, fraction=0.4, head=0.1, seed=seed)) for seed in range(200)]
    assert all(len(draw) == 20 and best < draw for draw in draws)
    rest = np.bincount([i for draw in draws for i in draw], minlength=50)[np.argsort(-SCORES)[5:]]
    # each of the other 45 with probability 15/45: within four standard deviations
    assert abs(rest - 200 / 3).max() < 4 * np.sqrt(200 * 1 / 3 * 2 / 3)
    np.testing.assert_array_equal(select(SCORES, count=20, head=1.0), select(SCORES, count=20))
    np.testing.assert_array_equal(select(SCORES, count=3, head=0.1), select(SCORES, count=3))
    worst = set(np.argsort(SCORES)[:5])
    assert worst < set(select(SCORES, count=20, head=0.1, worst=True))
    groups = np.repeat(np.arange(10), 5)
    chosen = select(SCORES, count=4, groups=groups, head=0.1, seed=1)
    assert len(chosen) == 20 and np.argmax(SCORES.reshape(10, 5).mean(1)) in groups[chosen]
    sizes = np.arange(1.0, 51)
    assert sizes[select(SCORES, budget=300, sizes=sizes, head=0.1)].sum() <= 300


@pytest.mark.parametrize("head", [0, -0.1, 1.5, float("nan")])
def test_a_head_is_a_share(head):
    with pytest.raises(InputError, match="head must be a share"):
        select(SCORES, count=3, head=head)
    with pytest.raises(InputError, match="which threshold=0 does not say"):
        select(SCORES, threshold=0, head=0.1)


def test_groups_are_chosen_whole_and_counted_as_groups():
    groups = np.repeat(["a", "b", "c", "d"], [2, 3, 1, 4])
    scores = np.repeat([0.1, 0.4, 0.9, 0.2], [2, 3, 1, 4])
    np.testing.assert_array_equal(select(scores, count=2, groups=groups), [2, 3, 4, 5])
    np.testing.assert_array_equal(select(scores, fraction=0.25, groups=groups), [5])
    # steps of a trajectory need not stand together
    mixed = np.array(["a", "b", "a", "b"])
    np.testing.assert_array_equal(select([1.0, 3.0, 2.0, 0.5], count=1, groups=mixed), [1, 3])


def test_long_groups_win_by_their_sum_and_not_by_their_mean():
    # ten steps of 0.2 each do more together than two of 0.5, and less each
    groups, scores = np.repeat([0, 1], [10, 2]), np.repeat([0.2, 0.5], [10, 2])
    assert len(select(scores, count=1, groups=groups, reduce="sum")) == 10
    assert len(select(scores, count=1, groups=groups, reduce="mean")) == 2
    # the mean is per unit of size: a step that counts for twenty is as long as it
    sizes = np.r_[np.ones(10), 20, 20]
    assert len(select(scores, count=1, groups=groups, sizes=sizes)) == 10
    equal = np.repeat([0, 1], 6)
    for reduce in ("sum", "mean"):
        np.testing.assert_array_equal(
            select(SCORES[:12], count=1, groups=equal),
            select(SCORES[:12], count=1, groups=equal, reduce=reduce),
        )


def test_a_budget_in_steps_counts_whole_groups():
    groups, scores = np.repeat([0, 1, 2], [4, 3, 5]), np.repeat([3.0, 2.0, 1.0], [4, 3, 5])
    np.testing.assert_array_equal(select(scores, budget=8, groups=groups), range(7))


def test_duplicates_are_passed_over():
    labels = np.array([0, 0, 0, 1, 2])
    scores = np.array([5.0, 4.0, 3.0, 2.0, 1.0])
    np.testing.assert_array_equal(select(scores, count=3, duplicates=labels), [0, 3, 4])
    np.testing.assert_array_equal(select(scores, count=3, duplicates=labels, most=2), [0, 1, 3])
    with pytest.raises(InputError, match="4 were asked for, but the pool has 3 distinct candidates"):
        select(scores, count=4, duplicates=labels)
    assert duplicate_rate(labels, np.arange(3)) == pytest.approx(2 / 3)
    assert duplicate_rate(labels, np.array([0, 3, 4])) == 0


@pytest.mark.parametrize(
    "how, words",
    [
        ({}, "exactly one of fraction, count, budget, threshold; received none"),
        ({"count": 1, "budget": 2}, "received count, budget"),
        ({"fraction": 0.0}, "fraction must lie above 0"),
        ({"fraction": 1.1}, "at most 1"),
        ({"count": 0}, "count must be a whole number"),
        ({"count": 2.5}, "count must be a whole number"),
        ({"count": 51}, "51 were asked for, but the pool has 50 candidates"),
        ({"budget": -1}, "budget must be positive"),
        ({"count": 1, "sizes": np.zeros(50)}, "not positive"),
        ({"count": 1, "sizes": np.ones(3)}, "sizes must be 50 positive numbers"),
        ({"count": 1, "groups": [1, 2]}, "groups must have one label"),
        ({"count": 1, "duplicates": [1, 2]}, "duplicates must have one label"),
        ({"count": 1, "reduce": "max"}, 'reduce must be "mean" or "sum"'),
        ({"count": 1, "most": 0}, "most must be at least 1"),
    ],
)
def test_bad_requests(how, words):
    with pytest.raises(InputError, match=words):
        select(SCORES, **how)


def test_scores_must_be_finite():
    with pytest.raises(InputError, match=r"2 values that are not finite, the first for candidate number 1"):
        select([1.0, np.nan, np.inf], count=1)
    with pytest.raises(InputError, match="shape"):
        select(np.zeros((3, 2)), count=1)
