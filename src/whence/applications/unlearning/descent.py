"""Gradient descent on what is kept: training goes on without the forget set, in the hope that it fades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request
from whence.study.recipe import SGD

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True)
class Descent(Edit):
    """Cross-entropy on the retain set, by SGD.

    Parameters
    ----------
    lr, epochs, batch_size, momentum : of the further training.
    """

    lr: float = 1e-3
    epochs: int = 5
    batch_size: int = 64
    momentum: float = 0.9
    name: ClassVar[str] = "gradient descent"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        return tuner.teach(
            state,
            request.everywhere(request.retain, len(seeds)),
            None,
            None,
            seeds,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=SGD(self.lr, self.momentum),
        )

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        return costs(study, forget, self.epochs * (study.n - len(forget)))

    @classmethod
    def grid(cls, **given: Any) -> tuple[Descent, ...]:
        """Learning rate 1e-3, 1e-2 or 5e-2, 1 or 5 epochs."""
        return tuple(cls(lr, epochs, **given) for epochs in (1, 5) for lr in (1e-3, 1e-2, 5e-2))
