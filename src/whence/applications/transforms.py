"""Suspected features as changes of images: paint a patch, tint, blend with a picture, overlay a texture.

Each is a function of uint8 images ``(n, H, W)`` or ``(n, H, W, C)`` that returns new ones of the same shape.
`strength` 1 is the whole change and 0 none; ``transform.at(strength)`` is the same change at another one, for
a dose response. Shah et al. 2023 (ModelDiff, arXiv 2211.12491), section 3, test what a comparison of two
recipes brought up by such changes; any function of the same form will do in their place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from whence.errors import InputError

Colour = int | Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Transform(ABC):
    """A change of images by `strength`, 0 to 1."""

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise InputError(f"strength must lie in 0..1, received {self.strength}.")

    def at(self, strength: float) -> Self:
        """The same change at another strength."""
        return replace(self, strength=strength)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The changed images, uint8 of the same shape; the given ones stay as they are."""
        given = np.asarray(images)
        if given.dtype != np.uint8 or given.ndim not in (3, 4):
            raise InputError(
                f"a transform changes uint8 images (n, H, W[, C]), received {given.dtype} of shape "
                f"{given.shape}."
            )
        pixels = given.astype(np.float32)
        if not len(given):
            return given.copy()
        changed = self.changed(pixels if given.ndim == 4 else pixels[..., None]).reshape(given.shape)
        mixed = (1 - self.strength) * pixels + self.strength * changed
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def __str__(self) -> str:
        return self.words + ("" if self.strength == 1 else f" at strength {self.strength:g}")

    @property
    @abstractmethod
    def words(self) -> str:
        """What the whole change is, for people."""

    @abstractmethod
    def changed(self, images: np.ndarray) -> np.ndarray:
        """The whole change, of float images ``(n, H, W, C)`` in 0..255, which may be written to a copy."""


@dataclass(frozen=True)
class Patch(Transform):
    """Paint a rectangle.

    Parameters
    ----------
    row, column : its upper left pixel.
    height, width : in pixels.
    colour : one number, or one for each channel, 0..255.
    """

    row: int
    column: int
    height: int
    width: int
    colour: Colour = 255

    @property
    def words(self) -> str:
        """See `Transform.words`."""
        return f"a patch of {self.height} x {self.width} pixels at ({self.row}, {self.column})"

    def changed(self, images: np.ndarray) -> np.ndarray:
        """See `Transform.changed`."""
        tall, across = images.shape[1:3]
        inside = 0 <= self.row <= tall - self.height and 0 <= self.column <= across - self.width
        if not inside or min(self.height, self.width) < 1:
            raise InputError(f"{self} does not fit into images of {tall} x {across} pixels.")
        painted = images.copy()
        rows, columns = slice(self.row, self.row + self.height), slice(self.column, self.column + self.width)
        painted[:, rows, columns] = _colour(self.colour, images)
        return painted


@dataclass(frozen=True)
class Tint(Transform):
    """Colour the whole image: each pixel keeps its brightness and takes the tone of `colour`.

    Parameters
    ----------
    colour : one number for each channel, 0..255; (255, 255, 0) is yellow.
    """

    colour: Colour

    @property
    def words(self) -> str:
        """See `Transform.words`."""
        return f"a tint of {self.colour}"

    def changed(self, images: np.ndarray) -> np.ndarray:
        """See `Transform.changed`."""
        tone = np.broadcast_to(_colour(self.colour, images), images.shape[-1:])
        return images.mean(-1, keepdims=True) * tone / 255


@dataclass(frozen=True)
class Blend(Transform):
    """Mix each image with one picture.

    Parameters
    ----------
    picture : uint8 ``(H, W[, C])`` of the images' size.
    """

    picture: np.ndarray = field(repr=False, compare=False)

    @property
    def words(self) -> str:
        """See `Transform.words`."""
        return "a blended picture"

    def changed(self, images: np.ndarray) -> np.ndarray:
        """See `Transform.changed`."""
        picture = _picture(self.picture, images)
        if picture.shape[:2] != images.shape[1:3]:
            raise InputError(
                f"picture is of {picture.shape[0]} x {picture.shape[1]} pixels, the images of "
                f"{images.shape[1]} x {images.shape[2]}; pass one of their size, or a Texture."
            )
        return np.broadcast_to(picture, images.shape)


@dataclass(frozen=True)
class Texture(Transform):
    """Add a random window of a picture to each image, as light that falls on it: spider web, stripes, dots.

    Parameters
    ----------
    picture : uint8 ``(H, W[, C])``, at least as large as the images; 0 adds nothing.
    seed : of the windows; the same images in the same order get the same ones.
    """

    picture: np.ndarray = field(repr=False, compare=False)
    seed: int = 0

    @property
    def words(self) -> str:
        """See `Transform.words`."""
        return "an overlaid texture"

    def changed(self, images: np.ndarray) -> np.ndarray:
        """See `Transform.changed`."""
        picture = _picture(self.picture, images)
        spare = [have - need for have, need in zip(picture.shape[:2], images.shape[1:3], strict=True)]
        if min(spare) < 0:
            raise InputError(
                f"picture is of {picture.shape[0]} x {picture.shape[1]} pixels, but windows of "
                f"{images.shape[1]} x {images.shape[2]} are cut from it; pass a larger one."
            )
        rng = np.random.default_rng(self.seed)
        corners = np.stack([rng.integers(0, free + 1, len(images)) for free in spare], axis=1)
        tall, across = images.shape[1:3]
        windows = [picture[row : row + tall, column : column + across] for row, column in corners]
        return np.minimum(images + np.stack(windows), 255)


def _colour(colour: Colour, images: np.ndarray) -> np.ndarray:
    values = np.atleast_1d(np.asarray(colour, np.float32))
    if values.shape not in ((1,), (images.shape[-1],)) or values.min() < 0 or values.max() > 255:
        raise InputError(
            f"colour must be one number or {images.shape[-1]}, one for each channel, from 0 to 255; received "
            f"{colour!r}."
        )
    return values


def _picture(picture: np.ndarray, images: np.ndarray) -> np.ndarray:
    """(H, W, 1 or C) float32."""
    given = np.asarray(picture)
    if given.dtype != np.uint8 or given.ndim not in (2, 3):
        raise InputError(f"picture must be uint8 (H, W[, C]), received {given.dtype} of shape {given.shape}.")
    whole = given.astype(np.float32)[..., None] if given.ndim == 2 else given.astype(np.float32)
    if whole.shape[-1] not in (1, images.shape[-1]):
        raise InputError(f"picture has {whole.shape[-1]} channels, the images have {images.shape[-1]}.")
    return whole
