"""A full disk gives one clear error, and the bank stays usable."""

import errno
import os
import subprocess

import numpy as np
import pytest

from tests.bank.studies import fill, make, plan, same, study
from whence.bank import Bank, DiskFullError, _files


@pytest.mark.parametrize("allowed", range(9))
def test_no_space_at_any_write_of_a_block(tmp_path, monkeypatch, allowed):
    """Let `allowed` files through, then be full: the four files of a block, and those of growing the bank."""
    bank = make(tmp_path / "b.zarr", rows=8, block=4, blocks=[0])
    before = bank.outputs_of()
    real, written = os.fsync, [0]

    def fsync(descriptor):
        written[0] += 1
        if written[0] > allowed:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(_files.os, "fsync", fsync)
    full = False
    try:
        fill(bank, study(), [1])
    except DiskFullError as problem:
        full = True
        assert "the disk is full: block 1 (rows 4 to 7)" in str(problem)
        assert "run the same call again" in str(problem)
    monkeypatch.undo()
    assert full == (allowed < 8)  # 3 chunks and the marker, each with its folder
    assert not list(bank.path.rglob(".part-*"))
    assert np.array_equal(bank.outputs_of(rows=range(4)), before)
    assert bank.verify().ok
    fill(bank, study(), bank.missing_blocks())
    assert same(bank, make(tmp_path / "whole.zarr", rows=8, block=4))


def test_no_space_to_create_leaves_nothing(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DiskFullError, match="the beginning of"):
        Bank.create(tmp_path / "b.zarr", study(), plan())
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_system_are_not_called_a_full_disk(tmp_path, monkeypatch):
    bank = make(tmp_path / "b.zarr", blocks=[])

    def replace(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_files.os, "replace", replace)
    with pytest.raises(PermissionError):
        fill(bank, study(), [0])


@pytest.fixture
def tiny_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full(tiny_disk):
    bank = make(tiny_disk / "b.zarr", rows=40, block=4, blocks=[0])
    fill(bank, study(), [1])
    filler = tiny_disk / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(b"0" * 4096)
    with pytest.raises(DiskFullError):
        fill(bank, study(), range(2, 10))
    filler.unlink()
    assert bank.verify().ok
    assert bank.rows_committed >= 8
    fill(bank, study(), bank.missing_blocks())
    assert bank.rows_committed == 40
    assert bank.verify().ok
