"""Banks filled on a GPU: resumed bit for bit, weights kept later on, and by worker processes."""

import numpy as np
import pytest

import whence
from tests.gpu.cuda import DEVICE, apart, needs_cuda
from tests.training.studies import study
from whence.bank import Bank
from whence.training.trainer import RecipeTrainer

pytestmark = needs_cuda
WHOLE = {"held_out": 0, "validation": 0, "progress": False}


@pytest.fixture(params=[1, 8])
def stack(request, monkeypatch):
    """The way of training fixed, so that two banks are trained alike whatever is measured."""
    size = request.param
    answer = {"driver": "stacked" if size > 1 else "loop", "stack": size, "device": DEVICE}
    monkeypatch.setattr(RecipeTrainer, "choose", lambda *_: {**answer, "seconds_per_model": 0.1})
    return size


def rows_of(bank):
    return bank.outputs_of("margin")


def test_a_resumed_bank_is_the_uninterrupted_one(stack, tmp_path):
    def fill(name, n, **options):
        return whence.retrain(
            study("conv"), n, to=tmp_path / name, device=DEVICE, block=8, **WHOLE, **options
        )

    whole = fill("whole.zarr", 48)
    fill("parts.zarr", 24)
    parts = fill("parts.zarr", 48, checkpoints=[3, 30])
    np.testing.assert_array_equal(rows_of(parts), rows_of(whole))
    # row 3 was trained again for its weights, and refused unless it came out as it had been committed
    assert set(parts.checkpoint_rows()) == {3, 30}
    assert parts.verify().ok
    parts.remake(study("conv"), [1], device=DEVICE)
    np.testing.assert_array_equal(rows_of(Bank.open(tmp_path / "parts.zarr")), rows_of(whole))


def test_worker_processes_on_one_gpu(tmp_path):
    subject = study("logistic")
    bank = whence.retrain(subject, 16, to=tmp_path / "two.zarr", workers=2, device=DEVICE, block=8, **WHOLE)
    assert bank.rows_committed == 16
    other = whence.retrain(subject, 16, to=tmp_path / "cpu.zarr", device="cpu", workers=0, block=8, **WHOLE)
    assert apart(rows_of(bank), rows_of(other)) < 5e-3


def test_the_gpu_is_taken_where_there_is_one(tmp_path):
    bank = whence.retrain(study("mlp"), 8, to=tmp_path / "bank.zarr", **WHOLE)
    assert bank.engine["device"] == "cuda"
