"""The quick run of `python -m benchmarks memory`: cap and forecast hold, the scores are the same."""

import pytest

from benchmarks import memory

pytestmark = pytest.mark.slow


def test_quick_run():
    result = memory.run(quick=True)
    assert all(claim["holds"] for claim in result.claims), result.claims
    row = result.rows[0]
    assert 0.8 < row["memory_forecast_over_measured"] < 2
    assert 0.95 < row["disk_forecast_over_measured"] < 1.05
