"""The quick run of `python -m benchmarks metagradients`, where CIFAR-10 is to be had."""

import os

import pytest

from benchmarks import metagradients

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs CIFAR-10 in $WHENCE_DATA"),
]


def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(metagradients, "RUNS", tmp_path)
    result = metagradients.run(quick=True)
    lds = {(r["recipe"], r["method"], r["retrained_with"]): r["lds"] for r in result.rows if "lds" in r}
    own = lds["smooth", "MAGIC", "its own seed"]
    assert own > 0.9 and own > lds["ordinary", "MAGIC", "its own seed"]
    assert own > lds["smooth", "MAGIC", "fresh seeds"]
    smoothness = {r["recipe"]: r["metasmoothness"] for r in result.rows if "metasmoothness" in r}
    assert smoothness["smooth"] > 0.9 > smoothness["ordinary"]
    cost = {r["cost_of"]: r["retrainings"] for r in result.rows if "cost_of" in r}
    assert 1 < cost["batch of 4, its mean"] < cost["batch of 4, one by one"]
    memory = [r for r in result.rows if "states" in r]
    assert all(r["bound"] - 1 <= r["states"] <= r["bound"] + 3 for r in memory)
    assert {r["steps"] for r in memory} == {16, 64} and {r["fanout"] for r in memory} == {2, 16, 64}
    assert [claim["mark"] for claim in result.claims] == [">= 0.9", "<= 3"]
    # a second run finds everything and says the same
    again = metagradients.run(quick=True)
    assert [r for r in again.rows if "lds" in r] == [r for r in result.rows if "lds" in r]
