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


class Late(nn.Module):
    """Its gradient is not finite at one example only, beyond those that are looked at first."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(x) * torch.exp(1000 * (x[:, :1] > 50).to(x))


def study_of(make, odd=None):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(12, 4)).astype(np.float32), np.arange(12) % 3
    if odd is not None:
        x[odd, 0] = 99.0
    return whence.Study(
        train=(x, y),
        targets=(x[:3], y[:3]),
        outputs=["margin"],
        recipe=whence.Recipe(make, 1, 4, whence.SGD(0.1)),
    )


def mixed():
    return nn.Sequential(nn.Linear(4, 4), Centred(), nn.Linear(4, 3))


BAD = {
    "in-place": (Overwriting, None, "in-place"),
    "cross-example": (mixed, None, r"'1' \(Centred\)"),
    "NaN at the start": (Rooted, None, "not finite"),
    "NaN later": (Late, 10, "not finite"),
}
METHODS = {
    "TRAK": lambda state, folder: TRAK([state]),
    "TRAK, projected": lambda state, folder: TRAK([state], projection=8),
    "TRAK, stored": lambda state, folder: TRAK([state], projection=8, store=folder / "store"),
    "TRAK, written": lambda state, folder: TRAK([state], projection=8, store=folder / "store"),
    "GradDot": lambda state, folder: GradDot([state]),
    "influence": lambda state, folder: Influence(checkpoints=[state]),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_networks_are_one_sentence_and_nothing_is_written(name, bad, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, odd, words = BAD[bad]
    method = METHODS[name](make().state_dict(), tmp_path)
    how = {"to": tmp_path / "scores"} if name == "TRAK, written" else {}
    with pytest.raises(InputError, match=words) as caught:
        method.attribute(study_of(make, odd), **how)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    # a store that was begun stays, to go on with; it holds no row of the block that failed
    left = [p.name for p in tmp_path.iterdir()]
    assert left == (["store"] if bad == "NaN later" and name in ("TRAK, stored", "TRAK, written") else [])


@pytest.mark.parametrize("name", METHODS)
def test_checkpoints_of_another_architecture_are_one_sentence(name, tmp_path):
    make = lambda: nn.Linear(4, 3)  # noqa: E731
    for state, words in (
        (nn.Linear(4, 5).state_dict(), "not of this study's network"),
        (mixed().state_dict(), "it lacks"),
        ({k: v * float("nan") for k, v in make().state_dict().items()}, "non-finite"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            METHODS[name](state, tmp_path).attribute(study_of(make))
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


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
