"""The losses of the methods: functions of logits ``(b, classes)`` and answers ``(b, ...)``, to ``(b,)``.

They are values that compare equal when they compute the same, so that a step is recorded once for each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from whence.training.step import cross_entropy


def centred(logits: torch.Tensor) -> torch.Tensor:
    """Logits less their mean over classes, which a softmax does not see."""
    return logits - logits.mean(-1, keepdim=True)


@dataclass(frozen=True)
class Ascent:
    """Minus the cross-entropy with labels ``(b,)``."""

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return -cross_entropy(logits, labels)


@dataclass(frozen=True)
class CentredSquares:
    """Mean over classes of the squared distance of centred logits from answers ``(b, classes)``."""

    def __call__(self, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        return (centred(logits) - answers).square().mean(-1)


@dataclass(frozen=True)
class Divergence:
    """``factor * T^2 * KL(teacher || student)`` of softmaxes at temperature T; answers are the teacher's
    logits ``(b, classes)`` (Hinton et al. 2015)."""

    temperature: float = 1.0
    factor: float = 1.0

    def __call__(self, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        p = torch.log_softmax(teacher / self.temperature, -1)
        q = torch.log_softmax(logits / self.temperature, -1)
        return self.factor * self.temperature**2 * (p.exp() * (p - q)).sum(-1)


@dataclass(frozen=True)
class Taught:
    """``alpha * divergence from the teacher + gamma * cross-entropy``; answers ``(b, 2, classes)`` hold the
    teacher's logits and the one-hot labels."""

    alpha: float
    gamma: float
    temperature: float

    def __call__(self, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        near = Divergence(self.temperature)(logits, answers[:, 0])
        right = -(answers[:, 1] * torch.log_softmax(logits, -1)).sum(-1)
        return self.alpha * near + self.gamma * right
