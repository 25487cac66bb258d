"""Networks as people write them: frozen or tied weights, buffers of their own, tokens, unused parameters."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.training.studies import CLASSES, N, masks, study, train
from whence.study import SGD, Adam, AdamW, Recipe, Study


def frozen():
    first, last = nn.Linear(64, 8), nn.Linear(8, CLASSES)
    first.requires_grad_(False)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.into, self.out = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.out.weight = self.into.weight
        self.head = nn.Linear(64, CLASSES)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)

    def forward(self, x):
        return self.head(torch.relu(self.out(torch.relu(self.into(x.flatten(1))))) * self.scale)


@pytest.mark.parametrize("model", [frozen, Tied])
def test_both_drivers_agree_with_each_other_and_with_the_returned_model(model):
    subject, rows, seeds = study(model), masks(3), range(3)
    alone, stacked = train(subject, rows, seeds), train(subject, rows, seeds, stack=2)
    for a, b in zip(alone, stacked, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    trained = whence.training.train(subject, rows[0], seed=0)
    with torch.no_grad():
        logits = trained(subject.trainer().queries.inputs(slice(0, None)))
    margin = whence.study.outputs.margin(logits, torch.as_tensor(subject.target_labels))
    np.testing.assert_allclose(margin.numpy(), alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stack", [1, 2])
def test_frozen_weights_stay(stack):
    subject = study(frozen)
    runs = list(subject.trainer(engine={"stack": stack}).train(masks(2), np.array([3, 4]), keep_states=True))
    for seed, run in zip((3, 4), runs, strict=True):
        torch.manual_seed(seed)
        fresh = dict(frozen().named_parameters())
        assert torch.equal(run.state["1.weight"], fresh["1.weight"])
        assert not torch.equal(run.state["3.weight"], fresh["3.weight"])


def test_tied_weights_stay_tied():
    model = whence.training.train(study(Tied), seed=1)
    assert model.out.weight is model.into.weight
    assert model.scale == 0.5


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 8), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.words(tokens).mean(1))


@pytest.mark.parametrize("stack", [1, 3])
def test_tokens(stack):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    tokens = np.where(rng.random((60, 6)) < 0.4, labels[:, None], rng.integers(3, 9, (60, 6)))

    recipe = Recipe(Bag, 20, 8, Adam(0.05))
    subject = Study((tokens[:45], labels[:45]), (tokens[45:], labels[45:]), recipe, ["margin_max"])
    rows = np.ones((3, 45), bool)
    margins = [
        run.outputs["margin_max"]
        for run in subject.trainer(engine={"stack": stack}).train(rows, np.arange(3))
    ]
    assert (np.concatenate(margins) > 0).mean() > 0.7


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Adam(0.01), torch.optim.Adam), (AdamW(0.01, weight_decay=0.01), torch.optim.AdamW)],
)
def test_adam_keeps_its_digits_in_float32(ours, theirs):
    """1 - 0.999 ** t loses four digits when it is computed in float32."""
    from whence.training.optimizers import initial_moments, update

    torch.manual_seed(0)
    start, gradient = torch.randn(1000), torch.randn(1000)
    w = {"a": start.clone()}
    copy = start.clone().requires_grad_()
    copy.grad = gradient
    theirs([copy], 0.01).step()
    new, _ = update(ours, w, {"a": gradient}, initial_moments(ours, w), ours.lr, torch.ones(()))
    torch.testing.assert_close(new["a"] - start, copy.detach() - start, rtol=1e-5, atol=2e-7)


def test_one_epoch_of_one_full_batch_can_be_timed_and_trained():
    subject = study("logistic", epochs=1, batch_size=N, optimizer=SGD(0.1))
    choice = subject.trainer().choose(masks(2), np.arange(2))
    assert 1e-6 < choice["seconds_per_model"] < 1
    assert np.isfinite(train(subject, masks(1), [0], stack=choice["stack"])[0]).all()


def test_logits_of_every_class_are_recorded():
    subject = study("conv", outputs=("margin", "logits", "loss", "probability"))
    for stack in (1, 2):
        run = next(subject.trainer(engine={"stack": stack}).train(masks(1), np.array([0])))
        assert run.outputs["logits"].shape == (7, CLASSES)
        assert {v.dtype for v in run.outputs.values()} == {np.dtype(np.float32)}
        np.testing.assert_allclose(run.outputs["probability"], np.exp(-run.outputs["loss"]), rtol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "auto"])
@pytest.mark.parametrize("stack", [1, 8])
def test_logistic_regression_reads_digits(stack, precision):
    """A floor under quality: halves of scikit-learn's digits, 8 models, targets never trained on."""
    pytest.importorskip("sklearn")
    data = whence.datasets.digits()
    recipe = Recipe(
        partial(whence.training.logistic_regression, 64, 10), 10, 32, SGD(0.02, 0.9), precision=precision
    )
    subject = Study((data.train_x, data.train_y), (data.test_x, data.test_y), recipe, ["margin_max"])
    rows = whence.Subsets.uniform(subject.n, 0.5).masks(range(8))
    runs = subject.trainer(engine={"stack": stack}).train(rows, np.arange(8))
    assert np.mean([(run.outputs["margin_max"] > 0).mean() for run in runs]) > 0.93
