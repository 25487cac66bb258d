"""The quick run of `python -m benchmarks embedding`, where MNIST is to be had."""

import os

import pytest

from benchmarks import embedding, kept, studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs MNIST in $WHENCE_DATA"),
]


def test_quick_run(tmp_path, monkeypatch):
    for module in (kept, studies, embedding):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    result = embedding.run(quick=True)
    purity = {row["attribution"]: row["purity"] for row in result.rows if "purity" in row}
    chance = {row["attribution"]: row["purity_by_chance"] for row in result.rows if "purity" in row}
    assert purity["guided datamodel"] > 0.6 > chance["guided datamodel"]
    assert purity["random"] < chance["random"] + 0.2
    ends = {(row["component"], row["removed_end"]): row["apart"] for row in result.rows if "apart" in row}
    assert all(ends[c, "upper"] < 0 < ends[c, "lower"] for c in (0, 1))
