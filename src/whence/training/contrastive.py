"""A short SimCLR recipe: an encoder trained on a study's images without their labels.

Chen, Kornblith, Norouzi, Hinton 2020 (arXiv 2002.05709): two random views of each image shall be told from
those of the other images of the batch (NT-Xent, equation 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from whence.errors import InputError
from whence.study._random import fork
from whence.training.batchnorm import BatchNorm2d
from whence.training.data import Resident
from whence.training.reproducible import reproducible

if TYPE_CHECKING:
    from whence.study import Study


def pretrain(
    study: Study,
    encoder: Callable[[], nn.Module] | None = None,
    *,
    epochs: int = 30,
    batch_size: int = 128,
    temperature: float = 0.2,
    rate: float = 1e-3,
    projection: int = 64,
    seed: int = 0,
    device: str | None = None,
) -> nn.Module:
    """The trained encoder, in evaluation mode, without the projection head that it was trained with.

    Parameters
    ----------
    encoder : makes a network from images (b, C, H, W), scaled as the study's network gets them, to features
        (b, d); by default three 3x3 convolutions with batch norm and average pooling, 128 features
    rate : of Adam, annealed to 0 by a cosine; projection : width of the head's output
    device : "cpu", "cuda", ...; default the CPU
    """
    place = torch.device(device or "cpu")
    if not study.train.is_image:
        raise InputError(
            f"contrastive pre-training needs a study of images, received inputs {study.train.inputs.shape}; "
            "pass features of your own instead."
            if study.train.inputs is not None
            else "contrastive pre-training needs a study of images, received one without inputs."
        )
    if min(epochs, projection) < 1 or batch_size < 2 or not temperature > 0:
        raise InputError(
            f"epochs={epochs} and projection={projection} must be at least 1, batch_size={batch_size} at "
            f"least 2 and temperature={temperature} positive."
        )
    data = Resident(study.train, study.train, place)
    batch = min(batch_size, len(study.train))
    generator = torch.Generator().manual_seed(seed)
    with fork():
        torch.manual_seed(seed)
        made = encoder() if encoder is not None else small_encoder(data.x.shape[-1])
        with torch.no_grad():
            out = made.eval()(data.inputs(slice(0, 2)).cpu())
        if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != 2:
            shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise InputError(f"encoder must map 2 images to features (2, d), received {shape}.")
        width = out.shape[1]
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))
    model, head = made.to(place).train(), head.to(place)
    parameters = [*model.parameters(), *head.parameters()]
    steps = epochs * (len(study.train) // batch)
    adam = torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(steps, 1))
    with reproducible(place):
        for _ in range(epochs):
            order = torch.randperm(len(study.train), generator=generator)
            for rows in order[: len(order) // batch * batch].split(batch):
                x = data.inputs(rows.to(place))
                first, second = (head(model(view(x, generator))) for _ in range(2))
                loss = nt_xent(first, second, temperature)
                adam.zero_grad(set_to_none=True)
                loss.backward()
                adam.step()
                schedule.step()
    return model.eval()


def small_encoder(channels: int, width: int = 32) -> nn.Module:
    """Three 3x3 convolutions of stride 2 with batch norm, then average pooling: 4 `width` features."""
    layers: list[nn.Module] = []
    for inside, outside in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean over both views of -log softmax of the other view of the same image; inputs (b, d)."""
    z = F.normalize(torch.cat([first, second]), dim=1)
    logits = z @ z.T / temperature
    logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    other = torch.arange(len(z), device=z.device).roll(len(first))
    return F.cross_entropy(logits, other)


def view(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random view of each image (b, C, H, W): a crop of 30 to 100 % of its area stretched to full size,
    mirrored half the time, with gain and shift of each channel, grey one time in five."""
    count, channels = x.shape[:2]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return (low + (high - low) * torch.rand(count, *shape, generator=generator)).to(x.device)

    scale = uniform(0.3, 1.0).sqrt()
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=x.device)
    theta[:, 0, 0], theta[:, 1, 1] = scale * mirror, scale
    theta[:, :, 2] = uniform(-1, 1, 2) * (1 - scale)[:, None]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    x = x * uniform(0.6, 1.4, channels, 1, 1) + uniform(-0.4, 0.4, channels, 1, 1)
    grey = uniform(0, 1, 1, 1, 1) < 0.2
    return torch.where(grey, x.mean(1, keepdim=True), x)
