"""Recipes: what they refuse, how many steps they take, how they describe themselves."""

import json
import math
from functools import partial

import pytest
from torch import nn

from whence.errors import InputError
from whence.study import SGD, Adam, AdamW, Augment, Constant, Cosine, Erase, Recipe, Stairs, Triangle
from whence.training import mlp


def recipe(**changes):
    return Recipe(
        **{"model": partial(mlp, 4, 2), "epochs": 3, "batch_size": 8, "optimizer": SGD(0.1), **changes}
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": None}, "model must be a function that makes a network, received NoneType"),
        ({"model": nn.Sequential()}, "model is one finished network"),
        ({"epochs": 0}, "epochs=0"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "whole numbers"),
        ({"optimizer": "sgd"}, "optimizer must be SGD or Adam.*received 'sgd'"),
        ({"optimizer": SGD}, "optimizer must be"),
        ({"schedule": "cosine"}, "schedule must be .*Cosine.*received 'cosine'"),
        ({"schedule": None}, "schedule must be"),
        ({"augment": {"flip": True}}, "augment must be Augment"),
        ({"label_smoothing": -0.1}, "label_smoothing must lie in"),
        ({"label_smoothing": math.nan}, "label_smoothing must lie in"),
        ({"subset": None}, 'subset must be "shorter" or "weighted", received None'),
        ({"precision": "bfloat16"}, 'precision must be "float32", "mixed" or "auto"'),
    ],
)
def test_bad_recipes_get_one_sentence(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        recipe(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (partial(SGD, -1), "lr must be above 0.*received -1"),
        (partial(SGD, math.nan), "lr must be above 0"),
        (partial(SGD, 0.1, 1.0), r"momentum must lie in \[0, 1\)"),
        (partial(SGD, 0.1, nesterov=True), "nesterov=True needs a momentum above 0"),
        (partial(SGD, 0.1, weight_decay=-1e-4), "weight_decay must be at least 0.*received -0.0001"),
        (partial(Adam, 0.1, (0.9, 1.0)), "betas must lie in"),
        (partial(AdamW, 0.1, weight_decay=-1), "weight_decay must be at least 0"),
        (partial(Augment, translate=-1), "translate=-1"),
        (partial(Augment, cutout=-1), "cutout=-1"),
        (partial(Augment, erase=(0, 0, 2, 2)), "erase must be an Erase or None"),
        (partial(Erase, -1, 0, 2, 2), "row=-1"),
        (partial(Erase, 0, 0, 2, 0), "at least one pixel.* width=0"),
        (partial(Erase, 0, 0, 2, 2, 0.0), r"probability must lie in \(0, 1\], received 0.0"),
        (partial(Triangle, 1.5), "peak"),
        (partial(Cosine, -0.5), "warmup"),
        (partial(Stairs, 0.0, 2), "ratio must be above 0"),
        (partial(Stairs, 0.5, 0), "count must be at least 1"),
    ],
)
def test_bad_parts_get_one_sentence(make, says):
    with pytest.raises(InputError, match=says):
        make()


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("kept", [1, 7, 8, 9, 16, 41])
def test_steps_are_counted_by_whole_batches(kept, drop_last):
    per_epoch = len(range(0, kept - 7, 8)) if drop_last else len(range(0, kept, 8))
    assert recipe(drop_last=drop_last).steps(kept) == 3 * per_epoch


@pytest.mark.parametrize("total", [1, 2, 7])
@pytest.mark.parametrize(
    "schedule",
    [
        Constant(),
        Triangle(),
        Triangle(0),
        Triangle(1),
        Cosine(),
        Cosine(1.0),
        Cosine(0.5, 0.1),
        Stairs(0.5, 3),
        Triangle(0.5, 0.2, 0.1),
    ],
)
def test_factors_are_finite_and_within_bounds_however_short_the_run(schedule, total):
    factors = [schedule.factor(step, total) for step in range(total)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert any(factor > 0 for factor in factors)  # a run of one step still learns


def test_schedules_by_hand():
    assert [Triangle(0.5).factor(i, 4) for i in range(4)] == pytest.approx([0.25, 0.75, 0.75, 0.25])
    assert Triangle(0.5, 0.4, 0.2).factor(0, 4) == pytest.approx(0.4 + 0.6 * 0.25)
    assert Triangle(0.5, 0.4, 0.2).factor(3, 4) == pytest.approx(1 - 0.8 * 0.75)
    assert [Stairs(0.5, 3).factor(i, 6) for i in range(6)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert Cosine().factor(0, 2) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert Cosine(0.5, 0.1).factor(0, 4) == pytest.approx(0.25)
    assert Cosine(0.5, 0.1).factor(2, 4) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 4)))


def test_a_description_is_json_and_tells_recipes_apart():
    changes = [
        {},
        {"model": partial(mlp, 4, 2, (8,))},
        {"epochs": 4},
        {"batch_size": 9},
        {"optimizer": SGD(0.2)},
        {"optimizer": Adam(0.1)},
        {"optimizer": AdamW(0.1, weight_decay=0.0)},
        {"schedule": Constant()},
        {"schedule": Cosine()},
        {"label_smoothing": 0.1},
        {"augment": Augment()},
        {"augment": Augment(flip=True)},
        {"subset": "weighted"},
        {"drop_last": True},
        {"precision": "mixed"},
    ]
    described = [json.dumps(recipe(**change).describe(), sort_keys=True) for change in changes]
    assert len(set(described)) == len(changes)
    assert json.dumps(recipe().describe(), sort_keys=True) == described[0]


def test_an_erased_rectangle_is_part_of_the_description_and_nothing_else_changes_it():
    plain = recipe(augment=Augment(flip=True)).describe()["augment"]
    assert plain == {"kind": "Augment", "flip": True, "translate": 0, "cutout": 0}  # as before it could erase
    erased = recipe(augment=Augment(erase=Erase(1, 2, 3, 4, 0.5))).describe()["augment"]
    box = {"row": 1, "column": 2, "height": 3, "width": 4, "probability": 0.5}
    assert erased["erase"] == box and json.dumps(erased)
