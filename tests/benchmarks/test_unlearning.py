"""The quick run of `python -m benchmarks unlearning`, where CIFAR-10 is to be had."""

import os

import pytest

from benchmarks import unlearning

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs CIFAR-10 in $WHENCE_DATA"),
]


def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(unlearning, "RUNS", tmp_path)
    result = unlearning.run(quick=True)
    rows = {(row["set"], row["method"]): row for row in result.rows if "set" in row}
    sets = sorted({name for name, _ in rows})
    assert sets == sorted(unlearning.QUICK["sets"])
    for name in sets:
        assert rows[name, "floor"]["forget_p95"] < rows[name, "nothing"]["forget_p95"]
        assert rows[name, "oracle matching"]["forget_p95"] < rows[name, "nothing"]["forget_p95"]
        assert rows[name, "datamodel matching"]["compute"] > rows[name, "nothing"]["compute"] == 0
    convex = [claim for claim in result.claims if claim["claim"].startswith(("ridge:", "logistic:"))]
    assert len(convex) == 4 and all(claim["holds"] for claim in convex)
    refused = {row["attribution"]: row["refused"] for row in result.rows if "attribution" in row}
    assert not refused["ridge, 200"] and refused["random"]
    # a second run finds everything and says the same
    again = unlearning.run(quick=True)
    assert [row for row in again.rows if "set" in row] == [row for row in result.rows if "set" in row]
