"""The quick run of `python -m benchmarks sample_complexity`, where CIFAR-10 is to be had."""

import os

import pytest

from benchmarks import sample_complexity

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs CIFAR-10 in $WHENCE_DATA"),
]


def test_quick_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_complexity, "RUNS", tmp_path)
    result = sample_complexity.run(quick=True)
    by = {(row["method"], row["models"]): row["lds"] for row in result.rows}
    most = sample_complexity.QUICK["models"][-1]
    ceiling = by["noise ceiling", 0]
    for name in sample_complexity.FITTED:
        assert 0.2 < by[name, most] < ceiling
    for name in ("LASSO", "ridge", "difference of means"):
        assert by[name, 50] < by[name, most]
    assert abs(by["random", 0]) < 0.15
    assert len(result.claims) == 3 and result.details["curves"]["OLS"][0]["models"] == most
