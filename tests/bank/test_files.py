"""The chunk writer writes what Zarr's own codecs would, and nothing half-made."""

import os
import time

import numpy as np
import pytest
import zarr

from whence.bank import _files


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float16", "float32"])
def test_chunks_are_those_of_zarr(tmp_path, dtype):
    values = (np.random.default_rng(0).random((4, 5)) * 3).astype(dtype)
    array = zarr.create_array(
        tmp_path / "a",
        shape=(4, 5),
        chunks=(4, 5),
        dtype=dtype,
        compressors=[zarr.codecs.Crc32cCodec()],
        filters=None,
    )
    array[:] = values
    chunk = (tmp_path / "a" / "c" / "0" / "0").read_bytes()
    assert chunk == _files.encode(values)
    assert np.array_equal(_files.decode(chunk, np.dtype(dtype), (4, 5)), values)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    _files.write_atomic(path, b"old")
    monkeypatch.setattr(os, "replace", lambda a, b: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        _files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_sweeping_spares_the_young(tmp_path):
    young, old = tmp_path / f"{_files.TEMPORARY}1", tmp_path / f"{_files.TEMPORARY}2"
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    _files.sweep(tmp_path)
    assert os.listdir(tmp_path) == [young.name]
