"""A stand-in for a bank whose outputs, noise and therefore true correlations are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from whence.attribution import Attribution
from whence.bank import MaskGroups, Sample


class LinearBank:
    """Outputs are ``masks @ weight.T + noise``: the linear predictor `truth` is the perfect one.

    Held-out masks have `seeds` seeds each, the `models` others one each; a fifth of these are validation
    rows.
    """

    def __init__(self, n=40, targets=30, held_out=60, seeds=2, noise=1.0, models=200, seed=0, vector=None):
        rng = np.random.default_rng(seed)
        self.weight = rng.normal(size=(targets, n) if vector is None else (targets, vector, n)) / np.sqrt(
            n / 4
        )
        self.noise, self.seeds, self.study_fingerprint, self.outputs = noise, seeds, "study", ("margin",)
        self.train_ids = np.array([f"train/{i}" for i in range(n)])
        self.target_ids = np.array([f"target/{i}" for i in range(targets)])
        self.plan = SimpleNamespace(subsets=SimpleNamespace(keep=0.5))
        self.n, self._parts = n, {}
        part = np.array([0, 0, 0, 0, 1])[np.arange(models) % 5]
        for code, name, count, repeats in (
            (0, "train", int((part == 0).sum()), 1),
            (1, "validation", int((part == 1).sum()), 1),
            (2, "held_out", held_out, seeds),
        ):
            index = np.flatnonzero(part == code) if code < 2 else models + np.arange(held_out)
            masks = np.zeros((count, n), bool)
            for row in masks:
                row[rng.permutation(n)[: n // 2]] = True
            masks, index = np.repeat(masks, repeats, axis=0), np.repeat(index, repeats)
            clean = masks @ self.weight.reshape(-1, n).T
            values = clean + noise * rng.normal(size=clean.shape)
            values = values.reshape(len(masks), *self.weight.shape[:-1])
            repeat = np.arange(len(masks)) % repeats
            self._parts[name] = Sample(
                masks,
                values.astype(np.float32),
                index,
                repeat,
                seed=index * 7 + repeat,
                rows=index * 2 + repeat,
            )

    def select(self, part, output):
        return self._parts[part]

    def by_mask(self, part, output):
        sample, seeds = self._parts[part], self.seeds if part == "held_out" else 1
        outputs = sample.outputs.reshape(-1, seeds, *sample.outputs.shape[1:])
        return MaskGroups(sample.masks[::seeds], outputs, sample.mask_index[::seeds])

    def truth(self, **changes):
        """The attribution that predicts the expected outputs."""
        given = {
            "weight": self.weight,
            "target_ids": self.target_ids,
            "train_ids": self.train_ids,
            "calibrated": True,
            "method": "truth",
            "provenance": {"study": "study"},
        }
        return Attribution(**{**given, **changes})

    def guess(self, error=1.0, seed=1, **changes):
        """The truth with an error in the weights."""
        rng = np.random.default_rng(seed)
        spread = error * self.weight.std() * rng.normal(size=self.weight.shape)
        return self.truth(weight=self.weight + spread, method=f"guess {error}", **changes)
