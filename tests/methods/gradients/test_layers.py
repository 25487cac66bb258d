"""Per-example gradients against plain autograd, one example at a time."""

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.errors import InputError
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.kernel import dots, pieces_of, squares
from whence.methods.gradients.layers import gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer, join


class Tied(nn.Module):
    """An embedding used for reading and for the output layer, attention, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 6, padding_idx=0)
        self.place = nn.Parameter(torch.randn(5, 6))
        self.query, self.value = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.words.weight
        self.head = nn.Linear(11, 3)

    def forward(self, x):
        h = self.words(x) + self.place
        h = h + torch.softmax(self.query(h) @ h.transpose(-1, -2), -1) @ self.value(h)
        return self.head(self.out(self.norm(h)).mean(-2))


class Twice(nn.Module):
    """The same layer called twice, and one that nothing depends on."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.idle = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x):
        self.idle(x)
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(11, 4, padding_idx=0), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.words(x).mean(1))


class Placed(nn.Module):
    """Positions looked up once for the whole batch, as transformers do, with and without a batch axis."""

    def __init__(self, axis):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 4), nn.Embedding(5, 4)
        self.head, self.axis = nn.Linear(4, 3), axis

    def forward(self, x):
        places = torch.arange(x.shape[-1])
        h = self.words(x) + self.places(places[None] if self.axis else places)
        return self.head(torch.tanh(h).mean(-2))


class Reused(nn.Module):
    """The weight of a layer is used once more outside of it."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.first(x)) @ self.first.weight)


class Folded(nn.Module):
    """Examples and positions share one axis on their way through a layer, or the batch comes second."""

    def __init__(self, second):
        super().__init__()
        self.layer, self.head, self.second = nn.Linear(4, 5), nn.Linear(5, 3), second

    def forward(self, x):
        if self.second:
            return self.head(torch.tanh(self.layer(x.transpose(0, 1))).mean(0))
        return self.head(torch.tanh(self.layer(x.flatten(0, 1))).unflatten(0, x.shape[:2]).mean(1))


class Scaled(nn.Module):
    """A normalisation of one's own, as in Llama: a layer without a rule."""

    def __init__(self, wide):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(wide))

    def forward(self, x):
        return self.weight * x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


class Branching(nn.Module):
    """Looks at numbers, which torch.func cannot map over."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(4)), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(x * self.scale if float(x.detach().sum()) < 1e9 else x)


def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, 2, dilation=2, bias=False),
        nn.GroupNorm(2, 6),
        nn.Conv2d(6, 6, 1, groups=3),
        nn.Flatten(),
        nn.Linear(6 * 2 * 2, 3),
    )


def sequence():
    return nn.Sequential(
        nn.Conv1d(2, 3, 3, padding=1), nn.LayerNorm([3, 7]), nn.GELU(), nn.Flatten(), nn.Linear(21, 3)
    )


NETWORKS = {
    "linear": (lambda: nn.Linear(4, 3), (4,)),
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 3)), (4,)),
    "convolutions": (convolutions, (3, 8, 8)),
    "conv1d": (sequence, (2, 7)),
    "shared layer": (Twice, (4,)),
    "embedding": (Words, "words"),
    "tied attention": (Tied, "words"),
    "positions": (lambda: Placed(True), "words"),
    "positions without a batch axis": (lambda: Placed(False), "words"),
    "weight used twice": (Reused, (4,)),
    "folded": (lambda: Folded(False), (5, 4)),
    "batch second": (lambda: Folded(True), (5, 4)),
    "no rule": (lambda: nn.Sequential(nn.Linear(4, 6), Scaled(6), nn.Linear(6, 3)), (4,)),
    "looks at numbers": (Branching, (4,)),
}


def network_of(name, output="margin", n=9):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    x = random.integers(0, 11, (n + 4, 5)) if shape == "words" else random.normal(size=(n + 4, *shape))
    x = x if shape == "words" else x.astype(np.float32)
    y = random.integers(0, 3, n + 4)
    y[:3] = range(3)
    study = whence.Study(
        train=(x[:n], y[:n]),
        targets=(x[n:], y[n:]),
        recipe=whence.Recipe(make, 1, 4, whence.SGD(0.1)),
        classes=list("abc"),
    )
    model = make()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    state = {k: v.detach().clone() for k, v in (*model.named_parameters(), *model.named_buffers())}
    network = Network(study, output)
    return network.load(checkpoints(study, [state])[0])


def by_autograd(network, x, y, scalar):
    """{parameter: (b, *shape)}, one example after the other."""
    keys = list(network.parameters)
    found = {k: [] for k in keys}
    for i in range(len(x)):
        leaves = {k: v.clone().requires_grad_() for k, v in network.parameters.items()}
        value = scalar(network.logits(leaves, x[i : i + 1]), y[i : i + 1]).sum()
        grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
        for k, g in zip(keys, grads, strict=True):
            found[k].append(g)
    return {k: torch.stack(v) for k, v in found.items()}


@pytest.mark.parametrize("scalar", ["output", "loss"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_autograd(name, scalar):
    network = network_of(name)
    (_, x, y), *_ = network.batches(network.train, 100)
    found = {}
    for piece in gradients(network, x, y, getattr(network, scalar)):
        found |= piece.parameters()
    expected = by_autograd(network, x, y, getattr(network, scalar))
    assert set(found) == set(expected)
    for key, values in expected.items():
        assert torch.allclose(found[key], values, rtol=1e-4, atol=1e-5 * values.abs().max() + 1e-7), key


@pytest.mark.parametrize("name", NETWORKS)
def test_dots_are_those_of_the_flat_gradients(name):
    network = network_of(name)
    train = pieces_of(network, network.train, network.loss, batch=4)
    targets = pieces_of(network, network.targets, network.output, batch=4)
    flat = [torch.cat([p.flat() for p in pieces], 1) for pieces in (targets, train)]
    expected = flat[0] @ flat[1].T
    assert torch.allclose(dots(targets, train), expected, rtol=1e-3, atol=1e-4 * expected.abs().max())
    assert torch.allclose(squares(train), flat[1].square().sum(1), rtol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_do_not_depend_on_the_batch(name):
    network = network_of(name)
    whole = pieces_of(network, network.train, network.loss, batch=100)
    split = pieces_of(network, network.train, network.loss, batch=2)
    for one, other in zip(whole, split, strict=True):
        assert torch.allclose(one.flat(), other.flat(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("tied attention", ["place"]),
        ("positions", []),
        ("positions without a batch axis", ["places.weight"]),
        ("weight used twice", ["first.weight", "first.bias"]),
        ("batch second", ["layer.weight", "layer.bias"]),
        ("no rule", []),
        ("convolutions", []),
        ("looks at numbers", ["scale"]),
    ],
)
def test_the_whole_network_is_gone_through_where_it_must(name, rest):
    network = network_of(name)
    (_, x, y), *_ = network.batches(network.train, 100)
    gradients(network, x, y, network.loss)
    assert network.layout.rest == rest and network.layout.mapped == (name != "looks at numbers")


@pytest.mark.parametrize("name", ["linear", "mlp", "convolutions", "conv1d", "embedding", "tied attention"])
def test_half_precision_gives_float32_gradients_near_the_others(name):
    network = network_of(name)
    (_, x, y), *_ = network.batches(network.train, 100)
    full = [piece.flat() for piece in gradients(network, x, y, network.output)]
    network.module.bfloat16()
    network.load(checkpoints(network.trainer.study, [dict(network.module.state_dict())])[0])
    x = x.bfloat16() if x.is_floating_point() else x
    for piece, exact in zip(gradients(network, x, y, network.output), full, strict=True):
        found = piece.flat()
        assert found.dtype == torch.float32
        # convolutions round most: ReLUs near 0 switch
        assert (found - exact).norm() <= 0.05 * exact.norm() + 1e-6, piece.name


def test_batches_of_different_lengths_are_joined():
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 5)
    long = Outer("x", a, b, 4, ("w",), (torch.Size((5, 4)),))
    short = Outer("x", a[:, :1], b[:, :1], 4, ("w",), (torch.Size((5, 4)),))
    assert torch.allclose(join([[long], [short]])[0].flat(), torch.cat([long.flat(), short.flat()]))


def test_the_network_is_left_as_it_was():
    network = network_of("convolutions")
    before = {k: v.clone() for k, v in network.module.state_dict().items()}
    (_, x, y), *_ = network.batches(network.train, 100)
    gradients(network, x, y, network.loss)
    assert all(torch.equal(before[k], v) for k, v in network.module.state_dict().items())
    assert all(not layer._forward_hooks for layer in network.module.modules())
    assert all(p.grad is None for p in network.module.parameters())


class Overwrites(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = torch.sigmoid(self.one(x))
        y = self.two(h)
        h.mul_(2)
        return y + h[:, :3]


def test_a_network_that_overwrites_what_its_gradient_needs():
    NETWORKS["overwrites"] = (Overwrites, (4,))
    try:
        network = network_of("overwrites")
    finally:
        del NETWORKS["overwrites"]
    (_, x, y), *_ = network.batches(network.train, 100)
    with pytest.raises(InputError, match="in-place operation"):
        gradients(network, x, y, network.loss)


def test_checkpoints_of_another_network():
    network = network_of("mlp")
    study = network.trainer.study
    state = dict(network.module.state_dict())
    first = next(iter(state))
    with pytest.raises(InputError, match=f"lacks {first}"):
        network.load(checkpoints(study, [{k: v for k, v in state.items() if k != first}])[0])
    with pytest.raises(InputError, match="instead of"):
        network.load(checkpoints(study, [{**state, first: torch.zeros(2, 2)}])[0])
    with pytest.raises(InputError, match="non-finite"):
        network.load(checkpoints(study, [{**state, first: state[first] * float("nan")}])[0])
    with pytest.raises(InputError, match="must be a number of models"):
        checkpoints(study, "best.pt")
    with pytest.raises(InputError, match="not a file"):
        checkpoints(study, ["nowhere.safetensors"])
