"""Late injection against finite differences, and against the same step with its whole graph."""

import numpy as np
import pytest
import torch

from tests.training.studies import TARGETS, N, study
from whence.errors import InputError
from whence.study import SGD, Adam
from whence.training.injection import InjectedRun
from whence.training.run import Run

INCLUDED, INJECTED = np.arange(0, N, 2), np.array([1, 2, 3, 7, 11, 20])


def run_of(optimizer, at=4, steps=7, model="logistic"):
    subject = study(model, optimizer=optimizer, outputs=("loss",))
    run = InjectedRun(subject, INCLUDED, INJECTED, steps=steps, at=at, seed=1)
    run.dtype = run.adjoint = torch.float64
    return run


OPTIMIZERS = [SGD(0.05, 0.9, weight_decay=1e-2), Adam(1e-2, eps_root=1e-6, weight_decay=1e-2)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_derivatives_are_finite_differences(optimizer):
    run = run_of(optimizer)
    found = run.differentiate("loss", [0, [1, 2, 3]])
    assert found.gradient.shape == (2, N)
    for example in (1, 20):
        ends = []
        for z in (-1e-4, 1e-4):
            weights = np.r_[np.ones(N), np.zeros(N)]
            weights[N + example] = z
            ends.append(run.means(run.final(weights), "loss", [0, [1, 2, 3]]))
        slope = (ends[1] - ends[0]) / 2e-4
        np.testing.assert_allclose(found.gradient[:, example], slope, rtol=1e-4, atol=1e-9)
    assert (found.gradient[:, np.setdiff1d(np.arange(N), INJECTED)] == 0).all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_injected_step_is_the_general_one(optimizer, monkeypatch):
    short = run_of(optimizer, model="mlp").differentiate("loss", [0, 1])
    monkeypatch.setattr(InjectedRun, "record", Run.record)
    whole = run_of(optimizer, model="mlp").differentiate("loss", [0, 1])
    np.testing.assert_allclose(short.gradient, whole.gradient, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(short.outputs, whole.outputs)


def test_included_examples_alone_are_trained_on():
    run = run_of(SGD(0.05), at=2, steps=6)
    seen = np.concatenate([index.numpy() for index, _, _ in run.batches[:2] + run.batches[3:]])
    assert set(seen.tolist()) <= set(INCLUDED.tolist())
    assert len(seen) == 5 * run.recipe.batch_size
    first = run_of(SGD(0.05), at=2, steps=6).batches[2][0].numpy()
    np.testing.assert_array_equal(first - N, INJECTED)
    assert len(run) == 6 and run.differentiate("loss", list(range(TARGETS))).outputs.shape == (TARGETS,)


def test_an_impossible_injection_is_refused():
    with pytest.raises(InputError, match="at=7 must be a step of the run, 0 to 6"):
        run_of(SGD(0.05), at=7)
    with pytest.raises(InputError, match="at least one example each"):
        InjectedRun(study(outputs=("loss",)), INCLUDED[:0], INJECTED, steps=5, at=2)
