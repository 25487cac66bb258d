"""One model to look at, the shipped networks, and a floor under how well they learn."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.training.studies import TARGETS, N, masks, study, train, weights_of
from whence.errors import InputError
from whence.training import conv_net, features, logistic_regression, mlp, resnet9


def test_train_returns_the_model_that_a_retraining_was():
    subject, mask = study("conv"), masks(1)
    model = whence.training.train(subject, mask[0], seed=4)
    assert not model.training
    trainer = subject.trainer()
    with torch.no_grad():
        logits = model(trainer.queries.inputs(slice(0, TARGETS)))
    margin = whence.study.outputs.margin(logits, trainer.queries.y)
    np.testing.assert_allclose(margin.numpy(), train(subject, mask, [4])[0], rtol=1e-5, atol=1e-5)


def test_weights_count_examples_twice_or_not_at_all():
    subject = study("logistic", subset="weighted", batch_size=N, epochs=1)
    ones, twos = np.ones(N), np.full(N, 2.0)
    a, b = (weights_of(whence.training.train(subject, w)) for w in (ones, twos))
    torch.testing.assert_close(2 * a, b)


@pytest.mark.parametrize("bad", [np.ones(3), np.zeros(N), -np.ones(N), np.full(N, np.nan)])
def test_bad_weights_get_one_sentence(bad):
    with pytest.raises(InputError, match="weights must"):
        whence.training.train(study(), bad)


def test_features_are_the_inputs_of_the_last_linear_layer():
    subject = study("mlp")
    train_features, target_features = features(subject, seed=2)
    assert train_features.shape == (N, 8)
    assert target_features.shape == (TARGETS, 8)
    model = whence.training.train(subject, seed=2)
    with torch.no_grad():
        expected = model[:-1](subject.trainer().queries.inputs(slice(0, TARGETS)))
    np.testing.assert_allclose(target_features, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_without_a_recipe_or_a_linear_layer_there_are_no_features():
    with pytest.raises(InputError, match="needs a study with a Recipe"):
        features(whence.Study.from_function(lambda mask, seed: [0.0], n=4, targets=1))
    with pytest.raises(InputError, match=r"no torch\.nn\.Linear layer"):
        features(study(lambda: nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten())))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (partial(logistic_regression, 48, 5), (3, 4, 4)),
        (partial(mlp, 48, 5), (3, 4, 4)),
        (partial(conv_net, (1, 28, 28), 5), (1, 28, 28)),
        (partial(conv_net, (3, 32, 32), 5, 8), (3, 32, 32)),
        (partial(conv_net, (1, 13, 22), 5), (1, 13, 22)),
        (partial(resnet9, 3, 5, 8), (3, 32, 32)),
    ],
)
def test_networks_read_their_shape(model, shape):
    assert model()(torch.randn(2, *shape)).shape == (2, 5)


def test_resnet9_is_the_papers():
    """6,568,640 weights: KakaoBrain's shape, by Ilyas et al.'s example script."""
    convolutions = (
        3 * 64 * 9 + 64 * 128 * 25 + 2 * 128 * 128 * 9 + 128 * 256 * 9 + 2 * 256 * 256 * 9 + 256 * 128 * 9
    )
    norms = 2 * (64 + 128 + 2 * 128 + 256 + 2 * 256 + 128)
    assert sum(p.numel() for p in resnet9().parameters()) == convolutions + norms + 1280


def test_the_conv_net_learns():
    """A floor that may not sink: 1,000 Fashion-MNIST images, the demo's recipe, 3 seeds (0.82 measured)."""
    from whence.cli.demo import study as demo

    subject = demo()
    subject = whence.Study(
        (subject.train.inputs, subject.train.labels),
        (subject.targets.inputs, subject.targets.labels),
        subject.recipe,
        ["margin_max"],
    )
    runs = subject.trainer().train(np.ones((3, subject.n), bool), np.arange(3))
    assert np.mean([(run.outputs["margin_max"] > 0).mean() for run in runs]) > 0.78
