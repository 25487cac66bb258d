"""Ascent and descent by turns: away from the forget set in the first epochs, down on the retain set in
all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from whence.applications.unlearning import objectives
from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request
from whence.study.recipe import SGD

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True)
class AscentDescent(Edit):
    """An epoch is a pass of ascent over the forget set (in the first `ascents` epochs) and one of descent
    over the retain set; one optimizer goes through all.

    Parameters
    ----------
    lr, epochs, momentum : of the further training.
    ascents : epochs that begin with ascent.
    forget_batch, batch_size : of the two passes.
    """

    lr: float = 1e-3
    epochs: int = 5
    ascents: int = 3
    forget_batch: int = 32
    batch_size: int = 64
    momentum: float = 0.9
    name: ClassVar[str] = "ascent and descent"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        models, optimizer = len(seeds), SGD(self.lr, self.momentum)
        forget, retain = (request.everywhere(part, models) for part in (request.forget, request.retain))
        for epoch in range(self.epochs):
            turns: list[tuple[Any, Any, int]] = [(retain, None, self.batch_size)]
            if epoch < self.ascents:
                turns.insert(0, (forget, objectives.Ascent(), self.forget_batch))
            for points, objective, size in turns:
                state = tuner.teach(
                    state, points, None, objective, [seed + epoch for seed in seeds],
                    epochs=1, batch_size=size, optimizer=optimizer,
                )  # fmt: skip
        return state

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        ascents = min(self.ascents, self.epochs)
        return costs(study, forget, ascents * len(forget) + self.epochs * (study.n - len(forget)))

    @classmethod
    def grid(cls, **given: Any) -> tuple[AscentDescent, ...]:
        """Learning rate 1e-3, 5e-3 or 2e-2, 1 epoch (1 of ascent) or 5 (3 of ascent)."""
        return tuple(
            cls(lr, epochs, ascents, **given)
            for epochs, ascents in ((1, 1), (5, 3))
            for lr in (1e-3, 5e-3, 2e-2)
        )
