"""The quick runs of `python -m benchmarks support` and `leakage`, where CIFAR-10 is to be had."""

import os

import pytest

from benchmarks import leakage, support

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs CIFAR-10 in $WHENCE_DATA"),
]


def test_support(tmp_path, monkeypatch):
    monkeypatch.setattr(support, "RUNS", tmp_path)
    result = support.run(quick=True)
    rows = {row["ranker"]: row for row in result.rows if "ranker" in row}
    assert rows["guided datamodel"]["flipped"] > rows["random"]["flipped"]
    assert rows["TRAK-10"]["lds"] > 0.3 > abs(rows["random"]["lds"])
    assert {row["sizes"].split(": ")[0] for row in result.rows if "sizes" in row} == {
        "ridge datamodel",
        "guided datamodel",
    }
    again = support.run(quick=True)  # finds everything and says the same
    assert [r["median"] for r in again.rows if "ranker" in r] == [
        r["median"] for r in result.rows if "ranker" in r
    ]


def test_leakage(tmp_path, monkeypatch):
    monkeypatch.setattr(leakage, "RUNS", tmp_path)
    result = leakage.run(quick=True)
    rows = {row["evidence"]: row for row in result.rows if "evidence" in row}
    assert rows["datamodel and pixels"]["planted"] > rows["datamodel"]["planted"] > 0.3
    assert rows["datamodel"]["exact"] > 0.8
    change = {row["removed"]: row["margin_mean"] for row in result.rows if "removed" in row}
    assert change["suspects"] < -0.2 < change["random"]
    assert (tmp_path / "leakage-n200" / "candidates.html").exists()
