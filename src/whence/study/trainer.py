"""What the rest of the house asks of anything that can train: the abstract `Trainer`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Retrained:
    """The record of one retraining.

    Attributes
    ----------
    outputs : name to array ``(targets,)`` or ``(targets, classes)``, float32; empty when it failed.
    seconds : time of this retraining (a share of the stack's time when many are trained at once).
    state : the trained weights by name, when asked for.
    error : why there is no result, or None.
    """

    outputs: dict[str, np.ndarray]
    seconds: float
    state: dict[str, Any] | None = None
    error: str | None = None
    notes: dict[str, float] = field(default_factory=dict)


class Trainer(ABC):
    """Trains a study's model on masks. A retraining is a function of ``(mask, seed)`` alone, bit for bit on
    one kind of device, whatever other retrainings it is computed with."""

    def choose(self, masks: np.ndarray, seeds: np.ndarray, most: int | None = None) -> dict[str, Any]:
        """Measure how to train fastest; the answer is stored in the bank and given to every later trainer.

        Parameters
        ----------
        masks : boolean ``(m, n)``, seeds : int64 ``(m,)``; a few rows of the bank to be measured on.
        most : number of models that will be trained, where that is known.

        Returns
        -------
        A JSON-able dict with at least ``seconds_per_model``; ``stack`` is the number of models trained at
        once.
        """
        from time import perf_counter

        start = perf_counter()
        for _ in self.train(masks[:1], seeds[:1]):
            pass
        return {"driver": "loop", "stack": 1, "seconds_per_model": perf_counter() - start}

    @abstractmethod
    def train(self, masks: np.ndarray, seeds: np.ndarray, keep_states: bool = False) -> Iterator[Retrained]:
        """Train one model for each row, in order.

        Parameters
        ----------
        masks : boolean ``(m, n)``; seeds : int64 ``(m,)``; keep_states : also return trained weights.
        """
