"""Operations made for second derivatives have those of torch's own."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from whence.training import BatchNorm2d
from whence.training.batchnorm import differentiable_statistics, example_weights
from whence.training.curvature import Convolution, twice_differentiable

F64 = torch.float64


def second(layer, x, weights, parameters):
    """Output, its gradient, and the gradients of a number made of that gradient and of the buffers."""
    stream = torch.Generator().manual_seed(1)

    def mixed(tensors):
        return sum((t * torch.randn(t.shape, dtype=F64, generator=stream)).sum() for t in tensors)

    buffers = {key: value.clone() for key, value in layer.named_buffers()}
    with differentiable_statistics(), example_weights(weights):
        y = torch.func.functional_call(layer, (parameters, buffers), (x,))
    loss = (y.square() * weights[:, None, None, None]).sum()
    first = torch.autograd.grad(loss, [x, *parameters.values()], create_graph=True)
    moved = [b for b in buffers.values() if b.requires_grad]
    total = mixed(first) + mixed(moved) + mixed([y])
    return [y, *first, *torch.autograd.grad(total, [x, weights, *parameters.values()])]


LAYERS = {
    "batch norm": lambda: BatchNorm2d(4),
    "without scale": lambda: BatchNorm2d(4, affine=False),
    "conv": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "grouped conv": lambda: nn.Conv2d(4, 6, 2, groups=2, bias=False),
    "gelu": nn.GELU,
    "tanh gelu": lambda: nn.GELU("tanh"),
    "net": lambda: nn.Sequential(
        nn.Conv2d(4, 3, 3), BatchNorm2d(3), nn.GELU(), nn.Conv2d(3, 2, 1), nn.GELU()
    ),
}


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_second_derivatives_are_torch_s(layer, zero):
    torch.manual_seed(0)
    made = LAYERS[layer]().to(F64)
    x = torch.randn(5, 4, 6, 7, dtype=F64, requires_grad=True)
    weights = torch.rand(5, dtype=F64) + 0.5
    weights[1] = 0 if zero else 1
    weights.requires_grad_()
    parameters = {
        k: (p.detach() + 0.3 * torch.rand_like(p)).requires_grad_() for k, p in made.named_parameters()
    }
    reference = second(made, x, weights, parameters)
    with twice_differentiable():
        found = second(made, x, weights, parameters)
    for a, b in zip(found, reference, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


def test_convolution_that_is_its_own_check():
    how = ([1, 2], [1, 0], [1, 1], 1)
    x = torch.randn(2, 2, 5, 4, dtype=F64, requires_grad=True)
    weight = torch.randn(3, 2, 2, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, w: Convolution.apply(x, w, how), (x, weight))


def test_other_operations_are_left_alone():
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(2, 2, 3, 3)
    with twice_differentiable():
        for call in (
            lambda: F.conv2d(x, weight, padding="same"),
            lambda: F.conv2d(x[0], weight),
            lambda: F.gelu(x, approximate="tanh"),
        ):
            assert torch.equal(call(), _outside(call))


def _outside(call):
    with torch._C.DisableTorchFunction():
        return call()
