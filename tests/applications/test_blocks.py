"""Groups in train x train weights: J as defined, local optima, planted blocks, heavy rows not mistaken."""

import itertools

import numpy as np
import pytest

from whence.applications.blocks import Blocks, doubling, objective, strongest_blocks
from whence.errors import InputError


def planted(n=300, block=30, shift=1.2, spread=0.2, seed=0):
    """Noise of standard deviation 1, rows with means of their own, and a block whose entries are larger."""
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(n, n)) + spread * rng.normal(size=(n, 1))
    inside = rng.choice(n, block, replace=False)
    w[np.ix_(inside, inside)] += shift
    return w.astype(np.float32), inside


def auroc(score, inside):
    truth = np.zeros(len(score), bool)
    truth[inside] = True
    above = score[truth][:, None] - score[~truth][None]
    return ((above > 0) + 0.5 * (above == 0)).mean()


def test_values_are_the_objective():
    w, _ = planted(60, 10)
    found = strongest_blocks(w, sizes=(5, 12), restarts=6)
    for s, k in enumerate(found.sizes):
        for members, value in zip(found.members[s], found.value[s], strict=True):
            assert members.sum() == k
            assert value == pytest.approx(objective(w, members), abs=1e-3)


def test_no_swap_of_a_worst_member_for_a_best_outsider_is_left():
    w, _ = planted(60, 10)
    found = strongest_blocks(w, sizes=(9,), restarts=8)
    off = w - np.diag(np.diag(w))
    price = off.sum(1) * 8 / 59
    for members in found.members[0]:
        gain = off[:, members].sum(1) + off[members].sum(0) - price
        worst = np.flatnonzero(members)[np.argsort(gain[members])[:8]]
        best = np.flatnonzero(~members)[np.argsort(-gain[~members])[:8]]
        value = objective(w, members)
        for drop, add in itertools.product(worst, best):
            other = members.copy()
            other[drop], other[add] = False, True
            assert objective(w, other) <= value + 1e-4


def test_small_problems_are_solved_exactly():
    for seed in range(5):
        w = np.random.default_rng(seed).normal(size=(12, 12))
        found = strongest_blocks(w, sizes=(4,), restarts=64, seed=seed)
        best = max(
            objective(w, np.isin(np.arange(12), chosen)) for chosen in itertools.combinations(range(12), 4)
        )
        assert found.value.max() == pytest.approx(best, rel=1e-6)


def test_planted_block_is_found_among_rows_of_different_means():
    w, inside = planted()
    found = strongest_blocks(w, restarts=16)
    assert auroc(found.score, inside) > 0.98
    assert len(np.intersect1d(found.best(40), inside)) == 30


@pytest.mark.parametrize("centre", ["rows", "both", "none"])
def test_values_are_the_objective_however_centred(centre):
    w, _ = planted(60, 10)
    found = strongest_blocks(w, sizes=(12,), restarts=4, centre=centre)
    for members, value in zip(found.members[0], found.value[0], strict=True):
        assert value == pytest.approx(objective(w, members, centre), abs=1e-3)


def test_rows_and_columns_of_any_mean_do_not_matter():
    w, inside = planted(120, 15, 1.6, spread=0)
    rng = np.random.default_rng(1)
    shifted = w + 3 * rng.normal(size=(120, 1)) + 3 * rng.normal(size=120)
    for k in (10, 15):
        members = np.isin(np.arange(120), inside[:k])
        assert objective(shifted, members, "both") == pytest.approx(objective(w, members, "both"), rel=0.05)
    found = strongest_blocks(shifted.astype(np.float32), sizes=(15,), restarts=16, centre="both")
    assert sorted(found.best(15)) == sorted(inside)


def test_diagonal_and_order_do_not_matter():
    w, inside = planted(120, 15, 1.6)
    found = strongest_blocks(w, sizes=(15,), restarts=16)
    assert sorted(found.best(15)) == sorted(inside)
    loud = w.copy()
    np.fill_diagonal(loud, 100)
    assert (strongest_blocks(loud, sizes=(15,), restarts=16).members == found.members).all()
    order = np.random.default_rng(2).permutation(120)
    again = strongest_blocks(w[np.ix_(order, order)], sizes=(15,), restarts=16)
    assert sorted(order[again.best(15)]) == sorted(inside)


def test_score_is_zero_by_chance():
    members = np.zeros((1, 10, 20), bool)
    for r in range(10):
        members[0, r, 2 * r : 2 * r + 2] = True
    assert np.allclose(Blocks(np.array([2]), members, np.zeros((1, 10))).score, 0)


def test_bad_input():
    assert doubling(200) == [10, 20, 40] and doubling(20) == [10] and doubling(80, share=0.5) == [10, 20, 40]
    for weight, options, words in (
        (np.zeros((3, 4)), {}, r"shape \(3, 4\)"),
        (np.zeros((30, 30)), {"sizes": (1,)}, r"sizes is \(1,\)"),
        (np.zeros((30, 30)), {"sizes": (30,)}, "from 2 to 29"),
        (np.zeros((30, 30)), {"restarts": 0}, "restarts is 0"),
        (np.zeros((30, 30)), {"centre": "columns"}, "centre is 'columns'"),
    ):
        with pytest.raises(InputError, match=words):
            strongest_blocks(weight, **options)
