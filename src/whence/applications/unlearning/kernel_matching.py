"""Matching by the tangent kernel: all outputs at once, instead of a fine-tuning.

The targets are those of datamodel matching (Georgiev et al. 2024, arXiv 2410.23232). A fine-tuning moves the
outputs of examples that it does not see, and of those that it saw a while ago; a Gauss-Newton step through
the tangent kernel is the least change of weights that brings the forget set to its targets while every other
training example keeps to its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from whence.applications.unlearning.base import FORWARD, Cost, Edit, costs
from whence.applications.unlearning.effects import check_logits, check_staying, removal
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
    """Datamodel matching by Gauss-Newton steps over the whole training set.

    Preparing a model (`prepared`) takes the gradients of all training examples and their products, which is a
    good part of a small training. It is done once: later requests are made of the same model, each for all
    that is to be forgotten so far, and cost little more than looking at all outputs `steps` times.

    Parameters
    ----------
    attribution, staying : as in `DatamodelMatching`.
    steps : Gauss-Newton steps, all with the kernel of the model as given. The first goes by the targets
        alone; each further one looks at the outputs again.
    ridge : of the kernel, as a share of its mean diagonal. More of it moves weights less.
    memory : bytes that the gradients and the kernel of one model may take.
    remember : models whose kernel is kept for further requests.
    """

    attribution: Attribution = field(repr=False, compare=False)
    staying: float = 1.0
    steps: int = 2
    ridge: float = 0.01
    memory: int = field(default=2**32, repr=False, compare=False)
    remember: int = field(default=1, repr=False, compare=False)
    name: ClassVar[str] = "kernel matching"
    _kept: dict[str, Tangent] = field(default_factory=dict, init=False, repr=False, compare=False)

    def check(self, request: Request) -> None:
        """See `Unlearn.check`."""
        check_staying(self.staying)
        if self.steps < 1 or self.remember < 1 or not self.ridge > 0:
            raise InputError(
                f"steps={self.steps} and remember={self.remember} must be at least 1, and "
                f"ridge={self.ridge:g} above 0."
            )
        check_logits(self.attribution, request.study)
        rows, weights, _ = _sizes(request.study)
        size = 4 * rows * weights + 16 * rows * rows  # the kernel twice in float64
        if size > self.memory:
            raise InputError(
                f"the gradients of {rows:,} outputs by {weights:,} weights and their products take "
                f"{size / 2**30:,.1f} GiB, but memory allows {self.memory / 2**30:,.1f}; pass more, or use "
                "DatamodelMatching."
            )

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`; nothing is drawn at random."""
        logits = torch.as_tensor(
            removal(self.attribution, request, request.study.train_ids, self.staying),
            dtype=tuner.dtype,
            device=tuner.device,
        )
        models = []
        for i in range(len(state.t)):
            parameters = {key: value[i] for key, value in state.parameters.items()}
            buffers = {key: value[i] for key, value in state.buffers.items()}
            tangent = self._prepare(tuner, parameters, buffers)
            change = logits @ tangent.basis
            goal = tangent.outputs(parameters) + change if self.steps > 1 else change
            for step in range(self.steps):
                parameters = tangent.moved(parameters, change)
                if step + 1 < self.steps:
                    change = goal - tangent.outputs(parameters)
            models.append(parameters)
        moved = {key: torch.stack([model[key] for model in models]) for key in state.parameters}
        return State(moved, state.buffers, {}, state.t)

    def _prepare(self, tuner: Finetuner, parameters: Any, buffers: Any) -> Tangent:
        of = {key: value.detach().cpu().numpy() for key, value in (*parameters.items(), *buffers.items())}
        key = fingerprint([tuner.study.fingerprint, of, str(tuner.device)])
        tangent = self._kept.pop(key, None)
        if tangent is None:
            while len(self._kept) >= self.remember:
                self._kept.pop(next(iter(self._kept)))
            tangent = Tangent(tuner.network, parameters, buffers, tuner.data, self.ridge)
        self._kept[key] = tangent  # the last one used is the last to go
        return tangent

    def towards(self, attribution: Attribution) -> KernelMatching:
        """The same with the targets of another attribution; kernels that were made are shared."""
        other = replace(self, attribution=attribution)
        object.__setattr__(other, "_kept", self._kept)
        return other

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`; the outputs of all examples before and after each step but the last, and the
        products with gradients and factor. `prepared` counts as made beforehand."""
        rows, weights, forward = _sizes(study)
        looked = self.steps if self.steps > 1 else 0
        products = self.steps * (rows * weights + rows * rows) / forward  # in evaluations of an example
        earlier = attribution_cost(self.attribution)
        before = None if earlier is None else earlier + self.prepared(study)
        return costs(study, forget, 0.0, looked * study.n + products, before)

    def prepared(self, study: Study) -> float:
        """What preparing a model costs, once for all its requests, as a share of a retraining."""
        assert study.recipe is not None
        rows, weights, forward = _sizes(study)
        made = rows + FORWARD * (rows * rows * weights / 2 + rows**3 / 6) / forward
        return made / (study.n * study.recipe.epochs)

    def describe(self) -> dict[str, Any]:
        """See `Unlearn.describe`; the attribution as a fingerprint of its weights."""
        hidden = ("attribution", "memory", "remember", "_kept")
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in hidden}
        return {"name": self.name, **plain, "attribution": fingerprint(self.attribution.weight)}

    @classmethod
    def grid(cls, **given: Any) -> tuple[KernelMatching, ...]:
        """Ridge 0.1 or 0.01, one step or two."""
        return tuple(cls(ridge=ridge, steps=steps, **given) for ridge in (0.1, 0.01) for steps in (1, 2))


def _sizes(study: Study) -> tuple[int, int, float]:
    """Outputs, weights, and multiplications in an evaluation of one example."""
    trainer = study.trainer()
    assert isinstance(trainer, RecipeTrainer) and study.class_count is not None
    weights = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        trainer.model(trainer.queries.inputs(slice(0, 1)))
    forward = max(counter.get_total_flops() / 2, float(weights))
    return study.n * (study.class_count - 1), weights, forward
