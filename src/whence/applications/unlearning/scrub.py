"""SCRUB: obey the old model on what is kept, disobey it on what is forgotten.

Kurmanji, Triantafillou, Hayes, Triantafillou 2023 (arXiv 2302.09880), equation 3 and algorithm 1. The
student is what is trained; a released benchmark gave the optimizer the teacher's weights instead, so that
nothing moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from whence.applications.unlearning import objectives
from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request
from whence.study.recipe import SGD

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True)
class Scrub(Edit):
    """An epoch is a pass over the forget set that raises the divergence from the old model (in the first
    `ascents` epochs) and one over the retain set that lowers it together with the cross-entropy.

    Parameters
    ----------
    lr, epochs, momentum : of the further training.
    ascents : epochs that begin with the pass over the forget set.
    alpha, gamma : weights of divergence and cross-entropy on the retain set.
    temperature : of the divergence.
    forget_batch, batch_size : of the two passes.
    """

    lr: float = 1e-2
    epochs: int = 5
    ascents: int = 3
    alpha: float = 0.1
    gamma: float = 0.99
    temperature: float = 4.0
    forget_batch: int = 32
    batch_size: int = 64
    momentum: float = 0.9
    name: ClassVar[str] = "SCRUB"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        models, optimizer = len(seeds), SGD(self.lr, self.momentum)
        forget, retain = (request.everywhere(part, models) for part in (request.forget, request.retain))
        old = tuner.logits(state, forget)
        teacher = tuner.logits(state, retain)
        labels = torch.nn.functional.one_hot(tuner.data.y[retain.to(tuner.device)], teacher.shape[-1])
        both = torch.stack([teacher, labels.to(teacher.dtype)], dim=2)
        away = objectives.Divergence(self.temperature, -1.0)
        near = objectives.Taught(self.alpha, self.gamma, self.temperature)
        for epoch in range(self.epochs):
            turns: list[tuple[Any, Any, Any, int]] = [(retain, both, near, self.batch_size)]
            if epoch < self.ascents:
                turns.insert(0, (forget, old, away, self.forget_batch))
            for points, answers, objective, size in turns:
                state = tuner.teach(
                    state, points, answers, objective, [seed + epoch for seed in seeds],
                    epochs=1, batch_size=size, optimizer=optimizer,
                )  # fmt: skip
        return state

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        ascents = min(self.ascents, self.epochs)
        trained = ascents * len(forget) + self.epochs * (study.n - len(forget))
        return costs(study, forget, trained, study.n)

    @classmethod
    def grid(cls, **given: Any) -> tuple[Scrub, ...]:
        """Learning rate 1e-3, 5e-3 or 2e-2, 1 epoch (1 of ascent) or 5 (3 of ascent)."""
        return tuple(
            cls(lr, epochs, ascents, **given)
            for epochs, ascents in ((1, 1), (5, 3))
            for lr in (1e-3, 5e-3, 2e-2)
        )
