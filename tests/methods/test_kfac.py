"""Kronecker-factored influence where it must be exact, and against its formula where it is not."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.studies import CLASSES, study
from whence.methods.gradients import kfac
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.network import Network
from whence.methods.influence import Influence


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))


def flat(network):
    """Gradients (n * classes, p) of the loss at every label, times the root of its probability."""
    rows = [torch.cat([p.flat() for p in pieces], 1) for pieces, _ in kfac._passes(network, None, 0)]
    return torch.cat(rows).double()


@pytest.mark.parametrize("kind", ["kfac", "ekfac"])
def test_exact_for_one_linear_layer_whose_errors_do_not_depend_on_its_inputs(kind):
    """At weights 0 every label is as likely for every input, so the Fisher matrix is a Kronecker product."""
    subject = study(linear)
    state = {key: torch.zeros_like(value) for key, value in linear().state_dict().items()}
    scores = Influence(kind, damping=0.05, checkpoints=[state]).attribute(subject).weight
    exact = Influence("explicit", damping=0.05, checkpoints=[state]).attribute(subject).weight
    assert np.abs(scores - exact).max() < 1e-4 * np.abs(exact).max()


def test_eigenvalues_are_mean_squares_in_the_kronecker_basis():
    subject = study(linear)
    torch.manual_seed(0)
    network = Network(subject, "margin").load(checkpoints(subject, [linear().state_dict()])[0])
    (block,) = kfac.fit(network, None, "ekfac")
    gradients = flat(network).unflatten(1, (CLASSES, 65))
    rotated = block.b.double().T @ gradients @ block.a.double()
    expected = rotated.square().sum(0) / len(network.train.y)
    assert torch.allclose(block.values.double(), expected, rtol=1e-3, atol=1e-6 * expected.max())
    # what K-FAC has instead: products of eigenvalues, of the same trace only where factors are independent
    (plain,) = kfac.fit(network, None, "kfac")
    assert not torch.allclose(plain.values, block.values, rtol=1e-2)


def test_ekfac_is_nearer_to_the_whole_matrix_than_no_curvature():
    subject = study(linear)
    torch.manual_seed(1)
    state = linear().state_dict()
    found = {
        kind: Influence(kind, damping=0.05, checkpoints=[state]).attribute(subject).weight.ravel()
        for kind in ("explicit", "ekfac", "kfac", "identity")
    }
    near = {k: np.corrcoef(found["explicit"], v)[0, 1] for k, v in found.items()}
    assert near["ekfac"] > 0.95 and near["ekfac"] > near["identity"]
