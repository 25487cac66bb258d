"""Base images for clean-label attacks that are hard to recognise, so that the model has to learn the trigger.

Turner, Tsipras, Madry 2019 (arXiv 1912.02771): a clean-label attack is weak as long as the natural features
of the target class say the label already; images whose own features are spoiled leave it to the trigger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.backdoor.triggers import checked_images
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.study import Study


@dataclass(frozen=True)
class Adversarial:
    """Images moved to where a model trained on the clean study errs most (projected gradient ascent of Madry
    et al. 2018 on the loss of the true label, within a cube).

    Parameters
    ----------
    epsilon : largest change of a pixel, as a share of the range of the inputs (255 for uint8 images, between
        the lowest and the highest training input for float ones).
    steps : of ascent, each 2.5 epsilon / steps long; they start at a random place in the cube.
    models : trained on everything with the seeds `seed`, `seed` + 1, ...; their mean loss is ascended, so
        that what is learnt about one transfers to those that are attacked.
    """

    epsilon: float = 0.15
    steps: int = 40
    models: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1:
            raise InputError(f"epsilon is {self.epsilon}, but it must lie above 0 and be 1 at most.")
        if min(self.steps, self.models) < 1:
            raise InputError(f"steps={self.steps} and models={self.models} must be at least 1.")

    def __call__(self, study: Study, positions: np.ndarray) -> np.ndarray:
        """Hardened copies of the training images at `positions` ``(p,)``, in the form of the inputs.

        Raises
        ------
        InputError : a study without images, or one whose way of training the engine does not know.
        """
        import torch

        from whence.training import train

        images = checked_images(study.train_inputs)
        labels = torch.as_tensor(np.asarray(study.train_labels)[positions])
        networks = [train(study, seed=self.seed + i, device="cpu") for i in range(self.models)]
        low, high, scale, offset = _range(study)
        base = _channels_first(images[positions])
        radius = self.epsilon * (high - low)
        bottom, top = (base - radius).clamp(min=low), (base + radius).clamp(max=high)
        generator = torch.Generator().manual_seed(self.seed)
        x = bottom + (top - bottom) * torch.rand(base.shape, generator=generator)
        for _ in range(self.steps):
            x.requires_grad_(True)
            losses = [
                torch.nn.functional.cross_entropy(network(scale * x + offset), labels, reduction="sum")
                for network in networks
            ]
            (slope,) = torch.autograd.grad(torch.stack(losses).sum(), x)
            x = (x.detach() + 2.5 * radius / self.steps * slope.sign()).clamp(bottom, top)
        return _like(x.numpy(), images)


@dataclass(frozen=True)
class Interpolated:
    """Images mixed with a random image of another class each.

    Turner et al. interpolate in the latent space of a generative model, which needs one of the data; here
    pixels are mixed.

    share : of the other image, above 0 and below 1.
    """

    share: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InputError(f"share is {self.share}, but it must lie between 0 and 1.")

    def __call__(self, study: Study, positions: np.ndarray) -> np.ndarray:
        """Hardened copies of the training images at `positions` ``(p,)``, in the form of the inputs.

        Raises
        ------
        InputError : a study without images, or without a second class to mix with.
        """
        images, labels = checked_images(study.train_inputs), np.asarray(study.train_labels)
        rng = np.random.default_rng(self.seed)
        partners = np.empty(len(positions), np.int64)
        for label in np.unique(labels[positions]):
            here, others = labels[positions] == label, np.flatnonzero(labels != label)
            if not len(others):
                raise InputError(f"all training images are of class {label}; there is none to mix with.")
            partners[here] = rng.choice(others, here.sum())
        mixed = (1 - self.share) * images[positions].astype(np.float64) + self.share * images[partners]
        return (np.rint(mixed) if images.dtype == np.uint8 else mixed).astype(images.dtype)


def _range(study: Study) -> tuple[float, float, Any, Any]:
    """Lowest and highest value of an input, and by which factor and offset it becomes the network's."""
    import torch

    from whence.study._examples import Examples
    from whence.training.data import Resident

    images = checked_images(study.train_inputs)
    if images.dtype != np.uint8:
        return float(images.min()), float(images.max()), 1.0, 0.0
    # What the engine makes of a black and a white image tells its scaling, channel by channel.
    ends = np.zeros((2, *images.shape[1:]), np.uint8)
    ends[1] = 255
    pair = Examples(2, ends, np.zeros(2, np.int64))
    black, white = Resident(pair, study.train, torch.device("cpu")).inputs(slice(0, 2))
    return 0.0, 255.0, (white - black) / 255, black


def _channels_first(images: np.ndarray) -> Any:
    import torch

    x = torch.as_tensor(images.astype(np.float32))
    if images.dtype != np.uint8:
        return x
    return x[:, None] if x.ndim == 3 else x.movedim(-1, 1)


def _like(x: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Images ``(p, C, H, W)`` in the form that the study has them in."""
    if images.dtype != np.uint8:
        return x.astype(images.dtype)
    x = np.rint(x)
    x = x[:, 0] if images.ndim == 3 else np.moveaxis(x, 1, -1)
    return np.ascontiguousarray(x).astype(np.uint8)
