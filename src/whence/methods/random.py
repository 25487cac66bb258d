"""Random scores: the floor under every comparison."""

from __future__ import annotations

from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.methods.base import Method, first_output, provenance


class Random(Method):
    """Independent standard normal scores, equal for equal seeds.

    Parameters
    ----------
    seed : of the scores
    """

    needs = ("ids",)

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def attribute(self, source: Any, output: str | None = None) -> Attribution:
        """Scores (target, train) for a Study or a Bank."""
        self.require(source, output)
        shape = (len(source.target_ids), len(source.train_ids))
        return Attribution(
            np.random.default_rng(self.seed).standard_normal(shape, dtype=np.float32),
            target_ids=source.target_ids,
            train_ids=source.train_ids,
            output=first_output(source, output),
            units="arbitrary (random)",
            method="random",
            provenance=provenance(source, self),
        )
