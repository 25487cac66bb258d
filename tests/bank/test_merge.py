"""Banks that were filled apart can be put together, and others are refused."""

import numpy as np
import pytest

import whence
from tests.bank.studies import TARGETS, N, fill, make, plan, same, study
from whence.bank import Bank, BankError, checkpoints, merge
from whence.study.trainer import Retrained


def test_halves_make_a_whole(tmp_path):
    left, right = make(tmp_path / "l.zarr", blocks=[0, 2, 4]), make(tmp_path / "r.zarr", blocks=[1, 2, 3, 5])
    merged = merge([left.path, right.path], tmp_path / "both.zarr")
    assert merged.missing_blocks() == []
    assert same(merged, make(tmp_path / "whole.zarr"))
    assert merged.verify().ok
    assert merged.commit_of(4).seconds == left.commit_of(4).seconds


def test_blocks_of_different_sizes_are_cut_to_fit(tmp_path):
    """Two machines measured different speeds, so their blocks differ."""
    left, right = (
        make(tmp_path / "l.zarr", block=6, blocks=[0, 1]),
        make(tmp_path / "r.zarr", block=4, blocks=[2, 3, 4, 5]),
    )
    merged = merge([left.path, right.path], tmp_path / "both.zarr")
    assert merged.block == 2
    assert same(merged, make(tmp_path / "whole.zarr"))
    assert merged.verify().ok


def test_failures_and_checkpoints_come_along(tmp_path):
    left, right = make(tmp_path / "l.zarr", blocks=[0]), make(tmp_path / "r.zarr", blocks=[])
    bad = [
        Retrained({}, 0.1, error="lost") if i == 2 else Retrained({"margin": np.ones(TARGETS)}, 0.1)
        for i in range(4)
    ]
    right.write_block(1, bad)
    checkpoints.save(right.path / "checkpoints", 5, {"w": np.ones(3, np.float32)})
    merged = merge([left.path, right.path], tmp_path / "both.zarr")
    assert merged.errors() == {6: "lost"}
    assert merged.checkpoint(5)["w"].tolist() == [1, 1, 1]


def test_others_are_refused_in_one_sentence(tmp_path):
    bank = make(tmp_path / "a.zarr")
    with pytest.raises(whence.InputError, match="at least 2 banks"):
        merge([bank.path], tmp_path / "to")
    with pytest.raises(whence.InputError, match="exists; a merge makes a new bank"):
        merge([bank.path, bank.path], bank.path)
    other = Bank.create(tmp_path / "b.zarr", study(name="another", train_ids=range(1, N + 1)), plan())
    with pytest.raises(whence.InputError, match="belongs to another study"):
        merge([bank.path, other.path], tmp_path / "to")
    third = Bank.create(tmp_path / "c.zarr", study(), plan(held_out=0.2))
    with pytest.raises(whence.InputError, match=r"held_out is 0\.2 there"):
        merge([bank.path, third.path], tmp_path / "to")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr", "c.zarr"]


def test_banks_that_disagree_on_a_row_are_refused(tmp_path):
    bank, other = make(tmp_path / "a.zarr"), make(tmp_path / "b.zarr", blocks=[])
    other.write_block(3, [Retrained({"margin": np.ones(TARGETS)}, 0.1) for _ in range(4)])
    with pytest.raises(BankError, match="disagree on margin of rows 12 to 15"):
        merge([bank.path, other.path], tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_damaged_bank_is_not_merged(tmp_path):
    left, right = make(tmp_path / "l.zarr", blocks=[0]), make(tmp_path / "r.zarr", blocks=[1])
    chunk = right.path / "margin" / "c.1.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    with pytest.raises(BankError, match=r"block 1 of .* is damaged"):
        merge([left.path, right.path], tmp_path / "to")
    fill(right, study(), [0])
    assert not (tmp_path / "to").exists()
