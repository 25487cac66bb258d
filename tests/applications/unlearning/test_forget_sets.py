"""Forget sets: sizes, what the recipes pick, and what may not be forgotten."""

import numpy as np
import pytest

import whence
from whence.applications.unlearning import check_forget, forget_sets
from whence.attribution import Attribution
from whence.errors import InputError
from whence.study.variants import self_targets

N = 200
SIZES = (5, 10, 40)
RNG = np.random.default_rng(0)
IDS = [f"row {i}" for i in RNG.permutation(N)]
FEATURES = RNG.normal(size=(N, 6)).astype(np.float32)


def loop(inputs, labels, seed):
    raise AssertionError("nothing is to be trained")


@pytest.fixture(scope="module")
def study():
    data = (FEATURES, np.arange(N) % 2)
    return whence.Study.from_training_function(loop, data, data, train_ids=IDS)


def places(study, ids):
    position = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
    return np.array([position[identity] for identity in ids.tolist()])


def two_axes(**more):
    """Rows that differ along two directions, the first of which explains more."""
    first, second = np.linspace(-2, 2, N), np.random.default_rng(1).permutation(np.linspace(-1, 1, N))
    directions = np.random.default_rng(2).normal(size=(2, N))
    weight = np.outer(first, directions[0]) + np.outer(second, directions[1])
    return Attribution(weight, target_ids=IDS, train_ids=IDS, **more), first, second


def test_random_sets_of_three_sizes(study):
    sets = forget_sets(study, sizes=SIZES)
    assert [len(ids) for ids in sets.values()] == list(SIZES)
    assert list(sets) == ["random 5", "random 10", "random 40"]
    for ids in sets.values():
        at = places(study, ids)
        assert (np.diff(at) > 0).all()  # in the order of the training set, each once
    assert {name: ids.tolist() for name, ids in forget_sets(study, sizes=SIZES).items()} == {
        name: ids.tolist() for name, ids in sets.items()
    }
    other = forget_sets(study, sizes=SIZES, seed=1)
    assert other["random 40"].tolist() != sets["random 40"].tolist()


def test_default_sizes_follow_the_training_set(study):
    assert [len(ids) for ids in forget_sets(study).values()] == [5, 10, 20]
    large = whence.Study.from_function(lambda mask, seed: 0, n=50_000, targets=1)
    assert [len(ids) for ids in forget_sets(large).values()] == [10, 100, 500]


def test_components_take_the_ends(study):
    attribution, first, _ = two_axes()
    sets = forget_sets(study, attribution, sizes=SIZES)
    assert [name for name in sets if name.startswith("component")] == [
        "component 1 top 5", "component 1 top 10", "component 1 ends 40",
        "component 2 top 5", "component 2 top 10", "component 2 ends 40",
    ]  # fmt: skip
    small, middle = (set(places(study, sets[f"component 1 top {size}"])) for size in (5, 10))
    ends = set(places(study, sets["component 1 ends 40"]))
    assert small < middle and len(ends) == 40
    # unit rows: the ends are those whose first coordinate outweighs the second most, on either side
    sides = {np.sign(first[list(group)]).sum() for group in (middle,)}
    assert sides <= {10, -10}
    assert (first[list(ends)] > 0).sum() == (first[list(ends)] < 0).sum() == 20


def test_components_of_part_of_the_training_set(study):
    attribution, _, _ = two_axes()
    rows = np.arange(0, N, 3)
    part = Attribution(attribution.weight[rows], target_ids=np.array(IDS)[rows].tolist(), train_ids=IDS)
    sets = forget_sets(study, part, sizes=SIZES)
    assert set(places(study, sets["component 2 ends 40"])) <= set(rows)


def test_nearest_neighbours_hold_the_example_itself(study):
    around = IDS[17]
    sets = forget_sets(study, features=FEATURES, around=around, sizes=SIZES)
    found = places(study, sets[f"nearest 10 to {around}"])
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    likest = np.argsort(-(unit @ unit[17]))[:10]
    assert 17 in found and set(found) == set(likest)


def test_the_rarest_sub_class_that_is_large_enough(study):
    kinds = np.repeat(["common", "rare", "too rare"], [185, 12, 3])
    sets = forget_sets(study, subclasses=kinds, sizes=SIZES)
    assert places(study, sets["sub-class rare"]).tolist() == list(range(185, 197))


def test_a_user_s_own_list(study):
    mine = [IDS[9], IDS[2]]
    sets = forget_sets(study, own={"customer 7": mine}, sizes=SIZES)
    assert sets["customer 7"].tolist() == [IDS[2], IDS[9]]
    assert check_forget(study, mine).tolist() == [2, 9]


def test_integer_ids():
    study = whence.Study.from_function(lambda mask, seed: 0, n=50, targets=1)
    assert check_forget(study, np.array([7, 3])).tolist() == [3, 7]
    assert check_forget(study, range(49)).tolist() == list(range(49))


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([], "forget is empty"),
        (["row 3", "nobody"], "names 'nobody', which the training set lacks; its ids look like 'row"),
        ([3, 4, 5, 6], "names 3, 4, 5 and 1 more"),
        (["row 3", "row 3"], "1 ids more than once"),
        (IDS, "names all 200 training examples"),
        (np.ones(N, bool), "of a mask pass study.train_ids"),
        ("row 3", "must be a list of training ids"),
    ],
)
def test_what_cannot_be_forgotten(study, ids, sentence):
    with pytest.raises(InputError, match=sentence):
        check_forget(study, ids)
    if len(ids) and not isinstance(ids, str):
        with pytest.raises(InputError, match=sentence):
            forget_sets(study, own={"mine": ids}, sizes=SIZES)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sizes": (5, 10, 200)}, "must grow and be smaller"),
        ({"sizes": (10, 5, 40)}, "must grow"),
        ({"sizes": (10, 20)}, "must be three"),
        ({"features": FEATURES}, "belong together"),
        ({"features": FEATURES[:5], "around": IDS[0]}, "features has shape"),
        ({"features": FEATURES, "around": "nobody"}, "names 'nobody'"),
        ({"subclasses": ["a"] * 3}, "subclasses has shape"),
        ({"subclasses": np.arange(N)}, "no sub-class has at least 5"),
        ({"own": {"random 5": IDS[:3]}}, "own names a set 'random 5'"),
        (
            {"attribution": Attribution(np.zeros((4, N)), train_ids=IDS)},
            "targets that are no training examples",
        ),
        ({"attribution": Attribution(np.zeros((4, 2, N)), train_ids=IDS)}, "vector output"),
        ({"attribution": two_axes(provenance={"study": "f" * 64})[0]}, "another study"),
        ({"attribution": Attribution(np.eye(9, N), target_ids=IDS[:9], train_ids=IDS)}, "has 9 rows"),
    ],
)
def test_bad_input(study, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        forget_sets(study, **{"sizes": SIZES, **changes})


def test_an_attribution_of_the_study_s_training_examples_is_its_own(study):
    attribution, _, _ = two_axes(provenance={"study": self_targets(study).fingerprint})
    assert "component 1 top 5" in forget_sets(study, attribution, sizes=SIZES)
