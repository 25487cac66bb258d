"""Small networks to study with. Each is a function that returns a fresh `nn.Module`, inputs to logits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

from whence.training.batchnorm import BatchNorm2d
from whence.training.networks_text import gpt as gpt


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
    for wide, narrow in itertools.pairwise(sizes):
        layers += [nn.Linear(wide, narrow), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


class BagOfEmbeddings(nn.Module):
    """Logits linear in the mean embedding of the words, (..., length) tokens; token 0 is padding."""

    def __init__(self, vocabulary: int, classes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.linear = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        words = (tokens != 0).unsqueeze(-1)
        total = (self.embedding(tokens) * words).sum(-2)
        return self.linear(total / words.sum(-2).clamp_min(1))


def bag_of_embeddings(vocabulary: int, classes: int, width: int = 16) -> nn.Module:
    """Text classifier: the mean of the words' embeddings (padding, token 0, left out), then a linear layer.

    Parameters
    ----------
    vocabulary : number of tokens; inputs are integers ``(n, length)`` below it.
    """
    return BagOfEmbeddings(vocabulary, classes, width)


def conv_net(shape: tuple[int, int, int], classes: int, width: int = 16) -> nn.Module:
    """A patch stem (4x4, stride 4), a 3x3 convolution of twice the width and stride 2, a linear layer.

    Batch norm follows both convolutions. Made for retraining by the thousand: nothing is computed at full
    resolution, and keeping the final feature map (rather than averaging it) lets so small a network learn in
    some thirty steps.

    Parameters
    ----------
    shape : ``(channels, height, width)`` of an image, at least 4 pixels either way.
    """
    channels, height, across = shape
    features = 2 * width * -(-(height // 4) // 2) * -(-(across // 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 4, bias=False),
        BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False),
        BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, classes),
    )


def smooth_conv_net(
    shape: tuple[int, int, int], classes: int, width: int = 16, scale: float = 0.25, norm: bool = True
) -> nn.Module:
    """`conv_net` whose training is smooth in the weights of examples, as metagradients need.

    Batch norm before GELU, average pooling instead of a maximum, small final logits (Engstrom et al. 2025,
    section 4).

    Parameters
    ----------
    shape : ``(channels, height, width)`` of an image, at least 8 pixels either way.
    scale : factor of the logits.
    norm : with batch norm; without it examples do not see each other at all.
    """

    def activated(channels: int) -> list[nn.Module]:
        return [BatchNorm2d(channels), nn.GELU()] if norm else [nn.GELU()]

    channels, height, across = shape
    features = 2 * width * (height // 4 // 2) * (across // 4 // 2)
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, 4, bias=not norm),
        *activated(width),
        nn.Conv2d(width, 2 * width, 3, 1, 1, bias=not norm),
        *activated(2 * width),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(features, classes),
        _Scale(scale),
    )


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
    """The ResNet-9 of the datamodels paper for 32x32 images (at ``width=64``): two residual blocks, logits
    times 0.2."""

    def conv(inside: int, outside: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inside, outside, kernel, stride, padding, bias=False), BatchNorm2d(outside), nn.ReLU()
        )

    return nn.Sequential(
        conv(channels, width),
        conv(width, 2 * width, 5, 2, 2),
        _Residual(conv(2 * width, 2 * width), conv(2 * width, 2 * width)),
        conv(2 * width, 4 * width),
        nn.MaxPool2d(2),
        _Residual(conv(4 * width, 4 * width), conv(4 * width, 4 * width)),
        conv(4 * width, 2 * width, padding=0),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes, bias=False),
        _Scale(0.2),
    )
