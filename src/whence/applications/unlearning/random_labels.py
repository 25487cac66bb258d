"""Random labels: the forget set is learned again under wrong labels, beside others under their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request
from whence.study.recipe import SGD

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True)
class RandomLabels(Edit):
    """Cross-entropy by SGD on the forget set, each example under another label than its own drawn once for
    each model, and on examples to keep (Golatkar et al. 2020, arXiv 1911.04933, a baseline there).

    Parameters
    ----------
    lr, epochs, batch_size, momentum : of the further training.
    keeping : examples to keep, in sizes of the forget set.
    """

    lr: float = 1e-3
    epochs: int = 5
    batch_size: int = 64
    momentum: float = 0.9
    keeping: int = 5
    name: ClassVar[str] = "random labels"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        count = len(request.forget)
        points = request.drawn(seeds, 1, self.keeping * count)
        labels = tuner.data.y.cpu()[points]
        classes = request.study.class_count or 2
        for i, seed in enumerate(seeds):
            shift = request.rng(seed, 1).integers(1, classes, count)
            own = labels[i, :count].numpy()
            labels[i, :count] = torch.as_tensor(np.asarray((own + shift) % classes))
        return tuner.teach(
            state,
            points,
            labels,
            None,
            seeds,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=SGD(self.lr, self.momentum),
        )

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        count = len(forget)
        return costs(study, forget, self.epochs * (count + min(self.keeping * count, study.n - count)))

    @classmethod
    def grid(cls, **given: Any) -> tuple[RandomLabels, ...]:
        """Learning rate 1e-3, 5e-3 or 2e-2, 3 or 10 epochs."""
        return tuple(cls(lr, epochs, **given) for epochs in (3, 10) for lr in (1e-3, 5e-3, 2e-2))
