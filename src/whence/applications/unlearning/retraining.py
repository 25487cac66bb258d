"""Retraining without the forget set: what every other way is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True)
class Retraining(Edit):
    """Training from fresh initial weights on the retain set, as the study's recipe says."""

    name: ClassVar[str] = "retraining"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`; nothing of the given state is used."""
        return tuner.retrain(torch.as_tensor(request.mask), seeds)

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        whole = costs(study, forget, 0)
        return Cost(whole.retraining, 0.0, whole.retraining)
