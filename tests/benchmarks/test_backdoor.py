"""The quick run of `python -m benchmarks backdoor`, where MNIST and Fashion-MNIST are to be had."""

import os

import numpy as np
import pytest

from benchmarks import backdoor
from benchmarks.backdoor import auroc, first

data = pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs (Fashion-)MNIST in $WHENCE_DATA")


def test_auroc_counts_ties_half():
    assert auroc(np.array([3.0, 2, 1, 0]), np.array([True, True, False, False])) == 1
    assert auroc(np.zeros(6), np.arange(6) < 2) == 0.5
    assert auroc(np.array([1.0, 1, 0, 2]), np.array([True, False, False, False])) == 0.5
    assert first(np.array([0.0, 2, 1, 2]), 2).tolist() == [1, 3]


@pytest.mark.slow
@data
def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(backdoor, "RUNS", tmp_path)
    result = backdoor.run(quick=True)
    found = {row["attack"]: row for row in result.rows if "forecast" in row}
    assert set(found) == {attack.name for attack in backdoor.QUICKLY}
    assert found["four corners"]["success"] > 0.8 and found["four corners"]["auroc"] > 0.8
    gone = {row["attack"]: row for row in result.rows if row.get("removed") == "all poisoned"}
    assert all(row["success"] < 0.2 < row["success_before"] for row in gone.values())
    compared = next(row for row in result.rows if "AUROC of loss" in row)
    assert sum(name.startswith("AUROC of ") for name in compared) == 7
    assert [row["found"] for row in result.rows if "clean_study" in row] == [False, False]
    again = backdoor.run(quick=True)  # finds everything and says the same
    assert again.rows == result.rows
