"""The quick run of `python -m benchmarks datamil_filling`, where MetaWorld is installed."""

import pytest

from benchmarks import datamil, datamil_filling, datamil_rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_datamil_filling(tmp_path, monkeypatch):
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    for module in (datamil, datamil_filling):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    result = datamil_filling.run(quick=True)
    known = {row["known_filling"]: row for row in result.rows if "known_filling" in row}
    assert list(known) == list(datamil_filling.FILLINGS)
    validated = [(row["validation"], row["head"]) for row in result.rows if "validation" in row]
    assert set(validated) == {
        *((name, None) for name in ("all data", "target only", datamil.METAGRADIENT)),
        (datamil.METAGRADIENT, 0.05),
    }
    assert {row["success_ranked"] for row in result.rows if "success_ranked" in row} == {
        *("all data", "target only", "random", datamil.DESCENDED, datamil.METAGRADIENT),
        *datamil_rows.HEURISTICS,
    }
    assert len(result.claims) == 2 and result.settings["head"] in (None, 0.05)
    again = datamil_filling.run(quick=True)  # finds everything and says the same
    assert again.rows == result.rows
