"""Networks that are not fit for per-example gradients are named, with the layer that is to blame."""

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.errors import InputError
from whence.methods import TRAK, GradDot, Influence
from whence.methods.gradients.check import check
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.network import Network
from whence.study.outputs import margin


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


class Outside(nn.Module):
    """The batch is mixed between layers, by no layer of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        h = self.first(x)
        return self.last(h + h.mean(0))


class Rooted(nn.Module):
    """The derivative of a square root at zero."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(x) * (self.last(x) - self.last(x)).sqrt()


class Overwriting(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        h = torch.exp(self.last(x))
        h += 1
        return h


def network(make):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3
    study = whence.Study(
        train=(x, y),
        targets=(x[:3], y[:3]),
        outputs=["margin"],
        recipe=whence.Recipe(make, 1, 4, whence.SGD(0.1)),
    )
    return Network(study, "margin").load(checkpoints(study, [make().state_dict()])[0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(4, 3),
        lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(inplace=True), nn.Linear(5, 3)),
        lambda: nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6), nn.Dropout(0.5), nn.Linear(6, 3)),
    ],
)
def test_ordinary_networks_pass(make):
    check(network(make), margin)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Sequential(nn.Linear(4, 4), Centred(), nn.Linear(4, 3)), r"'1' \(Centred\)"),
        (
            lambda: nn.Sequential(
                nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 3)
            ),
            r"'1' \(BatchNorm1d\)|Expected more than 1 value",
        ),
        (Outside, r"the network \(Outside\)"),
        (Rooted, "not finite"),
        (Overwriting, "in-place"),
    ],
)
def test_the_culprit_is_named(make, words):
    with pytest.raises(InputError, match=words) as caught:
        check(network(make), margin)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [TRAK, GradDot, Influence])
def test_methods_check_before_they_start(method):
    make = lambda: nn.Sequential(nn.Linear(4, 4), Centred(), nn.Linear(4, 3))  # noqa: E731
    study = network(make).trainer.study
    with pytest.raises(InputError, match=r"'1' \(Centred\)"):
        method(checkpoints=[make().state_dict()]).attribute(study)


def test_half_precision_needs_a_ridge_where_something_is_inverted():
    made = network(lambda: nn.Linear(4, 3).bfloat16())
    check(made, margin)
    check(made, margin, ridge=1e-4)
    with pytest.raises(InputError, match=r"bfloat16.* without ridge"):
        check(made, margin, ridge=0.0)
    study = made.trainer.study
    with pytest.raises(InputError, match=r"bfloat16.* without ridge"):
        Influence(checkpoints=1, damping=0.0).attribute(study)


def test_hooks_are_gone_afterwards():
    made = network(lambda: nn.Sequential(nn.Linear(4, 4), Centred(), nn.Linear(4, 3)))
    with pytest.raises(InputError):
        check(made, margin)
    assert not any(part._forward_hooks for part in made.module.modules())
