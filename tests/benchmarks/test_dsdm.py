"""The quick version of the benchmark of text selection: every rule has its loss, every promise its number."""

import os
from pathlib import Path

import pytest

from benchmarks import dsdm, dsdm_pool, harness


@pytest.mark.slow
def test_quick_dsdm(tmp_path, monkeypatch):
    folder = os.environ.get("WHENCE_DATA")
    if folder is None or not (Path(folder) / "text" / "eval-targets").is_dir():
        pytest.skip("WHENCE_DATA names no folder with the texts")
    monkeypatch.setattr(dsdm, "RUNS", tmp_path)
    result = dsdm.run(quick=True)
    trained = [row for row in result.rows if "rule" in row]
    rules = {row["rule"] for row in trained if row["model"] == "proxy"}
    assert {"DsDm", "DsDm, worst", "DSIR", "LESS", "random", "perplexity", "BM25", "classifier"} <= rules
    assert {row["task"] for row in trained} == set(dsdm.QUICK["tasks"])
    assert all(0 < row["loss"] < 10 for row in trained)
    assert {row["task"] for row in result.rows if "lds" in row} == {*dsdm.QUICK["tasks"], "mean"}
    assert result.claims and isinstance(result, harness.Result)
    assert result.details["composition"]["pool"].keys() >= set(dsdm_pool.JUNK)
