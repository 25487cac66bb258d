"""Influence against explicit linear algebra, and against what leaving an example out does."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.studies import CLASSES, TARGETS, N, study
from whence.errors import InputError
from whence.methods.gradients import hessian as curve
from whence.methods.gradients import kfac
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.network import Network
from whence.methods.influence import Influence
from whence.study import SGD


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES, bias=False))


def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, CLASSES))


def fitted(subject, l2, without=None, weighted=False):
    """Weights that minimise the mean loss of all examples but one plus l2/2 times their squares."""
    network = Network(subject, "margin").load(checkpoints(subject, [subject.trainer().model.state_dict()])[0])
    x, y = network.train.inputs(slice(None)).double().flatten(1), network.train.y
    counts = torch.ones(N, dtype=torch.float64)
    if without is not None:
        counts[without] = 0
    total = N if weighted else counts.sum()
    w = torch.zeros(CLASSES, 64, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([w], lr=1, max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        losses = nn.functional.cross_entropy(x @ w.T, y, reduction="none")
        value = (losses * counts).sum() / total + l2 / 2 * w.square().sum()
        value.backward()
        return value

    solver.step(closure)
    return {"1.weight": w.detach().float()}


def outputs(subject, state):
    network = Network(subject, "margin").load(checkpoints(subject, [state])[0])
    with torch.no_grad():
        logits = network.logits(network.parameters, network.targets.inputs(slice(None)))
        return network.output(logits, network.targets.y).numpy()


@pytest.mark.parametrize("subset", ["shorter", "weighted"])
def test_predicts_the_effect_of_leaving_one_out(subset):
    subject = study(linear, optimizer=SGD(0.1, weight_decay=20.0), subset=subset)
    everything = fitted(subject, 20.0)
    scores = Influence("explicit", damping=0, curvature="hessian", checkpoints=[everything]).attribute(
        subject
    )
    for i in (0, 7, 23):
        left_out = outputs(subject, fitted(subject, 20.0, i, subset == "weighted"))
        mask = np.ones((1, N), bool)
        full = scores.predict(mask)[0]
        mask[0, i] = False
        effect = full - left_out
        np.testing.assert_allclose(full, outputs(subject, everything), atol=1e-4)
        assert np.abs(effect - scores.weight[:, i]).max() < 0.1 * np.abs(effect).max()
        np.testing.assert_allclose(scores.predict(mask)[0], left_out, atol=0.1 * np.abs(effect).max())


def test_linear_regression_equals_leave_one_out_to_first_order():
    """Squared loss: the exact effect is the influence over 1 - leverage (Cook 1977)."""
    torch.manual_seed(0)
    subject = study(linear, optimizer=SGD(0.1, weight_decay=0.5), subset="weighted")
    network = Network(subject, "margin")
    network.loss = lambda logits, y: (logits[:, 0] - y).square() / 2
    network.output = lambda logits, y: logits[:, 0]
    x = network.train.inputs(slice(None)).flatten(1).double()
    z = network.targets.inputs(slice(None)).flatten(1).double()
    y = network.train.y.double()
    h = x.T @ x / N + 0.5 * torch.eye(64, dtype=torch.float64)
    w = torch.linalg.solve(h, x.T @ y / N)
    state = {"1.weight": torch.cat([w[None], torch.zeros(CLASSES - 1, 64)]).float()}
    method = Influence("explicit", damping=0.0)
    checkpoint = checkpoints(subject, [state])[0]
    weight, values, _, _ = method._one(network.load(checkpoint), checkpoint)
    np.testing.assert_allclose(values, z @ w, rtol=1e-4, atol=1e-5)
    for i in range(0, N, 9):
        keep = torch.arange(N) != i
        left_out = torch.linalg.solve(h - torch.outer(x[i], x[i]) / N, x[keep].T @ y[keep] / N)
        leverage = float(x[i] @ torch.linalg.solve(h, x[i]) / N)
        np.testing.assert_allclose(weight[:, i] / (1 - leverage), z @ (w - left_out), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_explicit_equals_autograd(curvature):
    subject = study(smooth, label_smoothing=0.1)
    found = checkpoints(subject, 1)[0]
    network = Network(subject, "margin").load(found)
    index = torch.as_tensor(np.flatnonzero(found.mask))
    x, y = network.train.inputs(index), network.train.y[index]
    flat = curve.flatten(network.parameters)

    def logits(vector):
        return network.logits(curve.unflatten(vector, network.parameters), x)

    if curvature == "hessian":
        expected = torch.autograd.functional.hessian(lambda v: network.loss(logits(v), y).mean(), flat)
    else:
        jacobian = torch.autograd.functional.jacobian(logits, flat)
        p = logits(flat).softmax(1)
        middle = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        expected = torch.einsum("ncp,ncd,ndq->pq", jacobian, middle, jacobian) / len(x)
    matrix = curve.explicit(network, index, curvature, 0.25)
    expected = expected + 0.25 * torch.eye(len(flat))
    assert (matrix - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("curvature", ["hessian", "ggn"])
def test_conjugate_gradients_equal_the_explicit_matrix(curvature):
    subject = study(smooth)
    given = {"curvature": curvature, "damping": 2.0, "checkpoints": 2}
    explicit, cg = (Influence(h, **given).attribute(subject) for h in ("explicit", "cg"))
    assert np.abs(explicit.weight - cg.weight).max() < 1e-4 * np.abs(explicit.weight).max()
    np.testing.assert_allclose(explicit.predict(np.ones((1, N))), cg.predict(np.ones((1, N))), atol=1e-3)
    assert explicit.calibrated and explicit.shape[-1] == N


@pytest.mark.parametrize("hessian", ["kfac", "ekfac"])
def test_kronecker_factors_are_damped_layer_by_layer(hessian):
    subject = study(linear)
    own = Influence(hessian, checkpoints=1).attribute(subject)
    found = checkpoints(subject, 1)[0]
    network = Network(subject, "margin").load(found)
    index = torch.as_tensor(np.flatnonzero(found.mask))
    (block,) = kfac.fit(network, index, hessian)  # one layer, so that one number does the same
    same = Influence(hessian, damping=0.1 * float(block.values.mean()), checkpoints=1).attribute(subject)
    np.testing.assert_allclose(own.weight, same.weight, rtol=1e-4, atol=1e-6 * np.abs(own.weight).max())
    assert own.provenance["damping_of_mean_eigenvalue"] == 0.1
    assert same.provenance["damping_of_mean_eigenvalue"] == 0.0


def test_loss_turns_the_sign_and_own_example_helps():
    subject = study(linear, outputs=("margin", "loss"))
    margin, loss = (Influence("explicit", checkpoints=1).attribute(subject, o) for o in ("margin", "loss"))
    assert np.corrcoef(margin.weight.ravel(), loss.weight.ravel())[0, 1] < -0.3
    same = subject.target_labels[:, None] == subject.train_labels[None]
    assert margin.weight[same].mean() > 0 > margin.weight[~same].mean()


def test_batches_do_not_matter(monkeypatch):
    subject = study("conv")
    scores = Influence("cg", damping=1.0, checkpoints=1).attribute(subject)
    monkeypatch.setattr(curve, "_VALUES", 900)
    again = Influence("cg", damping=1.0, checkpoints=1).attribute(subject)
    np.testing.assert_allclose(
        scores.weight, again.weight, rtol=1e-3, atol=1e-5 * np.abs(scores.weight).max()
    )
    assert scores.weight.shape == (TARGETS, N)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Influence("kfca"), "kfca"),
        (lambda: Influence(damping=-1.0), "damping"),
        (lambda: Influence(damping="best"), "damping"),
        (lambda: Influence(curvature="fisher"), "curvature"),
        (lambda: Influence(checkpoints=[]).attribute(study()), "checkpoints"),
        (lambda: Influence().attribute(object()), "lacks"),
        (lambda: Influence(checkpoints=[{}]).attribute(study()), "not of this study"),
        (
            lambda: Influence("explicit").attribute(study(partial(_wide, 400))),
            "20,000",
        ),
    ],
)
def test_bad_input_is_one_sentence(make, words):
    with pytest.raises(InputError, match=words) as problem:
        make()
    assert str(problem.value).count("\n") == 0


def _wide(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, CLASSES))


def test_indefinite_curvature_is_said():
    subject = study(smooth)
    with pytest.raises(InputError, match="raise damping"):
        Influence("explicit", damping=0, curvature="hessian", checkpoints=1).attribute(subject)
