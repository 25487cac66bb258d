"""The quick run of `python -m benchmarks blocks`; its score against scikit-learn's."""

import numpy as np
import pytest

from benchmarks import blocks


def test_auroc_counts_ties_half():
    metrics = pytest.importorskip("sklearn.metrics")
    score, inside = np.random.default_rng(0).integers(0, 9, 300), np.random.default_rng(1).random(300) < 0.2
    assert blocks.auroc(score, inside) == pytest.approx(metrics.roc_auc_score(inside, score))


@pytest.mark.slow
def test_quick_run():
    result = blocks.run(quick=True)
    found = {
        (row["row_means"], row["column_means"], row["search"]): row["auroc"]
        for row in result.rows
        if "auroc" in row
    }
    assert found[0.2, 0.0, blocks.OURS] > 0.9
    assert found[0.2, 0.0, blocks.OURS] > found[0.2, 0.0, blocks.RELEASED]
    plans = {row["planned"]: row for row in result.rows if "planned" in row}
    assert plans["class by class"]["weights_in_memory_gb"] < 1 < plans["at once"]["weights_in_memory_gb"]
