"""The quick run of `python -m benchmarks modeldiff`, where Fashion-MNIST and CIFAR-10 are to be had."""

import os

import pytest

from benchmarks import modeldiff

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs Fashion-MNIST and CIFAR-10"),
]


def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(modeldiff, "RUNS", tmp_path)
    result = modeldiff.run(quick=True)
    rows = {(r["compared"], r["of"], r["component"]): r for r in result.rows if "compared" in r}
    passed = [row for (what, of, _), row in rows.items() if (what, of) == ("stamp", "sees") and row["passes"]]
    assert passed and passed[0]["precision_30"] >= 0.8
    assert passed[0]["share"] > 3 * passed[0]["share_of_the_other"]
    largest = "a stamp of 3 x 3 pixels"
    effect = {(r["recipe"], r["stamp"]): r["effect"] for r in result.rows if "stamp" in r}
    assert effect["blanked 0%", largest] > 0.1 > abs(effect["blanked 100%", largest])
    itself = next(r for r in result.rows if "against_itself" in r)
    assert itself["passed"] == 0
    assert result.details["with and without augmentation"]["statement"]
    assert (tmp_path / "modeldiff-quick" / "stamp.html").exists()
