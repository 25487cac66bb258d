"""Studies without a recipe: a function, a scikit-learn estimator, a user's own loop."""

import numpy as np
import pytest
import torch
from torch import nn

from whence.errors import InputError
from whence.study import Study
from whence.training import features

RNG = np.random.default_rng(1)
X = RNG.normal(size=(40, 5)).astype(np.float32)
Y = np.arange(40) % 3
X += 2 * np.eye(5, dtype=np.float32)[Y]
HALF = np.arange(40) % 2 == 0


def runs(subject, masks, seeds=None):
    masks = np.atleast_2d(masks)
    return list(subject.trainer().train(masks, np.arange(len(masks)) if seeds is None else np.asarray(seeds)))


def of(function, **options):
    return Study.from_function(function, **{"n": 6, "targets": 2, **options})


def test_one_failure_among_successes_keeps_its_place():
    def sometimes(mask, seed):
        if seed == 1:
            raise KeyError("lost")
        return [mask.sum(), seed]

    found = runs(of(sometimes), np.ones((3, 6), bool))
    assert [run.error for run in found] == [None, "KeyError: 'lost'", None]
    assert [run.outputs["output"].tolist() for run in found[::2]] == [[6, 0], [6, 2]]
    assert all(run.seconds >= 0 for run in found)
    assert found[0].outputs["output"].dtype == np.float32


def test_a_function_cannot_spoil_the_masks():
    def spoils(mask, seed):
        mask[:] = False
        return [0.0, 0.0]

    masks = np.ones((2, 6), bool)
    runs(of(spoils), masks)
    assert masks.all()


@pytest.mark.parametrize(
    ("returned", "outputs", "says"),
    [
        ([1.0], ["a"], r"output 'a' must be one number for each of 2 targets, .* shape \(1,\)"),
        (3.0, ["a"], r"shape \(\)"),
        (np.zeros((2, 2)), ["a"], r"shape \(2, 2\)"),
        ({"b": [1, 2]}, ["a"], r"returned outputs \['b'\], but the study names \['a'\]"),
        ({"a": [1, 2]}, ["a", "b"], r"the study names \['a', 'b'\]"),
        ({"a": [1, 2], "b": [1, 2], "c": [1, 2]}, ["a", "b"], "returned outputs"),
        ([1.0, 2.0], ["a", "b"], "return a dict with these keys"),
    ],
)
def test_wrong_returns_stop_at_once(returned, outputs, says):
    with pytest.raises(InputError, match=says):
        runs(of(lambda mask, seed: returned, outputs=outputs), np.ones(6, bool))


def test_nan_is_an_outcome_not_an_error():
    (run,) = runs(of(lambda mask, seed: [np.nan, 1.0]), np.ones(6, bool))
    assert run.error is None
    assert np.isnan(run.outputs["output"]).tolist() == [True, False]


def test_an_empty_subset_is_refused_before_the_function_is_called():
    called = []
    with pytest.raises(InputError, match="mask 1 keeps no training example"):
        runs(of(lambda mask, seed: called.append(seed)), np.array([[True] * 6, [False] * 6]))
    assert not called


def test_every_mask_needs_its_seed():
    subject = of(lambda mask, seed: [0.0, 0.0])
    with pytest.raises(ValueError):
        runs(subject, np.ones((2, 6), bool), [0])


def test_a_function_study_has_no_engine_and_no_pictures():
    subject = of(lambda mask, seed: [0.0, 0.0], targets=["a", "b"])
    assert (subject.train_labels, subject.train_inputs, subject.recipe) == (None, None, None)
    assert subject.output_shapes() == {"output": ()}
    assert subject.trainer().choose(np.ones((1, 6), bool), np.zeros(1, int))["stack"] == 1
    with pytest.raises(InputError, match="needs a study with a Recipe"):
        features(subject)


@pytest.mark.parametrize("kind", ["margin", "margin_max", "loss", "probability"])
def test_the_outputs_of_a_classifier_follow_its_probabilities(kind):
    linear = pytest.importorskip("sklearn.linear_model")
    (run,) = runs(Study.from_estimator(linear.LogisticRegression(), (X, Y), (X[:9], Y[:9]), [kind]), HALF)
    p = linear.LogisticRegression().fit(X[HALF], Y[HALF]).predict_proba(X[:9])
    right = p[range(9), Y[:9]]
    others = np.where(np.arange(3) == Y[:9, None], 0, p).max(1)
    expected = {
        "margin": np.log(right / (1 - right)),
        "margin_max": np.log(right / others),
        "loss": -np.log(right),
        "probability": right,
    }
    np.testing.assert_allclose(run.outputs[kind], expected[kind], rtol=1e-4, atol=1e-5)


def test_a_subset_that_lacks_a_class_is_finite_and_very_sure():
    trees = pytest.importorskip("sklearn.tree")
    subject = Study.from_estimator(
        trees.DecisionTreeClassifier(), (X, Y), (X[:9], Y[:9]), ["margin", "logits"]
    )
    for missing in range(3):
        (run,) = runs(subject, missing != Y)
        assert run.error is None
        assert np.isfinite(run.outputs["logits"]).all()
        assert (run.outputs["margin"][Y[:9] == missing] < -20).all()


def test_a_single_class_that_an_estimator_cannot_fit_is_recorded():
    linear = pytest.importorskip("sklearn.linear_model")
    (run,) = runs(Study.from_estimator(linear.LogisticRegression(), (X, Y), (X[:9], Y[:9])), Y == 1)
    assert "class" in run.error
    assert run.outputs == {}


def test_estimators_without_a_random_state_are_functions_of_the_mask():
    neighbours = pytest.importorskip("sklearn.neighbors")
    subject = Study.from_estimator(neighbours.KNeighborsClassifier(3), (X, Y), (X[:9], Y[:9]))
    a, b, c = runs(subject, np.array([HALF, HALF, ~HALF]), [1, 2, 1])
    np.testing.assert_array_equal(a.outputs["margin"], b.outputs["margin"])
    assert not np.array_equal(a.outputs["margin"], c.outputs["margin"])


def test_the_training_seed_reaches_a_nested_estimator():
    pipeline, ensemble = pytest.importorskip("sklearn.pipeline"), pytest.importorskip("sklearn.ensemble")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    estimator = pipeline.make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(4))
    subject = Study.from_estimator(estimator, (X, Y), (X[:9], Y[:9]))
    a, again, other = runs(subject, np.array([HALF] * 3), [5, 5, 6])
    np.testing.assert_array_equal(a.outputs["margin"], again.outputs["margin"])
    assert not np.array_equal(a.outputs["margin"], other.outputs["margin"])


def test_regressors_predict_and_the_users_estimator_is_not_fitted():
    linear = pytest.importorskip("sklearn.linear_model")
    estimator, values = linear.Ridge(0.5), X[:, 0] - X[:, 1]
    subject = Study.from_estimator(estimator, (X, values), (X[:9], values[:9]), ["squared_error"])
    (run,) = runs(subject, HALF)
    prediction = linear.Ridge(0.5).fit(X[HALF], values[HALF]).predict(X[:9])
    np.testing.assert_allclose(
        run.outputs["squared_error"], (prediction - values[:9]) ** 2, rtol=1e-3, atol=1e-6
    )
    assert not hasattr(estimator, "coef_")
    assert (subject.class_count, subject.train_labels) == (None, None)


@pytest.mark.parametrize("bad", [np.full(40, np.nan), np.array(["x"] * 40)])
def test_values_to_predict_are_finite_numbers(bad):
    linear = pytest.importorskip("sklearn.linear_model")
    with pytest.raises(InputError, match="values to predict must be finite numbers"):
        Study.from_estimator(linear.Ridge(), (X, bad), (X[:9], X[:9, 0]))


def test_a_classifier_without_probabilities_is_told_what_to_do():
    linear = pytest.importorskip("sklearn.linear_model")
    with pytest.raises(InputError, match="predict_proba"):
        Study.from_estimator(linear.RidgeClassifier(), (X, Y), (X[:9], Y[:9]))


def loop(inputs, labels, seed):
    model = nn.Linear(5, 3)
    nn.functional.cross_entropy(model(inputs), labels).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    return model


def of_loop(function, dtype=np.float32, outputs=("logits",)):
    return Study.from_training_function(function, (X.astype(dtype), Y), (X[:9].astype(dtype), Y[:9]), outputs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_loop_gets_the_kept_examples_as_tensors(dtype):
    seen = {}

    def watched(inputs, labels, seed):
        seen.update(inputs=inputs, labels=labels, seed=seed)
        return loop(inputs, labels, seed)

    (run,) = runs(of_loop(watched, dtype), HALF, [3])
    torch.testing.assert_close(seen["inputs"], torch.as_tensor(X[HALF]))
    assert seen["labels"].tolist() == Y[HALF].tolist()
    assert seen["seed"] == 3
    torch.manual_seed(3)
    expected = loop(torch.as_tensor(X[HALF]), torch.as_tensor(Y[HALF]), 3)(torch.as_tensor(X[:9]))
    torch.testing.assert_close(torch.as_tensor(run.outputs["logits"]), expected.detach())


def test_a_loop_leaves_the_users_random_state_alone_and_may_fail():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    runs(of_loop(loop), HALF)
    assert torch.rand(1) == expected
    (run,) = runs(of_loop(lambda x, y, seed: 1 / 0), HALF)
    assert run.error.startswith("ZeroDivisionError")


def test_a_loop_may_return_any_function_to_logits():
    (run,) = runs(of_loop(lambda x, y, seed: lambda inputs: inputs[:, :3].double(), outputs=["margin"]), HALF)
    assert run.outputs["margin"].dtype == np.float32
    with pytest.raises(
        InputError, match=r"must return logits of shape \(9, 3\) for the targets, received \(9,\)"
    ):
        runs(of_loop(lambda x, y, seed: lambda inputs: inputs[:, 0]), HALF)


def test_dropout_is_off_when_targets_are_read():
    def heavy(inputs, labels, seed):
        return nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.9))

    subject = of_loop(heavy)
    a, b = runs(subject, np.array([HALF, HALF]), [1, 1])
    np.testing.assert_array_equal(a.outputs["logits"], b.outputs["logits"])
    assert (a.outputs["logits"] != 0).all()
