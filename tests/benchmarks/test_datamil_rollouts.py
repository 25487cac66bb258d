"""The quick run of `python -m benchmarks datamil_rollouts`, where MetaWorld is installed."""

import pytest

from benchmarks import datamil, datamil_rollouts, datamil_rows


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_datamil_rollouts(tmp_path, monkeypatch):
    pytest.importorskip("metaworld", reason="the robot extra is not installed")
    for module in (datamil, datamil_rollouts):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    result = datamil_rollouts.run(quick=True)
    rules = {"all data", "target only", "random", datamil.METAGRADIENT, datamil_rollouts.ROLLOUTS}
    rules |= set(datamil_rows.HEURISTICS)
    assert {row["validation"] for row in result.rows if "validation" in row} == rules
    assert {row["success_of"] for row in result.rows if "success_of" in row} == {
        *rules,
        datamil_rollouts.MOST_TRIALS,
    }
    tasks = {*datamil.QUICK["targets"], *datamil_rollouts.QUICK["validation"]["tasks"]}
    assert {row["rounds_of"] for row in result.rows if "rounds_of" in row} == tasks
    profiles = [(row["profile_of"], row["rule"]) for row in result.rows if "profile_of" in row]
    assert len(set(profiles)) == len(profiles) == 3 * len(tasks)
    assert len(result.claims) == 2
    assert next(row["rollouts"] for row in result.rows if "cost" in row) == 24 * 2
    again = datamil_rollouts.run(quick=True)  # finds everything and says the same
    assert again.rows == result.rows
