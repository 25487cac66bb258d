"""The tanh-Gaussian loss against torch's own distributions; tanh once, the bounds, no overflow."""

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from whence.errors import InputError
from whence.study._describe import describe_callable
from whence.study.robots import TanhGaussian


def reference(outputs, actions):
    mean, log_std = outputs.chunk(2, -1)
    squashed = TransformedDistribution(Normal(mean, log_std.clamp(-20, 2).exp()), TanhTransform())
    return -Independent(squashed, 1).log_prob(actions)


def test_it_is_the_density_of_a_squashed_normal():
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(50, 8, generator=generator, dtype=torch.float64)
    actions = torch.tanh(torch.randn(50, 4, generator=generator, dtype=torch.float64))
    torch.testing.assert_close(TanhGaussian()(outputs, actions), reference(outputs, actions))


def test_the_density_integrates_to_one():
    grid = torch.linspace(-1 + 1e-5, 1 - 1e-5, 400_001, dtype=torch.float64)[:, None]
    outputs = torch.tensor([[0.4, -0.3]], dtype=torch.float64).expand(len(grid), 2)
    density = torch.exp(-TanhGaussian(margin=1e-9)(outputs, grid))
    assert torch.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=1e-3)


def test_tanh_is_applied_once():
    outputs = torch.tensor([[2.0, -0.5, 0.0, 0.0]])
    np.testing.assert_allclose(TanhGaussian().action(outputs), np.tanh([[2.0, -0.5]]), rtol=1e-6)
    # the most likely u of an action is its atanh: a second tanh would put it at tanh(tanh(u))
    u = torch.linspace(-3, 3, 601)[:, None]
    action = torch.tanh(torch.tensor([[1.5]])).expand(len(u), 1)
    losses = TanhGaussian()(torch.cat([u, torch.zeros_like(u)], 1), action)
    assert float(u[losses.argmin()]) == pytest.approx(1.5, abs=0.011)


def test_the_log_std_is_held_in_its_bounds():
    actions = torch.zeros(1, 1)
    loss = TanhGaussian()
    at = [loss(torch.tensor([[0.0, s]]), actions) for s in (2.0, 7.0, -20.0, -99.0)]
    assert at[0] == at[1] and at[2] == at[3]
    assert TanhGaussian(lowest=-1.0)(torch.tensor([[0.0, -5.0]]), actions) > at[2]


def test_actions_at_the_limits_are_finite_and_so_are_gradients():
    outputs = torch.randn(4, 8, requires_grad=True)
    actions = torch.tensor([[1.0, -1.0, 0.0, 1.0]]).expand(4, 4)
    loss = TanhGaussian()(outputs, actions)
    (gradient,) = torch.autograd.grad(loss.sum(), outputs)
    assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()


def test_it_can_be_mapped_and_described():
    loss, outputs, actions = TanhGaussian(), torch.randn(5, 4), torch.tanh(torch.randn(5, 2))
    mapped = torch.func.vmap(lambda o, a: loss(o[None], a[None])[0])(outputs, actions)
    torch.testing.assert_close(mapped, loss(outputs, actions))
    assert describe_callable(loss) != describe_callable(TanhGaussian(margin=0.01))


def test_bounds_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="must be below highest"):
        TanhGaussian(lowest=3.0)
    with pytest.raises(InputError, match="margin must lie in"):
        TanhGaussian(margin=0.0)
