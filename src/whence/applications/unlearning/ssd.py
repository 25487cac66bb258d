"""Selective synaptic dampening: shrink the weights that matter more to the forget set than to the whole.

Foster, Schoepf, Brintrup 2024 (arXiv 2308.07707), equations 3 to 5, with the diagonal of the empirical Fisher
information taken example by example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.request import Request
from whence.training.step import State

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner


@dataclass(frozen=True)
class SSD(Edit):
    """No training: weights whose importance for the forget set exceeds `selection` times that for the whole
    training set are multiplied by ``min(dampening * whole / forget, 1)``.

    Parameters
    ----------
    selection : alpha of the paper. dampening : its lambda.
    """

    selection: float = 10.0
    dampening: float = 1.0
    name: ClassVar[str] = "SSD"

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        whole = tuner.squared_gradients(state, torch.arange(request.study.n))
        mine = tuner.squared_gradients(state, torch.as_tensor(request.forget))
        changed = {}
        for key, value in state.parameters.items():
            factor = (self.dampening * whole[key] / mine[key].clamp_min(1e-30)).clamp_max(1.0)
            changed[key] = torch.where(mine[key] > self.selection * whole[key], factor * value, value)
        return State(changed, state.buffers, {}, state.t)

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        return costs(study, forget, study.n + len(forget))

    @classmethod
    def grid(cls, **given: Any) -> tuple[SSD, ...]:
        """Selection 1, 3, 10 or 30, dampening 0.3 or 1."""
        return tuple(
            cls(selection, dampening, **given) for selection in (1, 3, 10, 30) for dampening in (0.3, 1.0)
        )
