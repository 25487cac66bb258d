"""Masks, plans and parts: sizes and marginals, regeneration from an index, growth, bad input."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.errors import InputError
from whence.subsets import PARTS, Plan, Subsets, pack, unpack

LABELS = np.repeat([0, 1, 2], [20, 30, 50])
GROUPS = np.repeat(np.arange(25), 4)


def designs():
    return {
        "uniform": Subsets.uniform(100, 0.3, seed=5),
        "bernoulli": Subsets.bernoulli(100, 0.3, seed=5),
        "stratified": Subsets.stratified(LABELS, 0.3, seed=5),
        "grouped": Subsets.grouped(GROUPS, 0.4, seed=5),
        "correlated": Subsets.correlated(100, 0.3, rho=0.5, seed=5),
        "leaving_out": Subsets.leaving_out(100, [[], [1, 2], range(50)]),
        "given": Subsets.given(np.arange(300).reshape(3, 100) % 7 < 3),
    }


# A library upgrade that changed these would make every stored bank unverifiable.
GOLDEN = {
    "uniform": "4e9e9ccb115a9d45",
    "bernoulli": "245b76848b918b6b",
    "stratified": "69a12077a437ac7f",
    "grouped": "a78333dc21888270",
    "correlated": "34f5a8a53bc5c3de",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_masks_are_what_they_were_when_first_written(name):
    digest = hashlib.sha256(pack(designs()[name].masks(range(10))).tobytes()).hexdigest()[:16]
    assert digest == GOLDEN[name]


@pytest.mark.parametrize("name", list(designs()))
def test_a_mask_depends_on_its_index_alone_and_survives_its_description(name):
    subsets = designs()[name]
    count = subsets.count or 8
    together = subsets.masks(range(count))
    again = Subsets.from_spec(subsets.spec())
    for i in reversed(range(count)):
        np.testing.assert_array_equal(again.mask(i), together[i])
    if name != "leaving_out":
        assert len(np.unique(together, axis=0)) == count


@pytest.mark.parametrize("name", list(designs()))
def test_equal_streams_are_equal_and_their_description_is_json(name):
    subsets = designs()[name]
    assert Subsets.from_spec(json.loads(json.dumps(subsets.spec()))) == subsets
    assert len({subsets, Subsets.from_spec(subsets.spec()), Subsets.uniform(7)}) == 2
    assert Plan(subsets) == Plan(designs()[name])
    assert Plan(subsets) != Plan(subsets, seeds=2)


def test_numbers_of_numpy_are_plain_in_the_description():
    subsets = Subsets.uniform(np.int64(10), np.float32(0.5), seed=np.int64(3))
    assert json.loads(json.dumps(subsets.spec())) == Subsets.uniform(10, 0.5, 3).spec()


def test_another_seed_of_the_same_design_draws_other_masks():
    labels = np.arange(40) % 4
    first = Subsets.stratified(labels, 0.5, seed=1)
    again = first.reseeded(2)
    assert again == Subsets.stratified(labels, 0.5, seed=2) and first.seed == 1
    assert not (first.masks(range(20)) == again.masks(range(20))).all(1).any()


def test_uniform_has_one_size_and_fair_marginals():
    masks = Subsets.uniform(50, 0.3).masks(range(4000))
    assert set(masks.sum(1)) == {15}
    assert abs(masks.mean(0) - 0.3).max() < 5 * np.sqrt(0.21 / 4000)


def test_bernoulli_sizes_vary_as_coins_do():
    sizes = Subsets.bernoulli(400, 0.5).masks(range(2000)).sum(1)
    assert abs(sizes.mean() - 200) < 1.5
    assert 8.5 < sizes.std() < 11.5


def test_stratified_keeps_its_share_of_every_class():
    masks = Subsets.stratified(LABELS, 0.3).masks(range(20))
    for code, size in enumerate([6, 9, 15]):
        assert (masks[:, code == LABELS].sum(1) == size).all()


def test_groups_are_kept_or_dropped_whole():
    masks = Subsets.grouped(GROUPS, 0.4).masks(range(50)).reshape(50, 25, 4)
    assert (masks.all(2) == masks.any(2)).all()
    assert (masks.all(2).sum(1) == 10).all()


def test_several_correlations_are_dealt_to_the_pairs_in_turn():
    subsets = Subsets.correlated(400, 0.3, (0.2, 0.9, 1.0), seed=5)
    assert [subsets.rho_of(pair) for pair in range(4)] == [0.2, 0.9, 1.0, 0.2]
    again = Subsets.from_spec(json.loads(json.dumps(subsets.spec())))
    assert again == subsets and again.rho_of(1) == 0.9
    masks = subsets.masks(range(600)).reshape(100, 3, 2, 400)
    for level, rho in enumerate((0.2, 0.9, 1.0)):
        first, second = masks[:, level, 0].ravel(), masks[:, level, 1].ravel()
        assert abs(np.corrcoef(first, second)[0, 1] - rho) < 0.02
    one = Subsets.correlated(400, 0.3, 0.9, seed=5)
    np.testing.assert_array_equal(one.masks([2, 3]), subsets.masks([2, 3]))


@pytest.mark.parametrize("keep", [0.3, 0.5])
def test_correlated_pairs_of_fixed_size(keep):
    n, size = 200, round(200 * keep)
    subsets = Subsets.correlated(n, keep, (0.0, 0.4, 1.0), seed=5, fixed_size=True)
    assert Subsets.from_spec(json.loads(json.dumps(subsets.spec()))) == subsets
    masks = subsets.masks(range(600))
    assert set(masks.sum(1)) == {size}
    assert abs(masks.mean(0) - keep).max() < 5 * np.sqrt(keep * (1 - keep) / 300)
    for level, rho in enumerate((0.0, 0.4, 1.0)):
        common = (masks[2 * level :: 6] & masks[2 * level + 1 :: 6]).sum(1)
        assert len(set(common)) == 1  # the correlation is the same in every pair, up to rounding
        assert abs((common[0] - size**2 / n) / (size * (n - size) / n) - rho) < 0.6 / (size * (n - size) / n)


@pytest.mark.parametrize("rho", [0.0, 0.4, 1.0])
def test_correlated_pairs_have_the_correlation_and_both_marginals(rho):
    masks = Subsets.correlated(500, 0.3, rho).masks(range(200))
    first, second = masks[::2].ravel(), masks[1::2].ravel()
    assert abs(first.mean() - 0.3) < 0.01
    assert abs(second.mean() - 0.3) < 0.01
    assert abs(np.corrcoef(first, second)[0, 1] - rho) < 0.02
    assert abs(np.corrcoef(masks[0], masks[2])[0, 1]) < 0.2


def test_leaving_out_takes_controls_and_ends():
    subsets = Subsets.leaving_out(10, [[], [3], [0, 9, 9]])
    assert subsets.masks(range(3)).sum(1).tolist() == [10, 9, 8]
    assert not subsets.mask(1)[3]
    with pytest.raises(InputError, match="index must be at least 0 and smaller than 3, received 3"):
        subsets.mask(3)


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_packing_loses_nothing(n, m, seed):
    masks = np.random.default_rng(seed).random((m, n)) < 0.5
    np.testing.assert_array_equal(unpack(pack(masks), n), masks)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Subsets.uniform(10, 0.0), "keep must lie strictly between 0 and 1"),
        (lambda: Subsets.uniform(10, 1.2), "received 1.2"),
        (lambda: Subsets.uniform(10, 0.01), "subsets of 0, which are empty"),
        (lambda: Subsets.uniform(10, 0.99), "subsets of 10, which are the full set"),
        (lambda: Subsets.bernoulli(1), "at least 2 training examples"),
        (lambda: Subsets.stratified([0, 0, 1, 1], 0.1), "class number 0"),
        (lambda: Subsets.stratified(np.zeros((3, 2))), r"shape \(n,\)"),
        (lambda: Subsets.grouped([0, 0, 0, 0]), "of 1 groups"),
        (lambda: Subsets.correlated(10, 0.5, 1.5), "rho must lie in"),
        (lambda: Subsets.correlated(10, 0.5, (0.5, -1)), "rho must lie in"),
        (lambda: Subsets.correlated(10, 0.5, ()), "rho must lie in"),
        (lambda: Subsets.leaving_out(5, []), "sets is empty"),
        (lambda: Subsets.leaving_out(5, [[5]]), r"names training example 5, but positions run from 0 to 4"),
        (lambda: Subsets.leaving_out(3, [[0, 1, 2]]), "removes all 3"),
        (lambda: Subsets.leaving_out(3, [[True, False, True]]), "as integers, received dtype bool"),
        (lambda: Subsets.uniform(10, float("nan")), "received nan"),
        (lambda: Subsets.uniform(10, seed=-1), "seed must be at least 0, received -1"),
        (lambda: Subsets.uniform(10).mask(-1), "index must be at least 0"),
        (
            lambda: Subsets.from_spec({**Subsets.uniform(10).spec(), "design": "x"}),
            "unknown subset design 'x'",
        ),
    ],
)
def test_bad_designs_get_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


PLANS = {
    "default": lambda: Plan(designs()["uniform"]),
    "seeds": lambda: Plan(designs()["bernoulli"], seeds=3, held_out_seeds=5, seed=2),
    "single": lambda: Plan(designs()["uniform"], held_out_seeds=1, training_seed=7),
    "finite": lambda: Plan(designs()["leaving_out"], validation=0, held_out=0, seeds=4),
}


@pytest.mark.parametrize("name", PLANS)
def test_rows_never_move(name):
    plan = PLANS[name]()
    stop = plan.count or 300
    whole = plan.rows(0, stop)
    again = Plan.from_spec(plan.spec())
    for cut in (0, 1, stop // 3, stop):
        first, second = again.rows(0, cut), again.rows(cut, stop)
        for name in ("mask_index", "repeat", "seed", "part"):
            joined = np.concatenate([getattr(first, name), getattr(second, name)])
            np.testing.assert_array_equal(joined, getattr(whole, name))


def test_training_seeds_and_parts_are_what_they_were_when_first_written():
    rows = Plan(Subsets.uniform(10), seed=3).rows(0, 40)
    expected = [3042070510729267593, 3076658947288011520, 470380925222692991, 341185225449882904]
    assert rows.seed[:4].tolist() == expected
    assert np.flatnonzero(rows.part == 2).tolist() == [4, 5, 13, 14, 27, 28, 36, 37]
    assert np.flatnonzero(rows.part == 1).tolist() == [10, 19, 33]


@pytest.mark.parametrize("count", [100, 1_000, 10_000])
def test_parts_have_their_shares_at_any_length(count):
    plan = Plan(Subsets.uniform(10), validation=0.15, held_out=0.2)
    parts = np.bincount(plan.part_of(np.arange(count)), minlength=3) / count
    np.testing.assert_allclose(parts, [0.65, 0.15, 0.2], atol=3 / count)
    assert PARTS == ("train", "validation", "held_out")


def test_all_seeds_of_a_mask_share_its_part_and_differ():
    rows = Plan(designs()["uniform"], seeds=2, held_out_seeds=4).rows(0, 500)
    assert len(np.unique(rows.seed)) == 500
    assert (rows.seed >= 0).all()
    for index in np.unique(rows.mask_index)[:-1]:
        chosen = rows.mask_index == index
        assert len(set(rows.part[chosen])) == 1
        assert rows.repeat[chosen].tolist() == list(range(4 if rows.part[chosen][0] == 2 else 2))


def test_plans_with_other_seeds_share_no_training_seed():
    seeds = [set(Plan(designs()["uniform"], seed=s).rows(0, 1000).seed) for s in range(3)]
    assert not (seeds[0] & seeds[1] or seeds[1] & seeds[2])


def test_one_training_seed_for_all():
    rows = Plan(designs()["uniform"], held_out_seeds=1, training_seed=7).rows(0, 20)
    assert set(rows.seed) == {7}
    assert rows.mask_index.tolist() == list(range(20))


def test_a_finite_plan_ends():
    plan = PLANS["finite"]()
    assert plan.count == 12
    with pytest.raises(InputError, match="stop <= 12"):
        plan.rows(0, 13)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"validation": 0.5, "held_out": 0.5}, "sum must be below 1"),
        ({"validation": -0.1}, "at least 0"),
        ({"seeds": 0}, "must be at least 1"),
        ({"training_seed": 3}, "makes repeats of a mask identical"),
    ],
)
def test_bad_plans_get_one_sentence(options, says):
    with pytest.raises(InputError, match=says):
        Plan(designs()["uniform"], **options)


def test_given_masks_are_checked_and_kept_small():
    masks = np.random.default_rng(0).random((3, 1000)) < 0.1
    subsets = Subsets.given(masks)
    np.testing.assert_array_equal(subsets.masks(range(3)), masks)
    assert subsets.count == 3 and subsets.keep == pytest.approx(masks.mean())
    assert len(json.dumps(subsets.spec())) < 3 * 200  # 1,000 bits are 125 bytes, 168 letters
    assert Subsets.given(np.ones((1, 5), bool)).mask(0).all()  # all of it is a subset too
    with pytest.raises(InputError, match="smaller than 3"):
        subsets.mask(3)
    with pytest.raises(InputError, match="masks must be boolean of shape"):
        Subsets.given(masks.astype(int))
    with pytest.raises(InputError, match="masks must be boolean of shape"):
        Subsets.given(masks[0])
    with pytest.raises(InputError, match="mask 1 keeps no training example"):
        Subsets.given(np.array([[True, False], [False, False]]))
