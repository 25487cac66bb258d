"""What a study is: its checks, its fingerprint, its pictures, and the ways to train that are no recipe."""

import importlib.util
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from whence.errors import InputError
from whence.study import SGD, Adam, Recipe, Study
from whence.training import logistic_regression

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (12, 4, 4), dtype=np.uint8), np.arange(12) % 3
F, V = RNG.normal(size=(30, 4)), np.arange(30) % 3
RECIPE = Recipe(partial(logistic_regression, 16, 3), 1, 4, SGD(0.1))
ONE = np.ones((1, 30), bool)


def study(**changes):
    return Study(**{"train": (X[:8], Y[:8]), "targets": (X[8:], Y[8:]), "recipe": RECIPE, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": (X[:8], Y[:7])}, "train has 8 inputs but labels of shape"),
        ({"train": X}, r"train must be a pair \(inputs, labels\)"),
        ({"train": (X[:1], Y[:1])}, "at least 2 examples"),
        ({"targets": (X[:0], Y[:0])}, "targets is empty"),
        ({"targets": (X[8:], [0, 1, 2, 7])}, r"targets has label 7, but labels must lie in 0\.\.2"),
        ({"train": (X[:8], Y[:8] - 1)}, "train has label -1"),
        ({"train": (X[:8], Y[:8] / 2)}, "labels must be integers"),
        ({"classes": ["a", "b"]}, "label 2, but labels must lie in 0..1 for 2 classes"),
        ({"train": (np.full((8, 4), np.nan), Y[:8])}, "NaN or infinite"),
        ({"train_ids": [1, 1, 2, 3, 4, 5, 6, 7]}, "train_ids must be unique, but .*1.* appears 2 times"),
        ({"target_ids": ["a"]}, "target_ids must have one id for each of 4 examples"),
        ({"outputs": ["margins"]}, "outputs must name at least one of"),
        ({"recipe": "sgd"}, "recipe must be a whence.Recipe, received str"),
    ],
)
def test_bad_studies_get_one_sentence(changes, says):
    with pytest.raises(InputError, match=says) as caught:
        study(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": nn.Linear(2, 2)}, "fresh initial weights"),
        ({"model": 3}, "must be a function that makes a network"),
        ({"epochs": 0}, "epochs=0"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"subset": "short"}, '"shorter" or "weighted"'),
        ({"precision": "fp16"}, '"float32", "mixed" or "auto"'),
    ],
)
def test_bad_recipes_get_one_sentence(changes, says):
    with pytest.raises(InputError, match=says):
        Recipe(**{"model": nn.Identity, "epochs": 1, "batch_size": 2, "optimizer": SGD(0.1), **changes})


@pytest.mark.parametrize(
    "make", [lambda: SGD(0), lambda: SGD(0.1, 1.0), lambda: SGD(0.1, 0, True), lambda: Adam(0.1, (1, 0))]
)
def test_bad_optimisers_get_one_sentence(make):
    with pytest.raises(InputError):
        make()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (partial(logistic_regression, 9, 3), r"cannot read inputs of shape \(1, 1, 4, 4\)"),
        (
            partial(logistic_regression, 16, 4),
            r"logits of shape \(batch, 3\) for 3 classes, received \(1, 4\)",
        ),
    ],
)
def test_networks_that_do_not_fit_fail_before_training(model, says):
    with pytest.raises(InputError, match=says):
        study(recipe=Recipe(model, 1, 4, SGD(0.1))).trainer()


@pytest.mark.parametrize("masks", [np.ones((2, 7)), np.ones(9), np.zeros((1, 8))])
def test_masks_of_another_shape_or_empty_are_refused(masks):
    with pytest.raises(InputError):
        study().check_masks(masks)


def test_the_fingerprint_is_of_content():
    same = study(train=(X[:8].copy(), Y[:8].copy()))
    assert same.fingerprint == study().fingerprint
    changed = X[:8].copy()
    changed[0, 0, 0] ^= 1
    for other in (
        {"train": (changed, Y[:8])},
        {"train_ids": range(1, 9)},
        {"outputs": ["loss"]},
        {"recipe": Recipe(RECIPE.model, 2, 4, SGD(0.1))},
        {"recipe": Recipe(partial(logistic_regression, 16, classes=3), 1, 4, SGD(0.1))},
    ):
        assert study(**other).fingerprint != study().fingerprint


def load(folder, name, text):
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.model


def test_comments_and_formatting_do_not_make_another_study(tmp_path):
    text = "from torch import nn\ndef model():\n    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))\n"
    commented = text.replace("    return", "    # a comment\n    return").replace("16, 3", "16,  3")
    other = text.replace("16, 3", "16, 3, bias=False")
    prints = [
        study(recipe=Recipe(load(tmp_path, f"model_{i}", t), 1, 4, SGD(0.1))).fingerprint
        for i, t in enumerate((text, commented, other))
    ]
    assert prints[0] == prints[1] != prints[2]


def test_pictures_come_as_bytes():
    assert study().image("train", 3).tolist() == X[3].tolist()
    colour = np.stack([X] * 3, -1)
    assert study(train=(colour[:8], Y[:8]), targets=(colour[8:], Y[8:])).image("target", 0).shape == (4, 4, 3)
    floats = torch.randn(12, 3, 4, 4)
    picture = study(train=(floats[:8], Y[:8]), targets=(floats[8:], Y[8:])).image("train", 0)
    assert (picture.dtype, picture.min(), picture.max(), picture.shape) == (np.uint8, 0, 255, (4, 4, 3))
    plain = Study.from_function(lambda mask, seed: [0.0], n=4, targets=1)
    assert plain.image("train", 0) is None
    assert not plain.is_image


def one(subject, mask=None, seed=1):
    rows = np.ones((1, subject.n), bool) if mask is None else mask
    return next(iter(subject.trainer().train(rows, np.array([seed]))))


def test_a_function_may_return_an_array_or_a_dict():
    alone = Study.from_function(lambda mask, seed: [mask.sum(), seed], n=5, targets=["a", "b"])
    assert one(alone).outputs["output"].tolist() == [5, 1]
    assert alone.target_ids.tolist() == ["a", "b"]
    two = Study.from_function(lambda m, s: {"u": [1.0], "v": [2.0]}, n=5, targets=1, outputs=["u", "v"])
    assert one(two).outputs["v"].dtype == np.float32


@pytest.mark.parametrize(
    ("returned", "outputs", "says"),
    [
        ([1.0], ["output"], r"one number for each of 2 targets, the function returned shape \(1,\)"),
        ({"x": [1.0, 2.0]}, ["output"], r"returned outputs \['x'\], but the study names \['output'\]"),
        ([1.0, 2.0], ["u", "v"], "return a dict"),
    ],
)
def test_what_a_function_returns_is_checked(returned, outputs, says):
    with pytest.raises(InputError, match=says):
        one(Study.from_function(lambda mask, seed: returned, n=5, targets=2, outputs=outputs))


def test_a_function_that_fails_is_recorded_with_its_row():
    def fails(mask, seed):
        raise ZeroDivisionError("by nothing")

    run = one(Study.from_function(fails, n=5, targets=2))
    assert run.error == "ZeroDivisionError: by nothing"
    assert run.outputs == {}


def test_a_classifier_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    subject = Study.from_estimator(
        linear.LogisticRegression(), (F, V), (F[:5], V[:5]), ["probability", "logits"]
    )
    run = one(subject)
    fitted = linear.LogisticRegression().fit(F, V)
    np.testing.assert_allclose(
        run.outputs["probability"], fitted.predict_proba(F[:5])[range(5), V[:5]], rtol=1e-5
    )
    assert subject.output_shapes() == {"probability": (), "logits": (3,)}
    without = one(subject, (V != 2)[None])
    assert without.error is None
    assert (without.outputs["probability"][V[:5] == 2] < 1e-6).all()


def test_estimators_get_the_training_seed_where_they_take_one():
    ensemble = pytest.importorskip("sklearn.ensemble")
    subject = Study.from_estimator(ensemble.RandomForestClassifier(3), (F, V), (F[:5], V[:5]))
    first, again, other = one(subject, seed=2**40), one(subject, seed=2**40), one(subject, seed=4)
    np.testing.assert_array_equal(first.outputs["margin"], again.outputs["margin"])
    assert not np.array_equal(first.outputs["margin"], other.outputs["margin"])


def test_a_regressor_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    subject = Study.from_estimator(
        linear.Ridge(), (F, F[:, 0] * 2), (F[:5], F[:5, 0] * 2), ["prediction", "squared_error"]
    )
    run = one(subject)
    expected = linear.Ridge().fit(F, F[:, 0] * 2).predict(F[:5])
    np.testing.assert_allclose(run.outputs["prediction"], expected, rtol=1e-5)
    with pytest.raises(InputError, match="needs predict_proba"):
        Study.from_estimator(linear.Ridge(), (F, F[:, 0]), (F, F[:, 0]), ["margin"])


def loop(inputs, labels, seed):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


def test_a_users_own_loop():
    data = (F.astype(np.float32), V)
    subject = Study.from_training_function(loop, data, (data[0][:5], V[:5]), ["margin", "logits"])
    first, again = one(subject, ONE), one(subject, ONE)
    assert first.outputs["logits"].shape == (5, 3)
    np.testing.assert_array_equal(first.outputs["margin"], again.outputs["margin"])  # seeded for the user
    wrong = Study.from_training_function(lambda x, y, s: nn.Linear(4, 2), data, (data[0][:5], V[:5]))
    with pytest.raises(InputError, match=r"logits of shape \(5, 3\) for the targets, received \(5, 2\)"):
        one(wrong, ONE)
