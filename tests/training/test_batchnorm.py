"""Batch norm with example weights, beside torch's own layer: values, gradients and every buffer."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from whence.training import BatchNorm2d
from whence.training.batchnorm import evaluating_stacks, example_weights, has_foreign_batchnorm


def batches(count=3, size=6, channels=4):
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(size, channels, 3, 5, generator=generator) * 2 + 1 for _ in range(count)]


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": 0.3}, {"momentum": 0.0}, {"momentum": None}, {"affine": False}, {"eps": 0.1}],
)
def test_equal_weights_give_torchs_layer_over_several_batches(weight, options):
    ours, theirs = BatchNorm2d(4, **options), nn.BatchNorm2d(4, **options)
    for x in batches():
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        with example_weights(torch.full((6,), weight)):
            y = ours(a)
        z = theirs(b)
        torch.testing.assert_close(y, z, rtol=1e-5, atol=1e-5)
        for out in (y, z):
            (out.sin() * out).sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)
    mine, other = ours.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    for key, value in other.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-5, atol=1e-6, msg=key)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_a_weight_of_two_is_the_example_twice():
    x = batches(1)[0]
    weighted, twice = BatchNorm2d(4), BatchNorm2d(4)
    with example_weights(torch.tensor([2.0, 1, 1, 1, 1, 1])):
        y = weighted(x)
    z = twice(torch.cat([x, x[:1]]))
    torch.testing.assert_close(y, z[:6], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weighted.running_mean, twice.running_mean)


@pytest.mark.parametrize("inputs", [1e3, 1e-3, 0.0])
def test_no_gradient_reaches_an_example_of_weight_zero(inputs):
    x = (batches(1)[0] * inputs).requires_grad_()
    weights = torch.tensor([1.0, 0, 1, 0, 1, 1])
    layer = BatchNorm2d(4)
    with example_weights(weights):
        y = layer(x)
    (y[weights > 0] ** 2 * 3).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[weights == 0] == 0).all()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_of_left_out_examples_changes_no_buffer(momentum):
    layer = BatchNorm2d(4, momentum=momentum)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    with example_weights(torch.zeros(6)):
        y = layer(batches(1)[0])
    assert torch.isfinite(y).all()
    for key, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


def test_without_running_statistics_and_in_evaluation_mode():
    x, weights = batches(1)[0], torch.ones(6)
    with example_weights(weights):
        y = BatchNorm2d(4, track_running_stats=False)(x)
        torch.testing.assert_close(y, nn.BatchNorm2d(4)(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(BatchNorm2d(4).eval()(x), nn.BatchNorm2d(4).eval()(x))


def test_bfloat16_goes_in_and_comes_out():
    x = batches(1)[0].bfloat16()
    layer = BatchNorm2d(4)
    with example_weights(torch.ones(6)):
        y = layer(x)
    assert (y.dtype, layer.running_mean.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(y.float(), nn.BatchNorm2d(4)(x.float()), rtol=0.02, atol=0.02)


def test_weights_hold_inside_their_context_only():
    x, skewed = batches(1)[0], torch.tensor([1.0, 0, 0, 0, 0, 1])
    plain = BatchNorm2d(4)(x)
    with pytest.raises(RuntimeError), example_weights(skewed):
        with example_weights(None):
            torch.testing.assert_close(BatchNorm2d(4)(x), plain)
        assert not torch.allclose(BatchNorm2d(4)(x), plain)
        raise RuntimeError
    torch.testing.assert_close(BatchNorm2d(4)(x), plain)


def test_stacked_layers_are_separate_layers():
    xs, weights = (
        torch.stack(batches(3)),
        torch.rand(3, 6, generator=torch.Generator().manual_seed(0)).round(),
    )
    weights[:, 0] = 1
    layer = BatchNorm2d(4)

    def run(buffers, x, w):
        buffers = {key: value.clone() for key, value in buffers.items()}
        with example_weights(w):
            return torch.func.functional_call(layer, buffers, (x,)), buffers

    start = {key: torch.stack([value] * 3) for key, value in layer.named_buffers()}
    y, after = torch.func.vmap(run)(start, xs, weights)
    for i in range(3):
        alone = BatchNorm2d(4)
        with example_weights(weights[i]):
            torch.testing.assert_close(y[i], alone(xs[i]), rtol=1e-5, atol=1e-5)
        for key, value in alone.named_buffers():
            torch.testing.assert_close(after[key][i], value, msg=key)


def test_foreign_layers_are_found_at_any_depth():
    def deep(norm):
        return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Sequential(norm)))

    assert not has_foreign_batchnorm(deep(BatchNorm2d(2)))
    assert not has_foreign_batchnorm(deep(nn.GroupNorm(1, 2)))
    for foreign in (nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2)):
        assert has_foreign_batchnorm(deep(foreign))


@pytest.mark.parametrize("kind", [BatchNorm2d, nn.BatchNorm2d])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"eps": 0.1}])
def test_stacks_are_evaluated_by_plain_arithmetic_where_that_is_asked_for(kind, options):
    x, layers = batches(1)[0], []
    for seed in range(3):
        torch.manual_seed(seed)
        layers.append(kind(4, **options))
        for tensor in (*layers[-1].parameters(), *layers[-1].buffers()):
            if tensor.is_floating_point():
                tensor.data = torch.rand(4) + 0.5
    parameters, buffers = torch.func.stack_module_state([layer.eval() for layer in layers])
    seen = []

    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    def one(p, b):
        return torch.func.functional_call(layers[0], (p, b), (x,))

    # any device but the CPU stands for a GPU here: nothing is placed on it
    with torch.no_grad(), evaluating_stacks(torch.device("meta")), Seen():
        found = torch.func.vmap(one)(parameters, buffers)
    assert seen and not any("batch_norm" in name for name in seen)
    wanted = torch.stack([layer(x) for layer in layers])
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
