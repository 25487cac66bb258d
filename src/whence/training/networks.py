"""Small networks to study with. Each is a function that returns a fresh `nn.Module`, inputs to logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from whence.training.batchnorm import BatchNorm2d


def logistic_regression(features: int, classes: int) -> nn.Module:
    """Multinomial logistic regression on flattened inputs, started at zero (the problem is convex)."""
    linear = nn.Linear(features, classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Flatten(), linear)


def mlp(features: int, classes: int, hidden: Sequence[int] = (128, 64)) -> nn.Module:
    """Multi-layer perceptron with ReLU on flattened inputs."""
    sizes = [features, *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for wide, narrow in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


def conv_net(channels: int, classes: int, width: int = 16) -> nn.Module:
    """Three convolutions with batch norm for small images: a strided 5x5 stem, then two 3x3 of 2 and 4 times the width.

    The stride in the stem makes it about four times cheaper than a full-resolution first layer.
    """

    def block(inside: int, outside: int, kernel: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False), BatchNorm2d(outside), nn.ReLU()]

    return nn.Sequential(*block(channels, width, 5, 2), *block(width, 2 * width, 3, 1), nn.MaxPool2d(2),
                         *block(2 * width, 4 * width, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4 * width, classes))


class _Residual(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


def resnet9(channels: int = 3, classes: int = 10, width: int = 64) -> nn.Module:
    """The ResNet-9 of the datamodels paper for 32x32 images (at ``width=64``): two residual blocks, logits times 0.2."""

    def conv(inside: int, outside: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inside, outside, kernel, stride, padding, bias=False), BatchNorm2d(outside),
                             nn.ReLU())

    return nn.Sequential(
        conv(channels, width), conv(width, 2 * width, 5, 2, 2),
        _Residual(conv(2 * width, 2 * width), conv(2 * width, 2 * width)),
        conv(2 * width, 4 * width), nn.MaxPool2d(2),
        _Residual(conv(4 * width, 4 * width), conv(4 * width, 4 * width)),
        conv(4 * width, 2 * width, padding=0), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(2 * width, classes, bias=False), _Scale(0.2),
    )
