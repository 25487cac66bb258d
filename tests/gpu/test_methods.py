"""Methods and solvers on a GPU agree with the same on a CPU: relative to the largest score, 1e-3."""

from functools import partial

import numpy as np
import pytest
import torch

import whence
from tests.gpu.cuda import DEVICE, apart, needs_cuda
from tests.methods.test_regression import problem
from tests.training.studies import N, masks, study
from tests.training.test_replay import smooth
from whence.evaluate import metasmoothness
from whence.methods import MAGIC, TRAK, Datamodel, GradCos, GradDot, GuidedDatamodel, Influence, TracIn
from whence.methods.regression import lasso, moments, ols, ridge
from whence.study import SGD
from whence.training.replay import differentiate
from whence.training.run import Run

pytestmark = needs_cuda

GRADIENTS = {
    "TRAK": partial(TRAK, ridge=1e-3),
    "TRAK, projected": partial(TRAK, ridge=1e-3, projection=64),
    "TRAK, in blocks": partial(TRAK, ridge=1e-3, projection=64, blocks=2),
    "gradient dot": GradDot,
    "gradient cosine": GradCos,
    "TracIn": partial(TracIn, rates=[0.1, 0.2]),
    "EK-FAC": partial(Influence, "ekfac"),
    "K-FAC": partial(Influence, "kfac"),
    "explicit": partial(Influence, "explicit", 0.1),
    "conjugate gradients": lambda **given: Influence("cg", 0.1, **given),
}


@pytest.fixture(scope="module", params=[("mlp", "loss"), ("conv", "margin")], ids="-".join)
def trained(request):
    model, output = request.param
    subject = study(model, outputs=("margin", "loss"))
    runs = subject.trainer().train(masks(2), np.arange(2), keep_states=True)
    return subject, [run.state for run in runs], output


@pytest.mark.parametrize("method", GRADIENTS)
def test_gradient_methods(trained, method):
    subject, states, output = trained
    here, there = (
        GRADIENTS[method](checkpoints=states, device=device).attribute(subject, output).to_numpy()
        for device in ("cpu", DEVICE)
    )
    assert apart(there, here) < 1e-3


def test_trak_from_a_store_and_with_masks(trained, tmp_path):
    subject, states, _ = trained
    here = TRAK(states, projection=64, ridge=1e-3).attribute(subject).to_numpy()
    method = TRAK(states, projection=64, ridge=1e-3, store=tmp_path / "store", device=DEVICE)
    assert apart(method.attribute(subject).to_numpy(), here) < 1e-3
    assert apart(method.attribute(subject, to=tmp_path / "scores").to_numpy(), here) < 1e-3
    assert len(method.top(subject, 3)) == len(subject.target_ids)
    bank = whence.retrain(
        subject, 4, to=tmp_path / "bank.zarr", device=DEVICE, checkpoints=4, held_out=0, validation=0,
        progress=False,
    )  # fmt: skip
    both = [
        TRAK(bank, ridge=1e-3, use_masks=True, device=d).attribute(subject).to_numpy()
        for d in ("cpu", DEVICE)
    ]
    assert apart(both[1], both[0]) < 1e-3


@pytest.mark.parametrize("method", [TRAK, GradDot, TracIn, Influence])
def test_models_that_a_method_trains_are_trained_there(method):
    subject = study("mlp")
    here, there = (
        method(checkpoints=2, device=device).attribute(subject).to_numpy() for device in ("cpu", DEVICE)
    )
    assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.999


@pytest.mark.parametrize("together", [None, 2])
def test_metagradients(together):
    subject = study(smooth, subset="weighted", batch_size=20, optimizer=SGD(0.02, 0.9))
    here = MAGIC(seed=4).attribute(subject)
    there = MAGIC(seed=4, together=together, device=DEVICE).attribute(subject)
    assert apart(there.to_numpy(), here.to_numpy()) < 1e-3
    assert apart(there.bias, here.bias) < 1e-3


def test_metagradients_in_float64_with_states_from_checkpoints():
    subject = study(smooth, subset="weighted", batch_size=20, optimizer=SGD(0.02, 0.9))
    here, there = (
        differentiate(
            Run(subject, 0, torch.float64, device=device), "margin", [0, [1, 2]], fanout=2, memory=memory
        )
        for device, memory in (("cpu", 2**31), (DEVICE, 1))
    )
    assert apart(there.gradient, here.gradient) < 1e-8
    assert abs(metasmoothness(subject, 1, device=DEVICE).score - metasmoothness(subject, 1).score) < 0.05


def test_moments_are_exact():
    made, outputs = problem()
    here, there = moments(made, outputs), moments(made, outputs, device=DEVICE)
    assert apart(there.gram.cpu(), here.gram) < 1e-14
    assert apart(there.cross.cpu(), here.cross) < 1e-6


@pytest.mark.parametrize("shape", [(400, 60), (60, 200)])
def test_ridge_and_least_squares(shape):
    made, outputs = problem(*shape)
    solvers = [ridge, partial(ridge, choose="gcv"), partial(ridge, penalty=0.1)]
    for solve in [*solvers, ols] if shape[0] > shape[1] else solvers:
        here, there = solve(made, outputs), solve(made, outputs, device=DEVICE)
        assert apart(there.weight, here.weight) < 1e-8
        assert apart(there.standard_error, here.standard_error) < 1e-8
        assert apart(there.bias, here.bias) < 1e-8


# By sweeps, an elastic net by sweeps, and from kink to kink.
@pytest.mark.parametrize("shape, l1_ratio", [((800, 120), 1.0), ((800, 120), 0.5), ((60, 400), 1.0)])
def test_lasso(shape, l1_ratio):
    made, outputs = problem(*shape, t=40)
    v_made, v_outputs = problem(100, shape[1], t=40, seed=1)
    here, there = (
        lasso(made, outputs, v_made, v_outputs, l1_ratio=l1_ratio, device=device)
        for device in ("cpu", DEVICE)
    )
    assert there.diagnostics["gap"].max() < 1e-6
    error = there.diagnostics["validation_error"] / here.diagnostics["validation_error"]
    assert np.abs(error - 1).max() < 1e-3
    fixed = here.diagnostics["penalty"]
    here, there = (
        lasso(made, outputs, penalty=fixed, l1_ratio=l1_ratio, device=device) for device in ("cpu", DEVICE)
    )
    assert there.diagnostics["gap"].max() < 1e-6
    assert apart(there.weight, here.weight) < 1e-3


def test_bootstrap_errors():
    made, outputs = problem(300, 40, t=5)
    here, there = (
        lasso(made, outputs, penalty=0.01, bootstrap=4, device=device) for device in ("cpu", DEVICE)
    )
    assert apart(there.standard_error, here.standard_error) < 1e-2


def test_datamodels_of_a_bank(tmp_path):
    subject = study("mlp")
    bank = whence.retrain(subject, 200, to=tmp_path / "bank.zarr", device=DEVICE, progress=False)
    prior = TRAK(2, device=DEVICE).attribute(subject)
    for make in (partial(Datamodel, "ridge"), partial(Datamodel, "lasso"), partial(GuidedDatamodel, prior)):
        here, there = (make(device=device).attribute(bank).to_numpy() for device in ("cpu", DEVICE))
        assert here.shape == (len(subject.target_ids), N)
        # a penalty at the edge of two may be chosen differently
        assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.999
