"""A small study with pictures, a bank of which the truth is known, and everything a report can show of
them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import whence
from tests.evaluate.banks import LinearBank
from whence.evaluate import Counterfactual, compare, cost_curve, learning_curve
from whence.evaluate.counterfactual import Removal, _agreement_of


class Pictures:
    """What a report asks of a study, without a way to train."""

    is_image = True

    def __init__(
        self, bank: LinearBank, name: str = "toys", classes: tuple[str, ...] = ("cat", "dog")
    ) -> None:
        rng = np.random.default_rng(3)
        self.name, self.classes = name, list(classes)
        self.train_ids, self.target_ids = bank.train_ids, bank.target_ids
        self.train_labels = np.arange(len(bank.train_ids)) % 2
        self.target_labels = np.arange(len(bank.target_ids)) % 2
        self._train = rng.integers(0, 256, (len(bank.train_ids), 6, 6, 3), dtype=np.uint8)
        self._target = rng.integers(0, 256, (len(bank.target_ids), 6, 6, 3), dtype=np.uint8)

    def image(self, kind, index):
        return (self._train if kind == "train" else self._target)[index]

    def describe(self):
        return {"name": self.name, "n": len(self.train_ids), "fingerprint": "a" * 64}


class Fit:
    """Difference of means, enough of a method for a learning curve."""

    def attribute(self, bank, output="margin"):
        sample = bank.select("train", "margin")
        kept = sample.masks.astype(float)
        inside = kept.T @ sample.outputs / kept.sum(0)[:, None]
        outside = (1 - kept).T @ sample.outputs / (1 - kept).sum(0)[:, None]
        ids = {"target_ids": bank.target_ids, "train_ids": bank.train_ids}
        return whence.Attribution((inside - outside).T, method="Difference of means", calibrated=True, **ids)


def removals(scores: whence.Attribution) -> Counterfactual:
    """Removals whose outcome is the prediction and a little noise."""
    rng = np.random.default_rng(5)
    rows = [
        Removal(target, kind, k, predicted, predicted * 0.8 + rng.normal() * 0.05, 0.05, 4, ())
        for target in scores.target_ids[:4].tolist()
        for kind, sign in (("top", -1), ("bottom", 1), ("random", 0.05))
        for k, predicted in ((2, sign * 0.7), (4, sign * 1.2))
    ]
    overall = _agreement_of(rows, 100, 0)
    return Counterfactual(
        rows=tuple(rows),
        overall=overall,
        by_kind={
            kind: _agreement_of([r for r in rows if r.kind == kind], 0, 0) for kind in ("top", "bottom")
        },
        all_targets=overall,
        attainable=0.99,
        n=40,
        targets=4,
        retrainings=4,
        controls=10,
        trained=106,
        failed=0,
        output="margin",
        units="margin per example",
        method="Ridge",
        calibrated=True,
    )


@pytest.fixture(scope="session")
def world():
    """bank, study, scores, comparison, removals, curve, cost: the inputs of a full report."""
    bank = LinearBank()
    ids = {"target_ids": bank.target_ids, "train_ids": bank.train_ids}
    rng = np.random.default_rng(1)
    scores = whence.Attribution(
        bank.weight, method="Ridge datamodel", calibrated=True, keep=0.5, provenance={"penalty": 3.0}, **ids
    )
    random = whence.Attribution(rng.normal(size=bank.weight.shape), method="Random", **ids)
    similar = whence.Attribution(bank.weight + rng.normal(size=bank.weight.shape), **ids)
    rivals = {"Ridge datamodel": scores, "Random": random, "Pixel similarity": similar}
    comparison = compare(rivals, bank, bootstrap=200)
    return SimpleNamespace(
        bank=bank,
        study=Pictures(bank),
        scores=scores,
        comparison=comparison,
        cost=cost_curve(comparison, {"Ridge datamodel": 200, "Random": 0, "Pixel similarity": 0.2}),
        removals=removals(scores),
        curve=learning_curve(Fit(), bank, models=(40, 80, 160), bootstrap=200),
    )


@pytest.fixture
def finding():
    from whence.finding import Chart, Examples, Series, Table

    return whence.Finding(
        "Support of target/3",
        "Without 3 training images target/3 is called a dog.",
        table=Table(["left out", "margin"], [[1, 0.51], [3, -0.22]]),
        chart=Chart("lines", [Series("realised", [1, 3], [0.51, -0.22], low=[0.4, -0.3], high=[0.6, -0.1])]),
        examples=[Examples("The set", [4, 5, 6], notes=["+0.3", "+0.2", "+0.1"])],
        verified="20 fresh retrainings.",
    )
