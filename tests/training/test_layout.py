"""Gradients keep the layout of what they belong to, at unchanged values."""

import pytest
import torch
from torch import nn

from tests.training.studies import study, tiny_conv
from whence.training.layout import channels_last_gradients, flattening, pooling_first
from whence.training.step import Batch, Step, initial_state


def gradients(net, x, layers):
    """What arrives behind the flattening (in the hooks' order: ours is the later one), and at the weights."""
    seen = []
    with channels_last_gradients(layers):
        inner = net[:3](x)
        out = net[3:](inner)
    inner.register_hook(seen.append)
    (out**2).sum().backward()
    return seen[0], net[0].weight.grad.clone()


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_gradient_has_the_layout_of_the_input_and_the_same_values(channels_last):
    torch.manual_seed(0)
    net = tiny_conv(nn.BatchNorm2d)
    x = torch.randn(5, 8, 8, 1).movedim(-1, 1) if channels_last else torch.randn(5, 1, 8, 8)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    plain, plain_weight = gradients(net, x, [])
    net.zero_grad()
    laid, laid_weight = gradients(net, x, flattening(net))
    assert not plain.is_contiguous(memory_format=torch.channels_last)
    assert laid.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert torch.equal(plain, laid)
    torch.testing.assert_close(laid_weight, plain_weight)


def test_a_step_leaves_no_hook_on_the_network():
    trainer = study("conv").trainer()
    step = Step(trainer.model, trainer.recipe)
    step(
        initial_state(trainer.model, trainer.recipe),
        Batch(trainer.data.inputs(slice(0, 8)), trainer.data.y[:8], 0.1),
        None,
    )
    assert step.flattening
    assert all(not layer._forward_pre_hooks and not layer._forward_hooks for layer in trainer.model.modules())


def test_networks_without_convolutions_are_not_touched():
    assert flattening(nn.Sequential(nn.Flatten(), nn.Linear(4, 2))) == []


def pooled(*layers):
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), *layers, nn.Flatten())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)])
def test_pooling_before_relu_changes_no_bit(pool, dtype):
    torch.manual_seed(0)
    net = nn.Sequential(pooled(nn.ReLU(), pool), nn.LazyLinear(2)).to(dtype)
    x = torch.randn(6, 2, 8, 8, dtype=dtype).round(decimals=1)  # ties, and windows without a positive value
    net(x)
    turned = pooling_first(net)
    assert [type(layer) for layer in turned[0]] == [nn.Conv2d, type(pool), nn.ReLU, nn.Flatten]
    assert [type(layer) for layer in net[0]] == [nn.Conv2d, nn.ReLU, type(pool), nn.Flatten]
    assert dict(turned.named_parameters()).keys() == dict(net.named_parameters()).keys()
    found = []
    for one in (net, turned):
        given = x.clone().requires_grad_()
        out = one(given)
        found.append([out, *torch.autograd.grad(out.float().square().sum(), [given, *one.parameters()])])
    for mine, plain in zip(*found, strict=True):
        assert torch.equal(mine, plain)


def test_layers_that_somebody_watches_or_calls_by_name_are_left_where_they_are():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = pooled(nn.ReLU(), nn.MaxPool2d(2))

        def forward(self, x):
            return self.body(x)

    watched = pooled(nn.ReLU(), nn.MaxPool2d(2))
    watched[1].register_forward_hook(lambda *_: None)
    indices = pooled(nn.ReLU(), nn.MaxPool2d(2, return_indices=True))
    other = pooled(nn.MaxPool2d(2), nn.ReLU(), nn.AvgPool2d(2))
    for net in (Own(), nn.Sequential(Own()), watched, indices, other):
        assert pooling_first(net) is net
