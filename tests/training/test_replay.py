"""Replay against finite differences and against autograd that stores everything."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.studies import CLASSES, TARGETS, N, study
from whence.errors import InputError
from whence.study import SGD, Adam, AdamW, Augment
from whence.training import BatchNorm2d
from whence.training.batchnorm import differentiable_statistics
from whence.training.loop import train_one
from whence.training.networks import smooth_conv_net
from whence.training.replay import _backwards, differentiate, fanout_for
from whence.training.run import Run, floating

F64 = torch.float64


def smooth():
    return nn.Sequential(
        nn.Conv2d(1, 3, 4, 2, bias=False), BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(27, CLASSES)
    )


OPTIMIZERS = {
    "sgd": SGD(0.05),
    "momentum": SGD(0.05, 0.9, weight_decay=1e-2),
    "nesterov": SGD(0.05, 0.9, nesterov=True),
    "adam": Adam(1e-2, eps_root=1e-6, weight_decay=1e-2),
    "adamw": AdamW(1e-2, eps_root=1e-6),
}


def run_of(optimizer, dtype=F64, **options):
    settings = {"epochs": 2, "batch_size": 16, "label_smoothing": 0.1, "augment": Augment(True, 1, 2)}
    return Run(study(smooth, optimizer=OPTIMIZERS[optimizer], **{**settings, **options}), 3, dtype)


def close(a, b, tolerance=1e-4):
    return np.abs(np.asarray(a) - np.asarray(b)).max() <= tolerance * np.abs(np.asarray(b)).max()


def stored(run, output="margin"):
    """Derivatives by plain autograd through all steps at once."""
    weights = torch.ones(run.n, dtype=F64, requires_grad=True)
    with run.fork(), differentiable_statistics():
        state = run.start().state
        for t in range(len(run)):
            state = run.step(state, run.batch(t, F64), weights[run.batches[t][0]])
    values = run.outputs(state, output, slice(None))
    rows = [torch.autograd.grad(v, weights, retain_graph=True)[0] for v in values]
    return values.detach().numpy(), torch.stack(rows).numpy()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_replay_is_autograd_through_the_whole_run(optimizer):
    run = run_of(optimizer)
    found = differentiate(run, "margin", range(TARGETS), fanout=2)
    values, gradient = stored(run)
    assert close(found.outputs, values, 1e-12)
    assert close(found.gradient, gradient, 1e-9)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_replay_is_finite_differences(optimizer):
    run = run_of(optimizer)
    gradient = differentiate(run, "loss", [0, 2]).gradient
    direction = torch.as_tensor(np.random.default_rng(0).normal(size=N))
    ends = [run.outputs(run.final(1 + h * direction), "loss", [0, 2]) for h in (1e-5, -1e-5)]
    assert close(gradient @ direction.numpy(), (ends[0] - ends[1]).detach().numpy() / 2e-5)


def test_replay_away_from_the_full_set():
    run = run_of("momentum")
    weights = torch.as_tensor(np.where(np.arange(N) % 3 > 0, 1.0, 0.0))
    weights[0] = 0.5  # batch norm counts examples with a weight, so the run jumps where one becomes 0
    found = differentiate(run, "margin", [1], weights)
    ends = []
    for h in (1e-5, -1e-5):
        weights[0] = 0.5 + h
        ends.append(run.outputs(run.final(weights), "margin", [1]).item())
    assert close((ends[0] - ends[1]) / 2e-5, found.gradient[0, 0])


def test_fanout_batches_of_targets_and_float32_change_nothing():
    run = run_of("momentum")
    reference = differentiate(run, "margin", range(TARGETS)).gradient
    for fanout, together in ((2, 1), (3, 2), (100, TARGETS)):
        again = differentiate(run, "margin", range(TARGETS), fanout=fanout, together=together).gradient
        assert close(again, reference, 1e-10)
    single = run_of("momentum", torch.float32)
    assert close(differentiate(single, "margin", range(TARGETS)).gradient, reference, 1e-3)
    assert close(differentiate(run, "margin", [4]).gradient, reference[[4]], 1e-10)


@pytest.mark.parametrize("graphs", [0, 1, 3, 100])
def test_kept_graphs_change_nothing(graphs, monkeypatch):
    run = run_of("momentum")
    reference = differentiate(run, "margin", range(TARGETS))
    made = []
    monkeypatch.setattr(Run, "graph_bytes", lambda *_: 10**6)
    monkeypatch.setattr(Run, "advance", lambda *a: made.append(a) or advance(*a))
    found = differentiate(run, "margin", range(TARGETS), fanout=100, memory=3 * 10**6 * graphs + 3 * 10**5)
    assert close(found.gradient, reference.gradient, 1e-10) and close(found.outputs, reference.outputs, 1e-10)
    assert len(made) == max(0, len(run) - graphs)


advance = Run.advance


def test_a_graph_takes_what_its_activations_take():
    run = run_of("sgd", torch.float32, batch_size=20)
    with run.fork():
        one = run.graph_bytes(run.start(), run.weights(None))
    activations = 20 * 3 * 9 * 4  # of the convolution
    assert 10 * activations < one < 200 * activations


def test_a_group_is_the_mean_over_its_targets(monkeypatch):
    run = run_of("momentum")
    each = differentiate(run, "margin", range(TARGETS))
    monkeypatch.setattr("whence.training.run._AT_ONCE", 2)
    found = differentiate(run, "margin", [range(TARGETS), 2, [1, 4, 5]])
    assert close(found.outputs, [each.outputs.mean(), each.outputs[2], each.outputs[[1, 4, 5]].mean()], 1e-12)
    wanted = [each.gradient.mean(0), each.gradient[2], each.gradient[[1, 4, 5]].mean(0)]
    assert close(found.gradient, wanted, 1e-10)


def test_float64_adjoints_of_a_float32_run():
    subject = study(smooth, optimizer=OPTIMIZERS["adam"])
    run = Run(subject, 3, torch.float32, torch.float64)
    assert close(
        differentiate(run, "margin", [0]).gradient,
        differentiate(Run(subject, 3, F64), "margin", [0]).gradient,
    )


def test_the_run_is_the_one_that_retraining_does():
    subject = study(smooth, subset="weighted", optimizer=OPTIMIZERS["momentum"], augment=Augment(True, 1))
    weights = torch.ones(N)
    weights[::4] = 0
    trainer = subject.trainer()
    state = train_one(trainer.step, trainer.data, weights, 5)
    mine = Run(subject, 5).final(weights)
    for a, b in zip(floating(state), floating(mine), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_dropout_is_replayed():
    def model():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, CLASSES))

    run = Run(study(model), 1, F64)
    before = torch.get_rng_state()
    a = differentiate(run, "margin", [0], fanout=2).gradient
    assert torch.equal(before, torch.get_rng_state())
    assert close(a, stored(run)[1][[0]], 1e-9)


@pytest.mark.parametrize(("steps", "fanout"), [(1, 2), (7, 2), (8, 2), (27, 3), (30, 3), (10, 100)])
def test_the_tree_brings_back_all_states_within_its_memory(steps, fanout):
    class Counting:
        alive = most = advanced = 0

        class At:
            def __init__(self, t):
                self.t = t
                Counting.alive += 1
                Counting.most = max(Counting.most, Counting.alive)

            def __del__(self):
                Counting.alive -= 1

        def advance(self, at, t, weights):
            assert at.t == t
            Counting.advanced += 1
            return Counting.At(t + 1)

    seen = []
    for t, at in _backwards(Counting(), Counting.At(0), None, fanout, steps):
        assert at.t == t
        seen.append(t)
    assert seen == list(range(steps, -1, -1))
    depth = max(1, int(np.ceil(np.log(steps) / np.log(fanout) - 1e-9)))
    assert Counting.most <= (min(fanout, steps) - 1) * depth + 4
    assert Counting.advanced <= steps * depth


def test_fanout_fits_memory():
    assert fanout_for(1000, 10, 10**6) == 1000
    assert fanout_for(1000, 10, 800) == 32
    assert fanout_for(1000, 10, 300) == 10
    assert fanout_for(1000, 10, 1) == 2


def test_bad_input():
    with pytest.raises(InputError, match="shape"):
        Run(study()).final(np.ones(3))
    with pytest.raises(InputError, match="batch-norm"):
        Run(study(lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, CLASSES))))


@pytest.mark.parametrize("norm", [True, False])
def test_the_smooth_net_can_be_replayed(norm):
    run = Run(study(partial(smooth_conv_net, (1, 8, 8), CLASSES, 2, norm=norm)), 0, F64)
    assert close(differentiate(run, "margin", [0]).gradient, stored(run)[1][[0]], 1e-9)
