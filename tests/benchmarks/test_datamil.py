"""The quick run of `python -m benchmarks datamil`, where MetaWorld is installed."""

import pytest

from benchmarks import datamil, datamil_rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_datamil(tmp_path, monkeypatch):
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    monkeypatch.setattr(datamil, "RUNS", tmp_path)
    result = datamil.run(quick=True)
    choice = {row["choice_of"]: row for row in result.rows if "choice_of" in row}
    for name in (datamil.REGRESSION, datamil.METAGRADIENT):
        assert choice[name]["own, expert"] > choice["random"]["own, expert"]
    ranks = [row["rank_correlation"] for row in result.rows if "estimates_of" in row]
    assert len(ranks) == 2 and min(ranks) > 0.1
    assert {row["success"] for row in result.rows if "success" in row and "mean" in row} >= {
        "all data",
        "target only",
        "random",
        *datamil_rows.HEURISTICS,
    }
    again = datamil.run(quick=True)  # finds everything and says the same
    assert [row for row in again.rows if "cost" not in row] == [
        row for row in result.rows if "cost" not in row
    ]
