"""Kronecker-factored curvature: exact where it must be, and the short cuts against the long way."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.studies import CLASSES, N, study
from whence.errors import InputError
from whence.methods.gradients import hessian as curve
from whence.methods.gradients import kfac, solved
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.layers import gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer
from whence.methods.influence import Influence
from whence.study import Recipe, Study


def network_of(subject):
    return Network(subject, "margin").load(checkpoints(subject, [subject.trainer().model.state_dict()])[0])


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, CLASSES))


def matrix(blocks):
    """The blocks as one matrix of all weights, in the layout of `Piece.flat`."""
    parts = []
    for block in blocks:
        if isinstance(block, kfac.Kronecker):
            vectors = torch.kron(
                block.b.contiguous(),
                torch.eye(block.values.shape[1]) if block.a is None else block.a.contiguous(),
            )
        else:
            vectors = torch.eye(len(block.values)) if block.vectors is None else block.vectors
        parts.append(vectors @ torch.diag(block.values.flatten()) @ vectors.T)
    return torch.block_diag(*parts)


def flat(network, data, function):
    pieces = gradients(network, data.inputs(slice(None)), data.y, function)
    return torch.cat([piece.flat() for piece in pieces], 1)


def direct(network, blocks, shift, decay=0.0):
    inverse = torch.linalg.inv(matrix(blocks).double() + shift * torch.eye(matrix(blocks).shape[0]))
    pieces = gradients(network, network.train.inputs(slice(0, 1)), network.train.y[:1], network.loss)
    weights = torch.cat([piece.weights(network.parameters) for piece in pieces])
    loss = flat(network, network.train, network.loss) + decay * weights
    return (flat(network, network.targets, network.output).double() @ inverse @ loss.double().T).float()


@pytest.mark.parametrize("kind", ["kfac", "ekfac"])
def test_one_linear_layer_at_zero_is_exact(kind):
    """All classes are equally likely there, so inputs and output gradients are independent."""
    network = network_of(study("logistic"))
    pieces = gradients(network, network.train.inputs(slice(0, 1)), network.train.y[:1], network.loss)
    exact = curve.explicit(network, None)  # weights first, then biases
    size, wide = CLASSES * 64, pieces[0].wide
    rows = torch.cat([torch.arange(size).view(CLASSES, 64), size + torch.arange(CLASSES)[:, None]], 1)
    exact = exact[rows.flatten()][:, rows.flatten()]
    found = matrix(kfac.fit(network, None, kind))
    assert found.shape == (CLASSES * wide, CLASSES * wide)
    assert (found - exact).norm() < 1e-4 * exact.norm()


def test_independent_gaussian_inputs_in_the_limit():
    """x Gaussian and logits that hardly depend on it: the factors are the curvature, up to sampling."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 5)).astype(np.float32)
    y = np.arange(3000) % 3

    def net():
        layer = nn.Linear(5, 3, bias=False)
        nn.init.normal_(layer.weight, std=0.01)
        return layer

    recipe = Recipe(net, epochs=1, batch_size=100, optimizer=study().recipe.optimizer)
    network = network_of(Study((x, y), (x[:4], y[:4]), recipe, ("margin",)))
    exact = curve.explicit(network, None)
    for kind in ("kfac", "ekfac"):
        assert (matrix(kfac.fit(network, None, kind)) - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("kind", ["kfac", "ekfac"])
@pytest.mark.parametrize("model", ["mlp", "conv", small])
def test_influences_equal_the_matrix_they_stand_for(kind, model):
    network = network_of(study(model))
    blocks = kfac.fit(network, None, kind)
    found = kfac.influences(network, blocks, 0.05, 0.01)
    expected = direct(network, blocks, 0.05, 0.01)
    assert (found - expected).norm() < 1e-3 * expected.norm()


def test_separable_inverse_equals_the_whole():
    network = network_of(study(small))
    block = kfac.fit(network, None, "kfac")[0]
    pieces = gradients(network, network.train.inputs(slice(None)), network.train.y, network.loss)
    inverse = 1 / (block.values + 0.1)
    parts = solved.separate(inverse.repeat(9, 1), block.values.repeat(9, 1))
    assert parts is not None and len(parts[0]) <= 6
    u, v = solved.separate(inverse.repeat(9, 1), block.values.repeat(9, 1))
    a, b = block.rotate(pieces[0])
    quick = solved.Separable(block, a[:, 0], b[:, 0], u[:, :6], v, inverse)
    slow = (torch.einsum("no,ni->noi", b[:, 0], a[:, 0]) * inverse).flatten(1)
    rotated = torch.einsum("no,ni->noi", b[:, 0], a[:, 0]).flatten(1)
    expected = slow @ rotated.T
    assert (quick.products(pieces[0]) - expected).norm() < 1e-3 * expected.norm()
    vector = torch.linspace(-1, 1, block.values.numel())
    whole = block.b @ slow.view(len(slow), *block.values.shape) @ block.a.T
    np.testing.assert_allclose(quick.product(vector), whole.flatten(1) @ vector, rtol=1e-3, atol=1e-4)


def test_eigenvalues_are_mean_squares_in_the_basis():
    """EK-FAC keeps the diagonal of the layer's Fisher matrix in the eigenvectors of K-FAC."""
    network = network_of(study("conv"))
    blocks = kfac.fit(network, None, "ekfac")
    x, y = network.train.inputs(slice(None)), network.train.y
    p = network.logits(network.parameters, x).softmax(1).detach()
    total = 0
    for c in range(CLASSES):
        piece = gradients(network, x, torch.full_like(y, c), network.loss)[0]
        assert isinstance(piece, Outer) and piece.b.shape[1] > 1
        rotated = blocks[0].b.T @ piece.flat().view(N, *blocks[0].values.shape) @ blocks[0].a
        total = total + (p[:, c, None, None] * rotated.square()).mean(0)
    torch.testing.assert_close(blocks[0].values, total, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("every", [16, 2])  # all classes, or one label drawn per example
def test_batches_and_seeds(every, monkeypatch):
    monkeypatch.setattr(kfac, "_ALL_CLASSES", every)
    subject = study("conv")
    scores = Influence("ekfac", damping=0.1, checkpoints=1).attribute(subject).weight
    monkeypatch.setattr(kfac, "_VALUES", 768 * 7)
    monkeypatch.setattr(kfac, "_SOLVED", 3 * 900)
    again = Influence("ekfac", damping=0.1, checkpoints=1).attribute(subject).weight
    np.testing.assert_allclose(scores, again, rtol=1e-3, atol=1e-4 * np.abs(scores).max())


def test_embeddings_have_a_diagonal_factor():
    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(11, 4), nn.Linear(4, CLASSES)

        def forward(self, x):
            return self.out(self.embed(x).mean(1))

    rng = np.random.default_rng(0)
    tokens, y = rng.integers(0, 11, (47, 5)), np.arange(47) % CLASSES
    recipe = Recipe(Bag, epochs=1, batch_size=10, optimizer=study().recipe.optimizer)
    subject = Study((tokens[:N], y[:N]), (tokens[N:], y[N:]), recipe, ("margin",))
    network = network_of(subject)
    blocks = kfac.fit(network, None, "ekfac")
    assert blocks[0].a is None and blocks[0].values.shape == (4, 11)
    expected = direct(network, blocks, 0.05)
    assert (kfac.influences(network, blocks, 0.05) - expected).norm() < 1e-3 * expected.norm()


def test_squares_that_overflow_are_one_sentence():
    with pytest.raises(InputError, match="squares are not finite"):
        kfac._eigen(torch.tensor([[float("inf"), 0.0], [0.0, 1.0]]))
