"""The least change of weights that moves outputs, against autograd and the pseudo-inverse."""

import copy

import pytest
import torch
from torch import nn

from tests.applications.unlearning.studies import bases, study
from whence.errors import InputError
from whence.training.finetune import Finetuner
from whence.training.tangent import Tangent, contrasts


def tangent(model="mlp", ridge=1e-9, subject=None):
    subject = subject or study(model)
    tuner = Finetuner(subject, dtype=torch.float64)
    state = tuner.load(bases(subject, 1))
    parameters = {key: value[0] for key, value in state.parameters.items()}
    buffers = {key: value[0] for key, value in state.buffers.items()}
    return Tangent(tuner.network, parameters, buffers, tuner.data, ridge), parameters


def test_contrasts_lose_nothing_of_centred_logits():
    for classes in (2, 3, 7):
        basis = contrasts(classes, torch.zeros(1, dtype=torch.float64))
        torch.testing.assert_close(basis.T @ basis, torch.eye(classes - 1, dtype=torch.float64))
        z = torch.randn(4, classes, dtype=torch.float64)
        torch.testing.assert_close(z @ basis @ basis.T, z - z.mean(1, keepdim=True))


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_jacobian_and_step_are_those_of_autograd(model):
    found, parameters = tangent(model)
    names = list(parameters)

    def outputs(*values):
        given = dict(zip(names, values, strict=True))
        x = found.data.inputs(slice(None))
        return torch.func.functional_call(found.network, {**found.buffers, **given}, (x,)) @ found.basis

    parts = torch.autograd.functional.jacobian(outputs, tuple(parameters.values()))
    jacobian = torch.cat([part.flatten(2) for part in parts], 2).flatten(0, 1)
    torch.testing.assert_close(found.jacobian, jacobian, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.outputs(parameters), outputs(*parameters.values()))
    change = torch.randn(found.outputs(parameters).shape, dtype=torch.float64)
    moved = found.moved(parameters, change)
    step = torch.cat([(moved[name] - parameters[name]).flatten() for name in names])
    least = torch.linalg.pinv(jacobian) @ change.flatten()
    if len(jacobian) <= jacobian.shape[1]:  # as many weights as outputs: all are reached, by the least change
        torch.testing.assert_close(step, least, rtol=1e-4, atol=1e-7)
    # a small step does what it is to do
    small = found.moved(parameters, 1e-6 * change)
    reached = (found.outputs(small) - found.outputs(parameters)) * 1e6
    torch.testing.assert_close(reached, (jacobian @ step).view_as(reached), rtol=1e-3, atol=1e-4)


def test_a_large_ridge_hardly_moves():
    (loose, parameters), (tight, _) = tangent(ridge=1e-6), tangent(ridge=1e6)
    change = torch.ones_like(loose.outputs(parameters))
    size = [
        sum((t.moved(parameters, change)[k] - v).square().sum() for k, v in parameters.items())
        for t in (loose, tight)
    ]
    assert size[1] < 1e-6 * size[0]


def test_weights_that_are_not_finite_are_refused():
    found, parameters = tangent()
    broken = copy.deepcopy(parameters)
    next(iter(broken.values()))[0, 0] = torch.nan
    with pytest.raises(InputError, match="not positive definite"):
        Tangent(found.network, broken, found.buffers, found.data, 0.1)


def test_layers_that_examples_share_are_those_of_evaluation():
    found, _ = tangent("conv")
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in found.network.modules())
    assert not found.network.training
