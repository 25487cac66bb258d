"""Files of the published shape become a bank and an attribution that mean what they say."""

import numpy as np
import pytest
import torch

import whence
from whence.bank import Bank
from whence.bank.published import read_bank, read_datamodels, record

M, N, T = 600, 20, 7


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    masks = rng.random((M, N)) < 0.5
    weights = rng.normal(size=(T, N)).astype(np.float32)
    margins = (masks @ weights.T + 1.5).astype(np.float16)
    np.save(tmp_path / "train_masks.npy", masks)
    np.save(tmp_path / "train_margins.npy", margins)
    return tmp_path, masks, margins, weights


def test_masks_and_margins_become_a_bank(files):
    folder, masks, margins, _ = files
    bank = read_bank(folder / "train_masks.npy", folder / "train_margins.npy", folder / "b.zarr")
    assert np.array_equal(bank.masks(), masks)
    assert np.array_equal(bank.outputs_of(), margins.astype(np.float32))
    assert bank.outputs == ("margin_max",)
    assert bank.dataset.margin_max.dtype == np.float16  # as published
    assert bank.select("train").rows.tolist() == list(range(480))
    assert bank.select("held_out").rows.tolist() == list(range(540, 600))  # the last in the file
    assert bank.keep == pytest.approx(0.5, abs=0.02)
    assert bank.verify().ok
    with pytest.raises(whence.InputError, match="recorded elsewhere"):
        bank.subsets.mask(0)


def test_several_files_are_read_as_one_and_resumed(files):
    folder, masks, margins, _ = files
    for i, rows in enumerate((slice(0, 250), slice(250, None))):
        np.save(folder / f"masks{i}.npy", masks[rows])
        np.save(folder / f"margins{i}.npy", margins[rows])
    names = [[folder / f"{kind}{i}.npy" for i in range(2)] for kind in ("masks", "margins")]
    bank = read_bank(*names, folder / "b.zarr")
    assert np.array_equal(bank.masks(), masks)
    bank.discard([1])
    assert np.array_equal(read_bank(*names, folder / "b.zarr").outputs_of(), margins.astype(np.float32))
    other = [folder / "train_masks.npy"], [folder / "other.npy"]
    np.save(folder / "other.npy", margins + 1)
    with pytest.raises(whence.InputError, match="this bank holds other data"):
        read_bank(*other, folder / "b.zarr")


def test_unfinished_and_infinite_rows_are_kept_apart(files):
    folder, _, margins, _ = files
    margins = margins.copy()
    margins[3, 2] = np.inf
    np.save(folder / "train_margins.npy", margins)
    completed = np.ones(M, bool)
    completed[[0, 599]] = False
    np.save(folder / "_completed.npy", completed)
    bank = read_bank(
        folder / "train_masks.npy",
        folder / "train_margins.npy",
        folder / "b.zarr",
        completed=folder / "_completed.npy",
    )
    assert bank.errors() == {0: "never completed", 3: "margin_max is not finite", 599: "never completed"}
    assert len(bank.select()) == M - 3


def test_wrong_files_are_refused(files):
    folder, masks, margins, _ = files
    np.save(folder / "ints.npy", masks.astype(np.int32))
    with pytest.raises(whence.InputError, match="masks must be boolean"):
        read_bank(folder / "ints.npy", folder / "train_margins.npy", folder / "b.zarr")
    np.save(folder / "short.npy", margins[:-1])
    with pytest.raises(whence.InputError, match="with 600 models, one for each mask, received"):
        read_bank(folder / "train_masks.npy", folder / "short.npy", folder / "b.zarr")
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="Python objects"):
        read_bank(folder / "objects.npy", folder / "train_margins.npy", folder / "b.zarr")
    with pytest.raises(whence.InputError, match="train_ids has duplicates"):
        record(masks, {"margin": margins}, folder / "b.zarr", train_ids=["a"] * N)
    assert not (folder / "b.zarr").exists()


@pytest.mark.parametrize("standardised", [True, False])
def test_datamodels_become_an_attribution_in_units_of_one_example(files, standardised):
    folder, masks, margins, weights = files
    keep = 0.3
    sigma = np.sqrt(keep * (1 - keep)) if standardised else 1.0
    bias = 1.5 + keep * weights.sum(axis=1) if standardised else np.full(T, 1.5)
    content = {
        "weight": torch.tensor(weights.T * sigma),
        "bias": torch.tensor(bias),
        "lam": torch.full((T,), 0.01),
    }
    torch.save(content, folder / "dm.pt")
    scores = read_datamodels(folder / "dm.pt", keep=keep, standardised=standardised)
    assert scores.shape == (T, N)
    np.testing.assert_allclose(scores.weight, weights, rtol=1e-5)
    np.testing.assert_allclose(scores.predict(masks[:50]), margins[:50], atol=0.02)
    assert scores.diagnostics["penalty"].tolist() == pytest.approx([0.01] * T)
    assert scores.keep == keep


def test_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    torch.save({"weight": Evil(), "bias": 0}, tmp_path / "dm.pt")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        read_datamodels(tmp_path / "dm.pt", keep=0.5, standardised=True)
    torch.save({"w": torch.zeros(2)}, tmp_path / "dm.pt")
    with pytest.raises(whence.InputError, match="has no weight and no bias"):
        read_datamodels(tmp_path / "dm.pt", keep=0.5, standardised=True)


def test_a_recorded_bank_needs_no_study(tmp_path):
    masks = np.random.default_rng(0).random((10, 6)) < 0.5
    bank = record(
        masks, {"loss": np.zeros((10, 3), np.float32)}, tmp_path / "b.zarr", validation=0, held_out=0.2
    )
    again = Bank.open(tmp_path / "b.zarr")
    assert len(again.select("held_out")) == 2
    assert again.info()["study"] == "recorded"
    assert repr(bank)
