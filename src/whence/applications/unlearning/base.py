"""What all ways to unlearn have in common: one interface, and what a way costs."""

from __future__ import annotations

import abc
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from whence.applications.unlearning.request import Request
from whence.errors import InputError
from whence.training.finetune import Finetuner

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.step import State

Weights = Mapping[str, torch.Tensor]
FORWARD = 1 / 3  # of a training pass: the backward pass takes about twice as long as the forward pass


@dataclass(frozen=True)
class Cost:
    """What it takes to unlearn one model, counted in examples, so that it does not depend on the machine.

    Attributes
    ----------
    trained : examples trained on (forward and backward), repeats counted.
    evaluated : examples only evaluated; one counts as a third of one trained on.
    retraining : examples that a retraining without the forget set trains on.
    before : retrainings on the whole training set that must have been made beforehand and serve other
        requests too (for the attribution) or this one (oracles), 0 for none, None where it is not known.
    """

    trained: float
    evaluated: float
    retraining: float
    before: float | None = 0.0

    @property
    def share(self) -> float:
        """Of a retraining, without what was made beforehand."""
        return (self.trained + FORWARD * self.evaluated) / self.retraining

    def __str__(self) -> str:
        before = "an unknown number of" if self.before is None else f"{self.before:,.0f}"
        apart = "" if self.before == 0 else f", and {before} retrainings beforehand"
        return f"{self.share:.1%} of a retraining{apart}"


class Unlearn(abc.ABC):
    """A way to make a trained model forget. Subclasses are frozen dataclasses: their fields are the
    hyper-parameters.

    All methods act on many models at once; a model's result does not depend on its company.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def logits(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> torch.Tensor:
        """Logits ``(models, targets, classes)`` at the targets of the study after unlearning."""

    @abc.abstractmethod
    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """What unlearning one model costs."""

    def check(self, request: Request) -> None:  # noqa: B027  # most methods can serve any request
        """Raise `InputError` if this method cannot serve the request; before anything is trained."""

    @classmethod
    def grid(cls, **given: Any) -> tuple[Unlearn, ...]:
        """The settings from which one is chosen, on a forget set that is not reported.

        given : hyper-parameters that all of them share, and what the method needs besides.
        """
        return (cls(**given),)

    def predict(
        self,
        models: Sequence[Weights] | nn.Module,
        study: Study,
        forget: Sequence[Any],
        *,
        seeds: Sequence[int] | None = None,
        device: str | None = None,
    ) -> torch.Tensor:
        """Logits ``(models, targets, classes)`` at the targets of `study` after unlearning; see
        `Edit.unlearn`."""
        tuner, state, request, drawn = self._ready(models, study, forget, seeds, device)
        return self.logits(tuner, state, request, drawn).cpu()

    def describe(self) -> dict[str, Any]:
        """A JSON-able description, part of the fingerprint of what comes out."""
        return {"name": self.name, **{item.name: getattr(self, item.name) for item in fields(self)}}  # type: ignore[arg-type]

    def _ready(
        self,
        models: Sequence[Weights] | nn.Module,
        study: Study,
        forget: Sequence[Any],
        seeds: Sequence[int] | None,
        device: str | None,
    ) -> tuple[Finetuner, State, Request, list[int]]:
        request = Request.of(study, forget)
        self.check(request)
        given = [_weights(models)] if isinstance(models, nn.Module) else list(models)
        drawn = list(range(len(given))) if seeds is None else [int(seed) for seed in seeds]
        if len(drawn) != len(given) or not given:
            raise InputError(
                f"received {len(given)} models and {len(drawn)} seeds; pass at least one model, and one seed "
                "for each."
            )
        kinds = [value.dtype for value in given[0].values() if value.is_floating_point()]
        double = bool(kinds) and all(kind == torch.float64 for kind in kinds)
        tuner = Finetuner(study, device, torch.float64 if double else torch.float32)
        return tuner, tuner.load(given), request, drawn


class Edit(Unlearn):
    """A way to unlearn that changes the weights.

    Batch-norm statistics stay those of the given model, and dropout is off, while weights change: the network
    runs in evaluation mode.
    """

    @abc.abstractmethod
    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """The stack after unlearning."""

    def unlearn(
        self,
        models: Sequence[Weights] | nn.Module,
        study: Study,
        forget: Sequence[Any],
        *,
        seeds: Sequence[int] | None = None,
        device: str | None = None,
    ) -> Any:
        """Models of `study` that have forgotten.

        Parameters
        ----------
        models : one network, or a list of models given by all their tensors (parameters and buffers) by name,
            as `whence.Bank.checkpoint` returns them.
        study : whose recipe trained them on its whole training set.
        forget : ids of training examples.
        seeds : of what is drawn at random, one for each model; default 0, 1, ....

        Returns
        -------
        What was given: a network (the one passed is left alone) or a list of dicts.

        Raises
        ------
        InputError : ids that are not in the training set, all of it, models of another network, a study
            without a Recipe, and what the method itself cannot do.
        """
        tuner, state, request, drawn = self._ready(models, study, forget, seeds, device)
        found = tuner.unload(self.edit(tuner, state, request, drawn))
        if not isinstance(models, nn.Module):
            return found
        changed = copy.deepcopy(models)
        with torch.no_grad():
            for name, tensor in (*changed.named_parameters(), *changed.named_buffers()):
                tensor.copy_(found[0][name])
        return changed

    def logits(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> torch.Tensor:
        """See `Unlearn.logits`."""
        return tuner.logits(self.edit(tuner, state, request, seeds))


def costs(
    study: Study,
    forget: Sequence[Any],
    trained: float,
    evaluated: float = 0.0,
    before: float | None = 0.0,
) -> Cost:
    """A cost beside that of a retraining on what is left."""
    assert study.recipe is not None
    kept = study.n if study.recipe.subset == "weighted" else study.n - len(forget)
    return Cost(trained, evaluated, float(kept * study.recipe.epochs), before)


def _weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.detach() for key, value in (*model.named_parameters(), *model.named_buffers())}
