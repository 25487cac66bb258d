"""Perplexity filter: choose by how surprised a model is that was trained on other candidates.

Wenzek et al. 2020 (CCNet, arXiv 1911.00359) keep the lowest perplexities; Marion et al. 2023 (arXiv
2309.04564) compare low, middle and high and find the middle best for pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.errors import InputError
from whence.study.variants import self_targets, with_outputs
from whence.subsets import Subsets


@dataclass(frozen=True)
class Perplexity(Selector):
    """By the loss of each candidate under models of the study's recipe that did not train on it.

    Perplexity is the exponential of the mean loss per token and ranks as the loss does, given a loss that is
    normalised per token. It knows nothing of the target examples.

    Parameters
    ----------
    keep : "low", "middle" (nearest to the median rank) or "high".
    pairs : of models, each trained on a random half of the candidates and on the other half; losses are means
        over pairs.
    device : "cpu", "cuda", ...
    """

    keep: Literal["low", "middle", "high"] = "middle"
    pairs: int = 1
    device: str | None = None
    name: str = "perplexity"
    needs: ClassVar[tuple[str, ...]] = ("inputs", "answers", "training")
    targeted: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.keep not in ("low", "middle", "high"):
            raise InputError(f'keep must be "low", "middle" or "high", received {self.keep!r}.')
        if self.pairs < 1:
            raise InputError(f"pairs must be at least 1, received {self.pairs}.")

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) minus the loss, the loss, or minus the distance of its rank from the middle."""
        losses = self.losses(pool, seed)
        if self.keep != "middle":
            return -losses if self.keep == "low" else losses
        rank = np.argsort(np.argsort(losses, kind="stable"), kind="stable")
        return -np.abs(rank - (pool.n - 1) / 2)

    def losses(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) mean out-of-sample loss, in the units of the study's loss."""
        halves = Subsets.uniform(pool.n, 0.5, seed).masks(range(self.pairs))
        masks = np.stack([halves, ~halves], 1).reshape(-1, pool.n)
        study = with_outputs(self_targets(pool.study), ["loss"])
        total = np.zeros(pool.n)
        runs = study.trainer(self.device).train(masks, np.arange(len(masks)) + seed)
        for mask, run in zip(masks, runs, strict=True):
            if run.error is not None:
                raise InputError(f"a training for {self.name} failed: {run.error}")
            total += np.where(mask, 0.0, run.outputs["loss"])
        return total / self.pairs
