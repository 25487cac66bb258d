"""The quick runs of `python -m benchmarks harmonic` and `keep`, where MNIST and CIFAR-10 are to be had."""

import os

import pytest

from benchmarks import harmonic, keep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs MNIST and CIFAR-10 in $WHENCE_DATA"),
]


def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(harmonic, "RUNS", tmp_path)
    result = harmonic.run(quick=True)
    curve = [row for row in result.rows if row.get("method") == "ridge" and row["study"].startswith("mnist")]
    assert curve[0]["r2"] < curve[-1]["r2"] < curve[-1]["r2_ceiling"] + 0.1
    assert abs(curve[-1]["lds"] - curve[-1]["forecast_lds"]) < 0.1
    parts = [row["share"] for row in result.rows if row.get("split", "").startswith("mnist")]
    assert sum(parts) == pytest.approx(1) and parts[0] > 0.2
    spread = {row["design"]: row["spread_one_target"] for row in result.rows if "design" in row}
    assert spread["overlap, independent masks"] < 0.5 * spread["published, rho 0, 0.2, 0.4"]
    above = [claim for claim in result.claims if "above its ceiling" in claim["claim"]]
    assert len(above) == 4 and all(claim["holds"] for claim in above)


def test_quick_run_of_kept_fractions(tmp_path, monkeypatch):
    monkeypatch.setattr(keep, "RUNS", tmp_path)
    result = keep.run(quick=True)
    cells = {(row["estimated_at"], row["judged_at"]): row for row in result.rows if "judged_at" in row}
    assert len(cells) == 9 and all(row["lds"] > 0.1 for row in cells.values())
    models = {row["keep"]: row["models"] for row in result.rows if "keep" in row}
    assert models[0.2] == pytest.approx(2.5 * models[0.5], rel=0.1)
    assert all(claim["holds"] for claim in result.claims)
