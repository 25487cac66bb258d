"""MAGIC predicts retrainings with its own seed, in absolute units; bad recipes are said."""

import numpy as np
import pytest

import whence
from tests.training.studies import TARGETS, N, study
from tests.training.test_replay import smooth
from whence.errors import InputError
from whence.methods import MAGIC
from whence.study import SGD
from whence.training.replay import differentiate
from whence.training.run import Run


def subject(**options):
    settings = {
        "subset": "weighted",
        "batch_size": 20,
        "optimizer": SGD(0.02, 0.9),
        "outputs": ("margin", "loss"),
    }
    return study(smooth, **{**settings, **options})


def test_it_predicts_leaving_one_out():
    s = subject()
    found = MAGIC(seed=4).attribute(s)
    masks = 1 - np.eye(N, dtype=int)[:12]
    true = np.stack([run.outputs["margin"] for run in s.trainer().train(masks, np.full(12, 4))])
    everything = next(iter(s.trainer().train(np.ones((1, N)), np.array([4])))).outputs["margin"]
    predicted = found.predict(masks)
    assert found.calibrated and predicted.shape == (12, TARGETS)
    assert np.allclose(found.predict(np.ones(N, dtype=int)), everything, atol=1e-4)
    error = np.abs(predicted - true).mean() / np.abs(true - everything).mean()
    assert error < 0.3
    assert np.corrcoef((predicted - everything).ravel(), (true - everything).ravel())[0, 1] > 0.95


def test_an_example_raises_its_own_margin_and_lowers_its_loss():
    s = subject()
    same = whence.Study(
        (s.train_inputs, s.train_labels),
        (s.train_inputs[:5], s.train_labels[:5]),
        s.recipe,
        ("margin", "loss"),
    )
    own = np.diag(MAGIC().attribute(same).weight[:, :5])
    assert (own > 0).mean() > 0.7
    assert (np.diag(MAGIC().attribute(same, "loss").weight[:, :5]) < 0).mean() > 0.7


def test_memory_and_chunks_change_nothing():
    a = MAGIC().attribute(subject()).to_numpy()
    b = MAGIC(memory=1, together=2).attribute(subject()).to_numpy()
    assert np.abs(a - b).max() < 1e-3 * np.abs(a).max()


def test_average_is_the_mean_over_seeds_and_halves():
    s = subject()
    found = MAGIC(average=2, keep=0.5, seed=7).attribute(s)
    masks = whence.Subsets.uniform(N, 0.5, 7).masks([0, 1]).astype(float)
    each = [
        differentiate(Run(s, 7 + i), "margin", range(TARGETS), mask).gradient for i, mask in enumerate(masks)
    ]
    assert np.allclose(found.to_numpy(), np.mean(each, axis=0), atol=1e-6)


def test_a_recipe_that_explodes_is_said():
    wild = subject(optimizer=SGD(8.0, 0.9), epochs=6, batch_size=4)
    with pytest.warns(UserWarning, match="smooth"):
        MAGIC().attribute(wild)


def test_bad_input():
    with pytest.raises(InputError, match="Recipe"):
        MAGIC().attribute(whence.Study.from_function(lambda m, s: [1.0], n=3, targets=1))
    with pytest.raises(InputError, match="one number"):
        MAGIC().attribute(subject(outputs=("logits",)))
    for wrong in ({"average": 0}, {"keep": 0.0}, {"adjoint": "half"}, {"memory": 0}):
        with pytest.raises(InputError):
            MAGIC(**wrong)
