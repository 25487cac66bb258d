"""The quick run of `python -m benchmarks datamil_filling`, where MetaWorld is installed."""

import pytest

from benchmarks import datamil, datamil_filling


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
    rules = [name for name, head in validated if head]
    assert len(rules) == 5 and validated[2:7] == [(rule, None) for rule in rules]
    assert {row["success_ranked"] for row in result.rows if "success_ranked" in row} == {
        *("all data", "target only", "random", datamil.DESCENDED, *rules)
    }
    ranked, filled = (
        {row[kind]: row for row in result.rows if kind in row}
        for kind in ("ranked_choice_of", "filled_choice_of_0.05")
    )
    assert all(filled[rule]["episodes"] == ranked[rule]["episodes"] for rule in rules)
    assert len(result.claims) == 4
    again = datamil_filling.run(quick=True)  # finds everything and says the same
    assert again.rows == result.rows
