"""A bank holds what was written, shows committed rows only, and is readable by other tools."""

import os
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
import zarr

import whence
from tests.bank.studies import TARGETS, N, fill, linear, make, plan, study
from whence.bank import Bank
from whence.study.trainer import Retrained


def test_rows_come_back_as_they_were_trained(tmp_path):
    bank = make(tmp_path / "b.zarr")
    rows = bank.plan.rows(0, 24)
    masks = bank.plan.masks(rows)
    assert np.array_equal(bank.masks(), masks)
    expected = [linear(mask, seed) for mask, seed in zip(masks, rows.seed)]
    assert np.array_equal(bank.outputs_of("margin"), np.float32(expected))
    assert bank.rows_committed == bank.rows_wanted == 24


def test_only_committed_rows_are_seen(tmp_path):
    bank = make(tmp_path / "b.zarr", blocks=[1, 4])
    assert bank.rows_committed == 8
    assert bank.missing_blocks() == [0, 2, 3, 5]
    assert bank.dataset.retraining.values.tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    reader = Bank.open(bank.path)
    fill(bank, study(), [0])
    assert reader.rows_committed == 12  # an open bank follows its writers
    with pytest.raises(whence.InputError, match=r"rows has \[9\]"):
        bank.masks(rows=[9])


def test_dataset_is_lazy_labelled_and_agrees_with_the_arrays(tmp_path):
    bank = make(tmp_path / "b.zarr")
    data = bank.dataset
    assert data.sizes == {"retraining": 24, "train": N, "target": TARGETS}
    assert not data.margin.variable._in_memory
    assert np.array_equal(data.masks.values, bank.masks())
    assert data.masks.dtype == bool
    picked = data.isel(retraining=[5, 1, 20], train=slice(3, 25, 4))
    assert np.array_equal(picked.masks.values, bank.masks()[[5, 1, 20]][:, 3:25:4])
    assert (
        data.margin.sel(target=[3, 0], retraining=7).values.tolist() == bank.outputs_of()[7, [3, 0]].tolist()
    )
    assert set(data.part.values) <= {"train", "validation", "held_out"}


def test_parts_are_the_plans_and_repeats_are_grouped(tmp_path):
    bank = make(tmp_path / "b.zarr", rows=120, block=8)
    counts = {part: len(bank.select(part)) for part in ("train", "validation", "held_out")}
    assert sum(counts.values()) == 120
    assert counts["held_out"] >= 12
    groups = bank.by_mask("held_out")
    assert groups.outputs.shape == (len(groups), 2, TARGETS)
    held = bank.select("held_out")
    one = held.outputs[held.mask_index == groups.mask_index[3]]
    assert np.array_equal(groups.outputs[3], one)
    assert np.array_equal(groups.masks[3], bank.subsets.mask(int(groups.mask_index[3])))


def test_a_part_without_rows_is_empty(tmp_path):
    bank = Bank.create(tmp_path / "b.zarr", study(), plan(validation=0.0, held_out=0.0), block=4)
    bank.grow(8)
    fill(bank, study(), bank.missing_blocks())
    nothing = bank.select("held_out")
    assert nothing.masks.shape == (0, N) and nothing.outputs.shape == (0, TARGETS)
    assert len(bank.by_mask("held_out")) == 0 and len(bank.select("train")) == 8


def test_zarr_and_xarray_open_a_bank_without_whence(tmp_path):
    bank = make(tmp_path / "b.zarr", rows=24, blocks=[0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xr.open_zarr(bank.path, consolidated=False, chunks=None)
        assert np.array_equal(data.margin.values[:8], bank.outputs_of())
        names = [name for name, _ in zarr.open_group(bank.path, mode="r").members()]
    assert np.isnan(data.margin.values[8:]).all()  # not committed
    bits = np.unpackbits(data.masks.values[:8], axis=1, count=N, bitorder="little").astype(bool)
    assert np.array_equal(bits, bank.masks())
    assert np.array_equal(data.seed.values, bank.plan.rows(0, 24).seed)
    assert {"commits", "claims", "checkpoints", "margin", "ok", "part"} <= set(names)


def test_ids_and_labels_are_kept(tmp_path):
    x = np.arange(20.0).reshape(10, 2)
    y = np.array([0, 1] * 5)
    sklearn = pytest.importorskip("sklearn.linear_model")
    ids = [f"träin/{i}" for i in range(10)]
    a_study = whence.Study.from_estimator(
        sklearn.LogisticRegression(),
        (x, y),
        (x[:3], y[:3]),
        outputs=["margin", "logits"],
        train_ids=ids,
        classes=["a", "b"],
    )
    bank = Bank.create(tmp_path / "b.zarr", a_study, whence.Plan(whence.Subsets.stratified(y)), block=2)
    bank.grow(4)
    fill(bank, a_study, [0, 1])
    again = Bank.open(bank.path)
    assert again.train_ids.tolist() == ids
    assert again.target_ids.tolist() == [0, 1, 2]
    assert again.train_labels.tolist() == y.tolist()
    assert again.dataset.logits.dims == ("retraining", "target", "class")
    assert again.dataset["class"].values.tolist() == ["a", "b"]
    assert again.outputs_of("logits", targets=slice(1, 3)).shape == (4, 2, 2)
    assert again.select("train", "logits").outputs.shape[1:] == (3, 2)


def test_growing_moves_no_row_and_never_shrinks(tmp_path):
    bank = make(tmp_path / "b.zarr", rows=24)
    before = bank.dataset.load()
    bank.grow(50)
    assert bank.rows_wanted == 52  # whole blocks of 4
    bank.grow(8)
    assert bank.rows_wanted == 52
    fill(bank, study(), bank.missing_blocks())
    assert bank.dataset.isel(retraining=slice(0, 24)).identical(before)


def test_a_shape_that_another_process_undid_is_mended_by_the_next_commit(tmp_path):
    bank = make(tmp_path / "b.zarr", rows=24, blocks=[0, 5])
    for name in ("margin", "ok", "seed"):  # a slower process writes the shape that it had read earlier
        metadata = bank.path / name / "zarr.json"
        metadata.write_text(metadata.read_text().replace("24", "8", 1))
    assert bank.rows_wanted == 24
    assert bank.verify().ok
    fill(bank, study(), [4])
    data = xr.open_zarr(bank.path, consolidated=False, chunks=None)
    assert data.sizes["retraining"] == 24
    fill(bank, study(), bank.missing_blocks(24))
    assert np.array_equal(
        xr.open_zarr(bank.path, consolidated=False, chunks=None).margin.values, bank.outputs_of()
    )


def test_processes_that_create_one_bank_at_once_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        banks = list(
            pool.map(lambda i: Bank.create(tmp_path / "b.zarr", study(), plan(), block=i + 1), range(8))
        )
    assert len({bank.block for bank in banks}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["b.zarr"]


def test_a_plan_that_ends_has_a_short_last_block(tmp_path):
    subsets = whence.Subsets.leaving_out(N, [[i] for i in range(6)])
    a_plan = whence.Plan(subsets, validation=0, held_out=0)
    bank = Bank.create(tmp_path / "b.zarr", study(), a_plan, block=4)
    assert bank.grow(6) == 6
    fill(bank, study(), bank.missing_blocks())
    assert bank.rows_committed == 6
    assert bank.masks().sum() == 6 * (N - 1)
    assert bank.verify().ok
    with pytest.raises(whence.InputError, match="at most 6"):
        bank.grow(7)


def test_failed_rows_are_kept_apart_with_their_reason(tmp_path):
    def diverges(mask, seed):
        if mask[0] and mask[1]:
            raise ZeroDivisionError("no luck")
        return np.full(TARGETS, np.inf if mask[2] else 1.0)

    bank = Bank.create(tmp_path / "b.zarr", study(diverges), plan(), block=6)
    bank.grow(24)
    fill(bank, study(diverges), range(4))
    masks = bank.plan.masks(bank.plan.rows(0, 24))
    raised, infinite = masks[:, 0] & masks[:, 1], masks[:, 2] & ~(masks[:, 0] & masks[:, 1])
    assert raised.any() and infinite.any()
    assert np.array_equal(bank.dataset.ok.values, ~(raised | infinite))
    assert len(bank.select()) == int((~(raised | infinite)).sum())
    assert np.isfinite(bank.select().outputs).all()
    reasons = bank.errors()
    assert reasons[int(np.flatnonzero(raised)[0])] == "ZeroDivisionError: no luck"
    assert reasons[int(np.flatnonzero(infinite)[0])] == "margin is not finite for 4 of 4 targets"
    assert np.isinf(bank.outputs_of(ok=False)[infinite]).all()
    assert bank.info()["rows_failed"] == len(reasons)
    assert all(
        not np.isin(bank.by_mask(part).mask_index, bank._table["mask_index"][list(reasons)]).any()
        for part in ("held_out", "train")
    )


def test_a_block_is_committed_once(tmp_path):
    bank = make(tmp_path / "b.zarr")
    before = bank.outputs_of()
    other = [Retrained({"margin": np.zeros(TARGETS)}, 0.0) for _ in range(4)]
    assert bank.write_block(2, other) is False
    assert np.array_equal(bank.outputs_of(), before)


def test_wrong_input_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "b.zarr"
    with pytest.raises(whence.InputError, match="n=31 training examples, the study has 30"):
        Bank.create(path, study(), whence.Plan(whence.Subsets.uniform(31)))
    with pytest.raises(whence.InputError, match="there is no bank at"):
        Bank.open(path)
    bank = make(path, blocks=[])
    with pytest.raises(whence.InputError, match=r"must have shape \(4,\).*gave \(3,\)"):
        bank.write_block(0, [Retrained({"margin": np.zeros(3)}, 0.0)] * 4)
    with pytest.raises(whence.InputError, match="4 retrainings, received 3"):
        bank.write_block(0, [Retrained({"margin": np.zeros(4)}, 0.0)] * 3)
    with pytest.raises(whence.InputError, match="'margin' is missing"):
        bank.write_block(0, [Retrained({"loss": np.zeros(4)}, 0.0)] * 4)
    assert bank.rows_committed == 0
    with pytest.raises(whence.InputError, match="part must be one of train, validation, held_out"):
        bank.select("test")
    with pytest.raises(whence.InputError, match="this bank belongs to another study: n is 30 there, 12 here"):
        Bank.open(path, whence.Study.from_function(linear, n=12, targets=TARGETS, outputs=["margin"]))
    with pytest.raises(
        whence.InputError, match=r"another plan: subsets\.keep is 0\.5 there, 0\.3 was asked for"
    ):
        Bank.create(path, study(), whence.Plan(whence.Subsets.uniform(N, 0.3)))
    with pytest.raises(whence.InputError, match="a name that a bank uses itself"):
        Bank.create(
            tmp_path / "c", whence.Study.from_function(linear, n=N, targets=4, outputs=["masks"]), plan()
        )
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_text("mine")
    with pytest.raises(whence.InputError, match="exists and is not a bank"):
        Bank.create(tmp_path / "d", study(), plan())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.zarr", "d"]  # nothing half-made is left


def test_many_blocks_open_and_read_fast(tmp_path, monkeypatch):
    """One listing and one small read for each block; nothing is opened as a group."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # it is reading that is timed
    bank = make(tmp_path / "b.zarr", rows=600, block=1)
    start = time.perf_counter()
    again = Bank.open(bank.path)
    assert again.select().outputs.shape == (600, TARGETS)
    assert time.perf_counter() - start < 2.0
