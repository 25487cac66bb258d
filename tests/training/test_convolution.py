"""The convolution and batch norm of stacks beside torch's own: values and gradients."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.training.studies import masks, study, train
from whence.training import BatchNorm2d, convolution
from whence.training.batchnorm import closed_form, example_weights
from whence.training.convolution import stacking
from whence.training.networks import conv_net
from whence.training.recorded import stacked_step
from whence.training.stacked import _fresh, _stack
from whence.training.step import Batch, Step

CPU = torch.device("cpu")
SHAPES = [  # kernel, stride, padding, image
    ((1, 1), (1, 1), (0, 0), (5, 6)),
    ((1, 1), (2, 2), (0, 0), (5, 6)),
    ((3, 3), (1, 1), (1, 1), (6, 7)),
    ((3, 3), (2, 2), (1, 1), (8, 7)),
    ((3, 3), (2, 2), (0, 0), (8, 7)),
    ((4, 4), (4, 4), (0, 0), (8, 11)),
    ((4, 4), (4, 4), (2, 2), (8, 11)),
    ((5, 3), (2, 1), (2, 0), (9, 7)),
    ((2, 2), (3, 3), (0, 0), (8, 9)),  # pixels that no window sees
    ((3, 3), (1, 1), (4, 3), (4, 5)),  # windows that see no pixel
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding", "image"), SHAPES)
def test_convolution_is_torchs(kernel, stride, padding, image, bias):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    given = [random(2, 3, *image), random(4, 3, *kernel), *([random(4)] if bias else [])]
    expected = F.conv2d(*given, stride=stride, padding=padding)
    with stacking(CPU):
        y = F.conv2d(*given, stride=stride, padding=padding)
    torch.testing.assert_close(y, expected)
    back = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    ours, theirs = torch.autograd.grad(y, given, back), torch.autograd.grad(expected, given, back)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_versions_that_cannot_map_long_words_get_the_same_bits(monkeypatch):
    subject, rows = study("conv"), masks(4)
    expected = train(subject, rows, range(4), stack=4)
    view = torch.Tensor.view

    def unmapped(x, *shape):
        # PyTorch 2.11 has no batching rule for view(dtype), whatever the dtype
        if isinstance(shape[0], torch.dtype) and torch._C._functorch.is_batchedtensor(x):
            raise RuntimeError("Batching rule not implemented for aten::view.dtype")
        return view(x, *shape)

    convolution._reinterprets.cache_clear()
    monkeypatch.setattr(torch.Tensor, "view", unmapped)
    try:
        assert not convolution._reinterprets()
        found = train(study("conv"), rows, range(4), stack=4)
    finally:
        convolution._reinterprets.cache_clear()
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)


def test_what_it_does_not_cover_stays_torchs():
    x, weight = torch.randn(2, 4, 6, 6), torch.randn(4, 4, 3, 3)
    for options in ({"dilation": 2}, {"padding": "same"}):
        with stacking(CPU):
            y = F.conv2d(x, weight, **options)
        assert torch.equal(y, F.conv2d(x, weight, **options))
    with stacking(CPU):
        y, alone = F.conv2d(x, weight[:, :2], groups=2), F.conv2d(x[0], weight)
    assert torch.equal(y, F.conv2d(x, weight[:, :2], groups=2))
    assert torch.equal(alone, F.conv2d(x[0], weight))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("weights", [[1.0, 1, 1, 1, 1], [0.5, 0, 2, 1, 0], [0.0] * 5])
def test_batch_norm_in_closed_form_is_batch_norm(weights, affine):
    torch.manual_seed(0)
    weights = torch.tensor(weights, dtype=torch.float64)
    x = torch.randn(5, 4, 3, 6, dtype=torch.float64) * 3 + 2
    back, found = torch.randn_like(x), []
    for closed in (False, True):
        layer = BatchNorm2d(4, affine=affine).double()
        if affine:
            nn.init.uniform_(layer.weight, generator=torch.Generator().manual_seed(1))
        leaf = x.clone().requires_grad_()
        with example_weights(weights):
            if closed:
                with closed_form():
                    y = layer(leaf)
            else:
                y = layer(leaf)
        gradients = torch.autograd.grad(y, [leaf, *layer.parameters()], back)
        found.append([y, *gradients, layer.running_mean, layer.running_var, layer.num_batches_tracked])
    for mine, other in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(mine, other)


def networks():
    pooled = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, 2, 1),
        BatchNorm2d(4),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    return {"shipped": lambda: conv_net((1, 8, 8), 3, 4), "pooled": lambda: pooled}


@pytest.mark.parametrize("precision", ["float32", "mixed"])
@pytest.mark.parametrize("name", networks())
def test_a_stacked_step_is_the_step_to_rounding(name, precision):
    trainer = study(networks()[name], precision=precision).trainer()
    state = _stack([_fresh(trainer.step, seed) for seed in range(3)], CPU)
    index = torch.randint(0, 40, (3, 8), generator=torch.Generator().manual_seed(0))
    batch = Batch(trainer.data.inputs(index), trainer.data.y[index], torch.tensor(0.1))
    weights = torch.tensor([[1.0] * 8, [1.0] * 5 + [0.0] * 3, [0.5, 2.0] * 4])
    together = stacked_step(trainer.step, state, batch, weights)(state, *batch, weights)
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if precision == "float32" else {"rtol": 0.02, "atol": 0.01}
    for i in range(3):
        alone = Step(trainer.model, trainer.recipe, trainer.mixed)(
            _fresh(trainer.step, i), Batch(batch.x[i], batch.y[i], 0.1), weights[i]
        )
        for mine, other in ((together.parameters, alone.parameters), (together.buffers, alone.buffers)):
            for key, value in other.items():
                torch.testing.assert_close(mine[key][i], value, msg=key, **tolerance)


def test_a_stack_computes_no_grouped_convolution():
    trainer = study("conv").trainer()
    state = _stack([_fresh(trainer.step, seed) for seed in range(2)], CPU)
    index = torch.arange(16).view(2, 8)
    batch = Batch(trainer.data.inputs(index), trainer.data.y[index], torch.tensor(0.1))
    recording = stacked_step(trainer.step, state, batch, torch.ones(2, 8))
    assert not [node for node in recording.graph.nodes if "convolution" in str(node.target)]
