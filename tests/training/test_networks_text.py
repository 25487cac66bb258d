"""The small transformer: causal, mapped as it is alone, differentiated layer by layer and twice."""

from functools import partial

import numpy as np
import pytest
import torch

import whence
from whence.errors import InputError
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.layers import gradients
from whence.methods.gradients.network import Network
from whence.study.text import ByteTokenizer, TargetTask, language_study, next_token_loss, pack
from whence.training import gpt, train

BYTES = ByteTokenizer()
LENGTH = 12


def study(optimizer=None, **more):
    recipe = whence.Recipe(
        partial(gpt, 257, LENGTH, 8, 2, 2),
        epochs=2,
        batch_size=4,
        optimizer=optimizer or whence.AdamW(1e-2),
        **more,
    )
    rows = pack(["the cat sat on the mat and the dog sat on the log; " * 2], BYTES, LENGTH)
    targets = TargetTask("t", ["the c", "on the l"], ["at", "og"]).rows(BYTES, LENGTH)
    return language_study(rows, targets, recipe, BYTES)


def test_no_token_sees_a_later_one():
    net = gpt(257, LENGTH, 8, 2, 2)
    tokens = torch.randint(0, 257, (2, LENGTH))
    changed = tokens.clone()
    changed[:, 7:] = 5
    before, after = net(tokens), net(changed)
    torch.testing.assert_close(before[:, :7], after[:, :7])
    assert not torch.allclose(before[:, 7:], after[:, 7:])
    torch.testing.assert_close(net(tokens[:, :5]), before[:, :5])


def test_the_number_of_parameters():
    width, depth, vocabulary, length = 8, 3, 50, 20
    count = sum(p.numel() for p in gpt(vocabulary, length, width, depth, 2).parameters())
    block = 12 * width**2 + 9 * width + 4 * width
    assert count == 2 * vocabulary * width + length * width + depth * block + 2 * width


def test_stacked_models_are_the_models_alone():
    subject = study()
    masks = np.random.default_rng(0).random((3, subject.n)) < 0.7
    alone = list(subject.trainer().train(masks, np.arange(3)))
    stacked = list(subject.trainer(engine={"stack": 3}).train(masks, np.arange(3)))
    for a, b in zip(alone, stacked, strict=True):
        np.testing.assert_allclose(a.outputs["loss"], b.outputs["loss"], rtol=2e-3, atol=2e-4)


def test_gradients_come_layer_by_layer_and_are_those_of_autograd():
    subject = study()
    network = Network(subject, "loss").load(checkpoints(subject, 1)[0])
    _, x, y = next(network.batches(network.train, 5))
    pieces = gradients(network, x, y, next_token_loss)
    assert network.layout.rest == [] and network.layout.spread == {"position"}
    for i in range(len(x)):
        value = next_token_loss(network.module(x[i : i + 1]), y[i : i + 1])[0]
        moving = dict(network.module.named_parameters())
        wanted = dict(zip(moving, torch.autograd.grad(value, list(moving.values())), strict=True))
        found = {}
        for piece in pieces:
            found |= {key: g[i] for key, g in piece.parameters().items()}
        assert found.keys() == wanted.keys()
        for key, g in wanted.items():
            torch.testing.assert_close(found[key], g, rtol=1e-3, atol=1e-5)


def test_metagradients_go_through_training():
    subject = study(subset="weighted", optimizer=whence.SGD(0.3))
    scores = whence.methods.MAGIC(check=False, adjoint="float64").attribute(subject)
    x, y = (torch.as_tensor(a) for a in (subject.target_inputs, subject.target_answers))

    def outputs(weight):
        weights = np.ones(subject.n)
        weights[2] = weight
        return next_token_loss(train(subject, weights, seed=0)(x), y).detach().numpy()

    slope = (outputs(1.1) - outputs(0.9)) / 0.2
    np.testing.assert_allclose(slope, scores.data["weight"].values[:, 2], rtol=0.03, atol=1e-4)


def test_sizes_that_do_not_fit():
    with pytest.raises(InputError, match="width a multiple of heads"):
        gpt(257, 8, width=10, heads=4)
    with pytest.raises(InputError, match="depth=0"):
        gpt(257, 8, depth=0)
