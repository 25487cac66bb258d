"""Distillation from two teachers: an untrained network on the forget set, the old model elsewhere.

Chundawat, Tarun, Mandal, Kankanhalli 2023 (arXiv 2205.08096), "bad teaching", equation 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from whence.applications.unlearning import objectives
from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request
from whence.study.recipe import Adam

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True)
class Distillation(Edit):
    """Divergence by Adam from an untrained network of its own for each model on the forget set, and from the
    old model on examples to keep.

    Parameters
    ----------
    lr, epochs, batch_size : of the further training.
    keeping : examples to keep, in sizes of the forget set.
    temperature : of the divergence.
    """

    lr: float = 1e-3
    epochs: int = 5
    batch_size: int = 64
    keeping: int = 5
    temperature: float = 1.0
    name: ClassVar[str] = "distillation"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        count = len(request.forget)
        points = request.drawn(seeds, 1, self.keeping * count)
        bad = tuner.fresh([int(request.rng(seed, 2).integers(1 << 62)) for seed in seeds])
        teachers = [tuner.logits(bad, points[:, :count]), tuner.logits(state, points[:, count:])]
        return tuner.teach(
            state,
            points,
            torch.cat(teachers, dim=1),
            objectives.Divergence(self.temperature),
            seeds,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=Adam(self.lr),
        )

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        points = len(forget) + min(self.keeping * len(forget), study.n - len(forget))
        return costs(study, forget, self.epochs * points, points)

    @classmethod
    def grid(cls, **given: Any) -> tuple[Distillation, ...]:
        """Learning rate 3e-4, 1e-3 or 3e-3, 3 or 10 epochs."""
        return tuple(cls(lr, epochs, **given) for epochs in (3, 10) for lr in (3e-4, 1e-3, 3e-3))
