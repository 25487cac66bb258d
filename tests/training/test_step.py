"""The step and its optimisers against torch.optim; batch norm against torch's."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.training.studies import CLASSES, N, images, study, tiny_conv
from whence.study import SGD, Adam, AdamW, Constant, Cosine, Triangle
from whence.training import BatchNorm2d
from whence.training.batchnorm import example_weights
from whence.training.loop import train_one
from whence.training.optimizers import initial_moments, update
from whence.training.order import epochs, pool

OPTIMIZERS = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.1, 0.9, weight_decay=0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
    "nesterov": (SGD(0.1, 0.8, nesterov=True), lambda p: torch.optim.SGD(p, 0.1, 0.8, nesterov=True)),
    "adam": (Adam(0.01, weight_decay=0.1), lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1)),
    "adamw": (AdamW(0.01), lambda p: torch.optim.AdamW(p, 0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_are_those_of_torch(name):
    ours, make = OPTIMIZERS[name]
    torch.manual_seed(0)
    w = {"a": torch.randn(3, 2, dtype=torch.float64), "b": torch.randn(4, dtype=torch.float64)}
    theirs = {key: value.clone().requires_grad_() for key, value in w.items()}
    optimizer, moments = make(list(theirs.values())), initial_moments(ours, w)
    for t in range(1, 8):
        gradients = {key: torch.randn_like(value) for key, value in w.items()}
        for key, value in theirs.items():
            value.grad = gradients[key].clone()
        optimizer.step()
        w, moments = update(ours, w, gradients, moments, ours.lr, torch.tensor(float(t), dtype=torch.float64))
    for key, value in theirs.items():
        torch.testing.assert_close(w[key], value.detach(), rtol=1e-10, atol=1e-12)


def test_eps_root_sits_inside_the_root():
    w, g = {"a": torch.zeros(1, dtype=torch.float64)}, {"a": torch.full((1,), 0.3, dtype=torch.float64)}
    adam = Adam(1.0, eps=0.0, eps_root=0.16)
    new, _ = update(adam, w, g, initial_moments(adam, w), 1.0, torch.tensor(1.0, dtype=torch.float64))
    assert new["a"].item() == pytest.approx(-0.3 / np.sqrt(0.09 + 0.16))


def plain_loop(subject, mask, seed, make_optimizer):
    """The run as anyone would write it, over the engine's own batches."""
    recipe = subject.recipe
    trainer = subject.trainer()
    torch.manual_seed(seed)
    model = recipe.model()
    optimizer = make_optimizer(model.parameters())
    positions = pool(torch.as_tensor(mask, dtype=torch.float32), recipe)
    total, done = recipe.steps(len(positions)), 0
    for order, _ in epochs(positions, recipe, (), seed):
        for index in order.split(recipe.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = recipe.optimizer.lr * recipe.schedule.factor(done, total)
            optimizer.zero_grad()
            loss = F.cross_entropy(
                model(trainer.data.inputs(index)),
                trainer.data.y[index],
                label_smoothing=recipe.label_smoothing,
            )
            loss.backward()
            optimizer.step()
            done += 1
    assert done == total
    return model


@pytest.mark.parametrize("name", ["momentum", "nesterov", "adamw"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_run_equals_a_plain_torch_loop(name, smoothing):
    """With torch's own batch norm, whose buffers have to come out as torch leaves them."""
    ours, make = OPTIMIZERS[name]
    subject = study(lambda: tiny_conv(nn.BatchNorm2d), optimizer=ours, label_smoothing=smoothing)
    mask = np.arange(N) % 3 > 0  # 26 examples: the last batch is short
    trainer = subject.trainer()
    state = train_one(trainer.step, trainer.data, torch.as_tensor(mask, dtype=torch.float32), 11)
    expected = plain_loop(subject, mask, 11, make).state_dict()
    for key, value in {**state.parameters, **state.buffers}.items():
        torch.testing.assert_close(value, expected[key], rtol=2e-4, atol=2e-5, msg=key)


@pytest.mark.parametrize(
    ("schedule", "start", "peak_at", "end"),
    [(Constant(), 1.0, None, 1.0), (Triangle(0.25), 0.0, 0.25, 0.0), (Cosine(0.1, 0.2), 0.0, 0.1, 0.2)],
)
def test_schedules_start_peak_and_end_where_they_say(schedule, start, peak_at, end):
    factors = [schedule.factor(step, 1000) for step in range(1000)]
    assert factors[0] == pytest.approx(start, abs=0.01)
    assert factors[-1] == pytest.approx(end, abs=0.01)
    assert max(factors) == pytest.approx(1.0, abs=0.01)
    if peak_at:
        assert np.argmax(factors) / 1000 == pytest.approx(peak_at, abs=0.002)


def test_batch_norm_with_equal_weights_is_torchs():
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(5), nn.BatchNorm2d(5)
    x = torch.randn(6, 5, 4, 4) * 3 + 1
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    with example_weights(torch.full((6,), 0.7)):
        y = ours(a)
    z = theirs(b)
    torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-5)
    for out in (y, z):
        (out**3).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_batch_norm_leaves_an_example_of_weight_zero_out():
    torch.manual_seed(0)
    x, weights = torch.randn(4, 2, 3, 3), torch.tensor([1.0, 1.0, 0.0, 1.0])
    part, whole = BatchNorm2d(2), BatchNorm2d(2)
    kept = part(x[weights > 0])
    with example_weights(weights):
        y = whole(x)
    torch.testing.assert_close(y[weights > 0], kept, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.running_var, part.running_var)


def test_an_all_padding_batch_changes_no_statistic():
    layer = BatchNorm2d(2)
    with example_weights(torch.zeros(4)):
        layer(torch.randn(4, 2, 3, 3))
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.running_var.tolist() == [1, 1]


@pytest.mark.parametrize("model", ["logistic", "conv"])
def test_weight_zero_means_no_influence_at_all(model):
    """Replace what was left out by noise: it is in every batch, yet nothing changes."""
    mask = np.arange(N) % 4 > 0
    pictures, _ = images()
    noise = pictures.copy()
    noise[:N][~mask] = np.random.default_rng(9).permuted(noise[:N][~mask].ravel()).reshape(-1, 8, 8)
    assert (
        np.bincount(noise[:N].ravel()).tolist() == np.bincount(pictures[:N].ravel()).tolist()
    )  # same scaling
    results = []
    for x in (pictures, noise):
        trainer = study(model, x=x, subset="weighted").trainer()
        state = train_one(trainer.step, trainer.data, torch.as_tensor(mask, dtype=torch.float32), 3)
        results.append(
            torch.cat([v.float().flatten() for v in {**state.parameters, **state.buffers}.values()])
        )
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_subsets_are_shorter_or_weighted():
    for subset, steps in (("shorter", 9), ("weighted", 15)):
        trainer = study(subset=subset).trainer()
        state = train_one(
            trainer.step, trainer.data, torch.as_tensor(np.arange(N) < 24, dtype=torch.float32), 0
        )
        assert int(state.t) == steps


def test_weighted_loss_is_divided_by_the_batch():
    """With plain SGD and one full batch a step is linear in the weights: half weights, half the step."""
    steps = []
    for scale in (1.0, 0.5):
        trainer = study(subset="weighted", batch_size=N, epochs=1, optimizer=SGD(0.1)).trainer()
        state = train_one(trainer.step, trainer.data, torch.full((N,), scale), 0)
        steps.append(state.parameters["1.weight"])
    torch.testing.assert_close(steps[1], 0.5 * steps[0])
    assert steps[0].shape == (CLASSES, 64)
