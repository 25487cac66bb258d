"""A small change of weights that moves outputs, against autograd, the pseudo-inverse and Krylov spaces."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from tests.applications.unlearning.studies import bases, study
from whence.errors import InputError
from whence.training.finetune import Finetuner
from whence.training.tangent import Tangent, contrasts, least_squares


def tangent(model="mlp", points=range(30)):
    subject = study(model)
    tuner = Finetuner(subject, dtype=torch.float64)
    state = tuner.load(bases(subject, 1))
    parameters = {key: value[0] for key, value in state.parameters.items()}
    buffers = {key: value[0] for key, value in state.buffers.items()}
    return Tangent(tuner.network, parameters, buffers, tuner.data, torch.tensor(points)), parameters


def test_contrasts_lose_nothing_of_centred_logits():
    for classes in (2, 3, 7):
        basis = contrasts(classes, torch.zeros(1, dtype=torch.float64))
        torch.testing.assert_close(basis.T @ basis, torch.eye(classes - 1, dtype=torch.float64))
        z = torch.randn(4, classes, dtype=torch.float64)
        torch.testing.assert_close(z @ basis @ basis.T, z - z.mean(1, keepdim=True))


@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_jacobian_and_step_are_those_of_autograd(model):
    found, parameters = tangent(model, [4, 0, 17, 5, 9])
    names = list(parameters)

    def outputs(*values):
        given = dict(zip(names, values, strict=True))
        x = found.data.inputs(found.points)
        return torch.func.functional_call(found.network, {**found.buffers, **given}, (x,)) @ found.basis

    parts = torch.autograd.functional.jacobian(outputs, tuple(parameters.values()))
    jacobian = torch.cat([part.flatten(2) for part in parts], 2).flatten(0, 1)
    torch.testing.assert_close(found.jacobian, jacobian, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.outputs(parameters), outputs(*parameters.values()))
    change = torch.randn(
        found.outputs(parameters).shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    moved = found.moved(parameters, change, 1e-9, 300)
    step = torch.cat([(moved[name] - parameters[name]).flatten() for name in names])
    least = torch.linalg.pinv(jacobian) @ change.flatten()
    torch.testing.assert_close(step, least, rtol=1e-3, atol=1e-5)
    # a small step does what it is to do
    small = found.moved(parameters, 1e-6 * change, 1e-9, 300)
    reached = (found.outputs(small) - found.outputs(parameters)) * 1e6
    torch.testing.assert_close(reached, (jacobian @ step).view_as(reached), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(12, 5), (5, 12)])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_least_squares(shape, ridge):
    rng = torch.Generator().manual_seed(1)
    matrix = torch.randn(shape, dtype=torch.float64, generator=rng)
    goal = torch.randn(shape[0], dtype=torch.float64, generator=rng)
    exact = torch.linalg.pinv(matrix.T @ matrix + ridge * torch.eye(shape[1])) @ matrix.T @ goal

    def objective(x):
        return float((matrix @ x - goal).square().sum() + ridge * x.square().sum())

    found = [least_squares(matrix, goal, ridge, k) for k in range(9)]
    values = [objective(x) for x in found]
    assert not found[0].any() and all(a > b for a, b in pairwise(values[:6]))
    torch.testing.assert_close(found[5], exact)  # the rank of the matrix
    torch.testing.assert_close(found[8], exact)  # no step is taken where nothing is left to do
    # each is the best of the Krylov space of its size
    normal = matrix.T @ matrix
    space = [matrix.T @ goal]
    for x in found[1:4]:
        basis = torch.linalg.qr(torch.stack(space, 1))[0]
        small = torch.linalg.solve(basis.T @ (normal @ basis + ridge * basis), basis.T @ (matrix.T @ goal))
        torch.testing.assert_close(x, basis @ small)
        space.append(normal @ space[-1])


def test_nothing_to_change_changes_nothing():
    found, parameters = tangent()
    still = found.moved(parameters, torch.zeros_like(found.outputs(parameters)), 0.1, 5)
    assert all(torch.equal(still[name], value) for name, value in parameters.items())


def test_a_large_ridge_hardly_moves():
    found, parameters = tangent()
    change = torch.ones_like(found.outputs(parameters))

    def size(ridge):
        moved = found.moved(parameters, change, ridge, 20)
        return sum((moved[k] - v).square().sum() for k, v in parameters.items())

    assert size(1e6) < 1e-6 * size(1e-6)


def test_weights_that_are_not_finite_are_refused():
    found, parameters = tangent()
    broken = copy.deepcopy(parameters)
    next(iter(broken.values()))[0, 0] = torch.nan
    with pytest.raises(InputError, match="not all finite"):
        Tangent(found.network, broken, found.buffers, found.data, found.points)


def test_layers_that_examples_share_are_those_of_evaluation():
    found, _ = tangent("conv")
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in found.network.modules())
    assert not found.network.training
