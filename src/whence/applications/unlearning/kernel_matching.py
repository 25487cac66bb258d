"""Matching by the tangent kernel: many outputs at once, instead of a fine-tuning.

The targets are those of datamodel matching (Georgiev et al. 2024, arXiv 2410.23232). A fine-tuning moves the
outputs of examples that it does not see, and of those that it saw a while ago; a Gauss-Newton step is a small
change of weights that brings the forget set to its targets while the examples that are tied to it most keep
to theirs. One gradient of each of these serves the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.effects import check_logits, check_staying, entangled, removal
from whence.applications.unlearning.matching import attribution_cost
from whence.applications.unlearning.request import Request
from whence.attribution import Attribution
from whence.errors import InputError
from whence.provenance import fingerprint
from whence.training.step import State
from whence.training.tangent import Tangent
from whence.training.trainer import RecipeTrainer

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner


@dataclass(frozen=True, kw_only=True)
class KernelMatching(Edit):
    """Datamodel matching by Gauss-Newton steps over the forget set and what is tied to it.

    Parameters
    ----------
    attribution, staying : as in `DatamodelMatching`.
    kept_share : share of the examples that stay whose outputs are in the steps: those that the attribution
        ties to the forget set most.
    steps : Gauss-Newton steps, all with the gradients of the model as given. The first goes by the targets
        alone; each further one looks at the outputs again.
    iterations : of conjugate gradients in a step. More come nearer to the targets.
    ridge : weight of a step's own size, as a share of the mean squared norm of a gradient. More of it moves
        weights less.
    memory : bytes that the gradients of one model may take.
    """

    attribution: Attribution = field(repr=False, compare=False)
    staying: float = 1.0
    kept_share: float = 0.5
    steps: int = 1
    iterations: int = 15
    ridge: float = 0.1
    memory: int = field(default=2**32, repr=False, compare=False)
    name: ClassVar[str] = "kernel matching"

    def check(self, request: Request) -> None:
        """See `Unlearn.check`."""
        check_staying(self.staying)
        if self.steps < 1 or self.iterations < 1 or not self.ridge > 0:
            raise InputError(
                f"steps={self.steps} and iterations={self.iterations} must be at least 1, and "
                f"ridge={self.ridge:g} above 0."
            )
        if not 0 <= self.kept_share <= 1:
            raise InputError(f"kept_share must be a share from 0 to 1, received {self.kept_share}.")
        check_logits(self.attribution, request.study)
        points, outputs, weights, _ = self._sizes(request.study, len(request.forget))
        size = 4 * points * outputs * weights
        if size > self.memory:
            raise InputError(
                f"the gradients of {points * outputs:,} outputs by {weights:,} weights take "
                f"{size / 2**30:,.1f} GiB, but memory allows {self.memory / 2**30:,.1f}; pass more or a "
                "smaller kept_share, or use DatamodelMatching."
            )

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`; nothing is drawn at random."""
        study = request.study
        kept = entangled(self.attribution, request, round(self.kept_share * len(request.retain)))
        points = np.concatenate([request.forget, kept])
        at = torch.as_tensor(points, device=tuner.device)
        logits = torch.as_tensor(
            removal(self.attribution, request, study.train_ids[points], self.staying),
            dtype=tuner.dtype,
            device=tuner.device,
        )
        models = []
        for i in range(len(state.t)):
            parameters = {key: value[i] for key, value in state.parameters.items()}
            buffers = {key: value[i] for key, value in state.buffers.items()}
            tangent = Tangent(tuner.network, parameters, buffers, tuner.data, at)
            change = logits @ tangent.basis
            goal = tangent.outputs(parameters) + change if self.steps > 1 else change
            for step in range(self.steps):
                parameters = tangent.moved(parameters, change, self.ridge, self.iterations)
                if step + 1 < self.steps:
                    change = goal - tangent.outputs(parameters)
            models.append(parameters)
        moved = {key: torch.stack([model[key] for model in models]) for key in state.parameters}
        return State(moved, state.buffers, {}, state.t)

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`: a gradient of each output, the products with them, and the outputs before and
        after each step but the last."""
        points, outputs, weights, forward = self._sizes(study, len(forget))
        looked = self.steps * points if self.steps > 1 else 0
        products = self.steps * 2 * (self.iterations + 1) * points * outputs * weights
        return costs(
            study,
            forget,
            points * outputs,
            looked + products / forward,
            attribution_cost(self.attribution),
        )

    def describe(self) -> dict[str, Any]:
        """See `Unlearn.describe`; the attribution as a fingerprint of its weights."""
        plain = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if item.name not in ("attribution", "memory")
        }
        return {"name": self.name, **plain, "attribution": fingerprint(self.attribution.weight)}

    @classmethod
    def grid(cls, **given: Any) -> tuple[KernelMatching, ...]:
        """Ridge 0.05, 0.1 or 0.2, with 10 or 15 iterations."""
        return tuple(
            cls(ridge=ridge, iterations=iterations, **given)
            for ridge in (0.05, 0.1, 0.2)
            for iterations in (10, 15)
        )

    def _sizes(self, study: Study, forgotten: int) -> tuple[int, int, int, float]:
        """Examples in a step, outputs of each, weights, and multiplications in an evaluation of one
        example."""
        trainer = study.trainer()
        assert isinstance(trainer, RecipeTrainer) and study.class_count is not None
        weights = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            trainer.model(trainer.queries.inputs(slice(0, 1)))
        forward = max(counter.get_total_flops() / 2, float(weights))
        points = forgotten + round(self.kept_share * (study.n - forgotten))
        return points, study.class_count - 1, weights, forward
