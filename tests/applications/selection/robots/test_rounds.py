"""Rounds on disk: as they were, whole or not at all, damaged or without room named."""

import errno

import numpy as np
import pytest

from whence.applications.selection.robots import rounds
from whence.errors import InputError


def test_rounds_come_back_and_replace_earlier_ones(tmp_path):
    path = tmp_path / "new" / "one.npz"
    for number in (1, 2):
        rounds.write_rounds(path, {"a": np.arange(number), "b": np.array(True)})
        a, b = rounds.read_rounds(path, ("a", "b"), "descent")
        assert a.tolist() == list(range(number)) and b
    assert [one.name for one in path.parent.iterdir()] == ["one.npz"]


def test_a_full_disk_is_told_and_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "one.npz"
    rounds.write_rounds(path, {"a": np.arange(3)})

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rounds.np, "savez_compressed", full)
    with pytest.raises(InputError, match=r"No space left on device\); earlier rounds are still there"):
        rounds.write_rounds(path, {"a": np.arange(4)})
    assert [one.name for one in tmp_path.iterdir()] == ["one.npz"]
    assert rounds.read_rounds(path, ("a",), "descent")[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"PK no rounds"])
def test_what_is_no_round_is_named(tmp_path, content):
    path = tmp_path / "one.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"one\.npz cannot be read as the rounds of a descent"):
        rounds.read_rounds(path, ("a",), "descent")
    rounds.write_rounds(path, {"b": np.zeros(1)})
    with pytest.raises(InputError, match="remove it, and they are made again"):
        rounds.read_rounds(path, ("a",), "descent")
