"""The quick run of `python -m benchmarks mislabels`, where MNIST, CIFAR-10 and CIFAR-10N are to be had."""

import os

import numpy as np
import pytest

from benchmarks import mislabels, studies

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("WHENCE_DATA" not in os.environ, reason="needs real data in $WHENCE_DATA"),
]


def test_quick(tmp_path, monkeypatch):
    monkeypatch.setattr(mislabels, "RUNS", tmp_path)
    result = mislabels.run(quick=True)
    auc = {(row["data"], row["ranking"]): row["auc"] for row in result.rows if "ranking" in row}
    for name in mislabels.MNIST:
        assert auc[name, "out-of-fold margin"] > 0.9 and auc[name, "self-confidence"] > 0.9
        assert abs(auc[name, "self-influence, random"] - 0.5) < 0.2
    cleaned = {(row["data"], row["training_set"]): row for row in result.rows if "training_set" in row}
    assert len(cleaned) == 4 * 5 and all(0 < row["accuracy"] < 1 for row in cleaned.values())
    assert len([claim for claim in result.claims if "AUC" in claim["claim"]]) == 5 + len(mislabels.MNIST)
    assert len(list(tmp_path.rglob("suspects.html"))) == 5
    again = mislabels.run(quick=True)  # finds every bank and says the same
    assert [row["auc"] for row in again.rows if "ranking" in row] == list(auc.values())


def test_people_were_wrong_as_often_as_published():
    """Wei et al. 2022 count 9.03 % and 40.21 % of the labels."""
    import whence

    truth = whence.datasets.cifar10().train_y
    for kind, share in (("aggregate", 0.0901), ("worst", 0.4021)):
        assert np.mean(studies.human_labels(kind) != truth) == pytest.approx(share, abs=5e-4)


def test_planted_labels_are_never_the_right_ones():
    labels = np.arange(200) % 10
    changed = mislabels.flip(labels, 10, mislabels.QUICK)
    assert (changed != labels).sum() == 20 and set(changed) == set(labels)
