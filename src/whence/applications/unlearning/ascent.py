"""Gradient ascent on the forget set: training in reverse, without a point at which to stop."""

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
class Ascent(Edit):
    """Minus the cross-entropy on the forget set, by SGD.

    Parameters
    ----------
    lr, epochs, batch_size, momentum : of the further training.
    """

    lr: float = 1e-3
    epochs: int = 5
    batch_size: int = 64
    momentum: float = 0.9
    name: ClassVar[str] = "gradient ascent"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        return tuner.teach(
            state,
            request.everywhere(request.forget, len(seeds)),
            None,
            objectives.Ascent(),
            seeds,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=SGD(self.lr, self.momentum),
        )

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        return costs(study, forget, self.epochs * len(forget))

    @classmethod
    def grid(cls, **given: Any) -> tuple[Ascent, ...]:
        """Learning rate 1e-3, 1e-2 or 5e-2, 5 or 10 epochs."""
        return tuple(cls(lr, epochs, **given) for epochs in (5, 10) for lr in (1e-3, 1e-2, 5e-2))
