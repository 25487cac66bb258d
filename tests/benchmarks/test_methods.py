"""The quick run of `python -m benchmarks methods`, where MNIST is to be had."""

import os

import pytest

from benchmarks import kept, methods, studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs MNIST in $WHENCE_DATA"),
]


def test_quick_run(tmp_path, monkeypatch):
    for module in (kept, studies):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    result = methods.run(quick=True)
    lds = {row["method"]: row["lds"] for row in result.rows if "lds" in row}
    assert abs(lds["random"]) < 0.15 < lds["gradient dot, 1"] < lds["TRAK, 10"]
    assert lds["ridge, 50"] < lds["ridge, 250"]
    assert lds["guided, 250"] > max(lds["ridge, 250"], lds["TRAK, 10"]) > 0.4
    # a second run finds everything and says the same
    again = methods.run(quick=True)
    assert [row for row in again.rows if "lds" in row] == [row for row in result.rows if "lds" in row]
