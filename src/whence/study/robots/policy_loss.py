"""The loss of a behaviour-cloning policy: the negative log-likelihood of a tanh-squashed Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import softplus

from whence.errors import InputError

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_LOG_2 = math.log(2.0)


@dataclass(frozen=True)
class TanhGaussian:
    """``-log p(a)`` of actions ``a = tanh(u)``, ``u ~ Normal(mean, exp(log_std)^2)``, summed over the entries
    of an action, in nats (Haarnoja et al. 2018, appendix C; the policy of DataMIL's MetaWorld runs).

    The first half of a network's outputs are the means of u, the second the log standard deviations. tanh is
    applied once: `action` is ``tanh(mean)``, and an action that was taken is brought back by one atanh.

    Parameters
    ----------
    lowest, highest : the log standard deviation is held between them.
    margin : actions nearer to -1 or 1 than this are pulled in, for their u is infinite.
    """

    lowest: float = -20.0
    highest: float = 2.0
    margin: float = 1e-6

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise InputError(f"lowest={self.lowest} must be below highest={self.highest}.")
        if not 0 < self.margin < 1:
            raise InputError(f"margin must lie in (0, 1), received {self.margin}.")

    def __call__(self, outputs: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Losses ``(b,)`` of outputs ``(b, 2 a)`` at actions ``(b, a)`` in [-1, 1]."""
        mean, log_std = outputs.chunk(2, dim=-1)
        log_std = log_std.clamp(self.lowest, self.highest)
        u = torch.atanh(actions.to(outputs.dtype).clamp(-1 + self.margin, 1 - self.margin))
        each = 0.5 * ((u - mean) * torch.exp(-log_std)).square() + log_std + _HALF_LOG_2PI
        # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), without the cancellation of 1 - tanh^2
        return (each + 2 * (_LOG_2 - u - softplus(-2 * u))).sum(-1)

    def action(self, outputs: torch.Tensor) -> torch.Tensor:
        """The deterministic action ``tanh(mean)`` ``(b, a)`` of outputs ``(b, 2 a)``."""
        return torch.tanh(outputs.chunk(2, dim=-1)[0])
