"""Output functions: what number is recorded for each target. All take logits and labels and act on the last
axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from whence.errors import InputError


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """``logit_y - logsumexp(other logits) = log(p / (1 - p))`` (Park et al. 2023), shape
    ``logits.shape[:-1]``."""
    correct, others = _split(logits, labels)
    return correct - torch.logsumexp(others, dim=-1)


def margin_max(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """``logit_y - max(other logits)`` (Ilyas et al. 2022); positive exactly when the prediction is right."""
    correct, others = _split(logits, labels)
    return correct - others.max(dim=-1).values


def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats, without label smoothing. Higher is worse, and the sign of attributions
    follows."""
    return -torch.log_softmax(logits, dim=-1).gather(-1, _expand(logits, labels)).squeeze(-1)


def probability(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Softmax probability of the correct class."""
    return torch.softmax(logits, dim=-1).gather(-1, _expand(logits, labels)).squeeze(-1)


def logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """All logits, shape ``(..., classes)``."""
    return logits


# Outputs of a network (b, ...) and labels or answers (b, ...), to one number or row for each example.
Output = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
OUTPUTS: dict[str, Output] = {
    "margin": margin,
    "margin_max": margin_max,
    "loss": loss,
    "probability": probability,
    "logits": logits,
}


def output_functions(loss: Output | None) -> dict[str, Output]:
    """The outputs that a recipe with this `loss` offers: those of a classifier, or the loss alone."""
    return OUTPUTS if loss is None else {"loss": loss}


def check_outputs(names: Sequence[str] | str | None, loss: Output | None = None) -> tuple[str, ...]:
    """The names as a tuple (None: the first there is), or an `InputError` that lists the known ones."""
    known = output_functions(loss)
    names = (
        (next(iter(known)) if names is None else names,) if isinstance(names, str | None) else tuple(names)
    )
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise InputError(
            f"outputs must name at least one of {', '.join(known)}"
            f"{'' if loss is None else ', which is all there is with a loss of your own'}; received "
            f"{list(names)}."
        )
    if len(set(names)) < len(names):
        raise InputError(f"outputs must differ from each other, received {list(names)}.")
    return names


def compute(names: tuple[str, ...], values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Several outputs of logits ``(..., targets, classes)`` at labels ``(targets,)``."""
    return {name: OUTPUTS[name](values, labels) for name in names}


def _expand(values: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return labels.expand(values.shape[:-1]).unsqueeze(-1)


def _split(values: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    index = _expand(values, labels)
    return values.gather(-1, index).squeeze(-1), values.scatter(-1, index, float("-inf"))
