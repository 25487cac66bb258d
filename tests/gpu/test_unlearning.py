"""Unlearning on a GPU: every method as on a CPU, and an experiment of banks."""

import numpy as np
import pytest
import torch

from tests.applications.unlearning.studies import FORGET, attribution, bases, study
from tests.applications.unlearning.test_methods import METHODS, methods
from tests.gpu.cuda import DEVICE, apart, needs_cuda
from whence.applications.unlearning import DatamodelDirect, Experiment, OracleMatching, Outputs, RandomLabels
from whence.training import train

pytestmark = needs_cuda


@pytest.fixture(scope="module", params=["mlp", "conv"])
def given(request):
    subject = study(request.param)
    return subject, bases(subject)


@pytest.mark.parametrize("name", [*METHODS, "matching", "kernel", "direct"])
def test_methods(given, name):
    subject, models = given
    method = methods(subject)[name] if name != "direct" else DatamodelDirect(attribution=attribution(subject))
    here, there = (method.predict(models, subject, FORGET, device=device) for device in ("cpu", DEVICE))
    # A student starts where its gradient is nothing but rounding, of which Adam makes whole steps.
    tolerance = 0.1 if name == "distillation" else 2e-2
    assert there.device.type == "cpu" and apart(there, here) < tolerance


def test_an_experiment(tmp_path):
    subject = study("conv")
    experiment = Experiment(subject, 4, spare=2, to=tmp_path, together=3, device=DEVICE)
    oracles = experiment.oracles(FORGET)
    for method in (
        RandomLabels(1e-2, 2, 8, keeping=2),
        DatamodelDirect(attribution=attribution(subject)),
        OracleMatching(oracles=oracles, lr=1e-2, epochs=2, keeping=2, rows=experiment.spare_rows),
    ):
        bank = experiment.unlearned(method, FORGET)
        assert bank.rows_committed == 4 and not bank.errors()
        parts = experiment.parts(method, FORGET)
        assert all(np.isfinite(part.unlearned.margin).all() for part in parts.values())


def test_one_network_and_logits_on_the_gpu():
    subject = study("mlp")
    model = train(subject, device=DEVICE)
    changed = RandomLabels(1e-2, 2, 8, keeping=2).unlearn(model, subject, FORGET, device=DEVICE)
    assert next(changed.parameters()).device == next(model.parameters()).device
    assert Outputs.of(torch.randn(3, 5, 4, device=DEVICE), np.zeros(5)).margin.shape == (3, 5)
