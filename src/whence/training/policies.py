"""Networks that drive a robot: from observations to the parameters of a distribution over actions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from whence.errors import InputError


class Standardise(nn.Module):
    """``(x - centre) / spread``, so that a policy takes observations in their own units."""

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, centre: Sequence[float], spread: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor(centre, dtype=torch.float32))
        self.register_buffer("spread", torch.tensor(spread, dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.centre) / self.spread


def gaussian_policy(
    observation_size: int,
    action_size: int,
    width: int = 400,
    depth: int = 3,
    centre: Sequence[float] | None = None,
    spread: Sequence[float] | None = None,
) -> nn.Module:
    """A perceptron with ReLU from observations ``(b, d)`` to means and log standard deviations ``(b, 2 a)``,
    the outputs that `whence.study.robots.TanhGaussian` reads (DataMIL's policy for MetaWorld is 3 layers of
    400).

    Parameters
    ----------
    observation_size, action_size : d and a.
    width, depth : units of a hidden layer, and how many there are.
    centre, spread : ``(d,)`` each, subtracted from an observation and divided by; default neither.

    Raises
    ------
    InputError : sizes below 1, or a centre and a spread that do not fit.
    """
    if min(observation_size, action_size, width, depth) < 1:
        raise InputError(
            f"a policy needs sizes of at least 1, received observation_size={observation_size}, "
            f"action_size={action_size}, width={width} and depth={depth}."
        )
    sizes = [observation_size, *[width] * depth]
    layers: list[nn.Module] = []
    if centre is not None or spread is not None:
        shift = [0.0] * observation_size if centre is None else list(centre)
        scale = [1.0] * observation_size if spread is None else list(spread)
        if len(shift) != observation_size or len(scale) != observation_size or min(scale) <= 0:
            raise InputError(
                f"centre and spread must have one number for each of {observation_size} observed values, "
                f"spreads above 0; received {len(shift)} and {len(scale)} numbers."
            )
        layers.append(Standardise(shift, scale))
    for narrow, wide in itertools.pairwise(sizes):
        layers += [nn.Linear(narrow, wide), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 2 * action_size))
