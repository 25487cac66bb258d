"""Datamodel-direct: the old model's outputs, corrected by what an attribution says the forget set did to
them.

Georgiev et al. 2024 (arXiv 2410.23232), "DM-Direct". No weight changes: it answers only where there is an
attribution, and whoever has the weights has everything that was to be forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from whence.applications.unlearning.base import Cost, Unlearn, costs
from whence.applications.unlearning.effects import check_logits, check_staying, removal
from whence.applications.unlearning.matching import attribution_cost
from whence.applications.unlearning.objectives import centred
from whence.applications.unlearning.request import Request
from whence.attribution import Attribution
from whence.errors import InputError
from whence.provenance import fingerprint

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True, kw_only=True)
class DatamodelDirect(Unlearn):
    """A wrapper around the old model.

    Parameters
    ----------
    attribution : as in `DatamodelMatching`; the targets of the study must be among its targets.
    staying : as in `DatamodelMatching`.
    """

    attribution: Attribution = field(repr=False, compare=False)
    staying: float = 1.0
    name: ClassVar[str] = "datamodel direct"

    def check(self, request: Request) -> None:
        """See `Unlearn.check`."""
        check_staying(self.staying)
        check_logits(self.attribution, request.study)
        missing = set(request.study.target_ids.tolist()) - set(self.attribution.target_ids.tolist())
        if missing:
            raise InputError(
                f"attribution lacks {len(missing)} of the study's targets, for example "
                f"{min(map(str, missing))}; a wrapper can correct only outputs that were attributed."
            )

    def logits(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> torch.Tensor:
        """See `Unlearn.logits`; centred over classes."""
        change = torch.as_tensor(removal(self.attribution, request, request.study.target_ids, self.staying))
        return centred(tuner.logits(state)) + change.to(tuner.device)

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        return costs(study, forget, 0.0, 0.0, attribution_cost(self.attribution))

    def describe(self) -> dict[str, Any]:
        """See `Unlearn.describe`; the attribution as a fingerprint of its weights."""
        weights = fingerprint(self.attribution.weight)
        return {"name": self.name, "staying": self.staying, "attribution": weights}
