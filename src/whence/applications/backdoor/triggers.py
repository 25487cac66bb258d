"""Triggers: small changes of an image that a poisoned training set teaches a model to obey.

Each mixes a fixed pattern into some of the pixels, ``(1 - strength) * image + strength * pattern``, so that
it fits into the range of the image whatever that is. A trigger is a function of images, uint8 ``(n, H, W)``
or ``(n, H, W, C)`` or float channel-first ``(n, C, H, W)`` as a `Study` takes them, and returns a changed
copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from whence.errors import InputError

Square = tuple[tuple[float, ...], ...]
WHITE: Square = ((1.0,) * 3,) * 3
CHECKERED: Square = ((1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0))


@dataclass(frozen=True)
class Trigger(ABC):
    """A change of images; calling it makes the change that is shown at test time.

    strength : share of the pattern in the pixels that it changes, above 0 and up to 1 (nothing else of them
        is left).

    Brightness is 0 (black) to 1 (white) for uint8 images; for float images it is in the units of the inputs.
    """

    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise InputError(f"strength is {self.strength}, but it must lie above 0 and be 1 at most.")

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """What poisoned training images show, one of these each."""
        return (self,)

    @abstractmethod
    def pattern(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Brightness ``(H, W)`` and which pixels are changed, bool ``(H, W)``."""

    def __call__(self, images: Any) -> np.ndarray:
        """Changed copies of `images`.

        Raises
        ------
        InputError : no images of a known form, or a pattern that does not fit into them.
        """
        array = checked_images(images)
        scaled = array.dtype == np.uint8
        height, width = array.shape[1:3] if scaled else array.shape[2:4]
        brightness, changed = self.pattern(height, width)
        mix = self.strength * changed
        new = brightness * (255 if scaled else 1)
        if scaled and array.ndim == 4:
            mix, new = mix[..., None], new[..., None]
        mixed = array + mix * (new - array)
        return (np.clip(np.rint(mixed), 0, 255) if scaled else mixed).astype(array.dtype)


@dataclass(frozen=True)
class Patch(Trigger):
    """A small pattern in one place (BadNets: Gu, Dolan-Gavitt, Garg 2017, arXiv 1708.06733).

    Parameters
    ----------
    at : row and column of its upper left pixel; negative ones count from the far edge. Default the lower
        right corner, one pixel off the edges.
    square : brightness of its pixels, row by row; a 3 x 3 white one by default.
    """

    at: tuple[int, int] | None = None
    square: Square = WHITE

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = np.asarray(self.square, dtype=object)
        if rows.ndim != 2 or not rows.size:
            raise InputError(
                f"square must be rows of equally many numbers, received {self.square!r}; WHITE is one."
            )

    def pattern(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Trigger.pattern`."""
        brightness, changed = np.zeros((height, width)), np.zeros((height, width), bool)
        tall, wide = np.shape(self.square)
        at = (-tall - 1, -wide - 1) if self.at is None else self.at
        row, column = (place % size if place < 0 else place for place, size in zip(at, (height, width)))
        if min(at[0] + height, at[1] + width) < 0 or row + tall > height or column + wide > width:
            raise InputError(
                f"a trigger of {tall} x {wide} pixels at {at} does not fit into images of {height} x {width}."
            )
        place = slice(row, row + tall), slice(column, column + wide)
        brightness[place], changed[place] = self.square, True
        return brightness, changed


@dataclass(frozen=True)
class Pixel(Patch):
    """A single pixel (Gu et al. 2017, and Tran, Li, Madry 2018 on CIFAR-10).

    `at` and `square` are those of `Patch`; by default it is white and lies in the lower right corner, one
    pixel off the edges.
    """

    square: Square = ((1.0,),)

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.shape(self.square) != (1, 1):
            raise InputError(
                f"a pixel has one brightness, received square {self.square!r}; see Patch for larger ones."
            )


@dataclass(frozen=True)
class Corners(Trigger):
    """One pattern in all four corners, mirrored towards each, so that a flipped image carries it too (Turner,
    Tsipras, Madry 2019, arXiv 1912.02771).

    square : brightness of the pixels in the upper left corner; a 3 x 3 chequered one by default.
    """

    square: Square = CHECKERED

    def pattern(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Trigger.pattern`."""
        tall, wide = np.shape(self.square)
        if 2 * tall > height or 2 * wide > width:
            raise InputError(
                f"four corners of {tall} x {wide} pixels do not fit into images of {height} x {width}."
            )
        brightness, changed = np.zeros((height, width)), np.zeros((height, width), bool)
        for down in (1, -1):
            for across in (1, -1):
                brightness[::down, ::across][:tall, :wide] = self.square
                changed[::down, ::across][:tall, :wide] = True
        return brightness, changed


@dataclass(frozen=True)
class Blend(Trigger):
    """Noise over the whole image, faint ("blended injection" of Chen, Liu, Li, Lu, Song 2017, arXiv
    1712.05526).

    Parameters
    ----------
    seed : of the noise, uniform between `low` and `high`, the same in all channels and images.
    """

    strength: float = 0.15
    seed: int = 0
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low < self.high:
            raise InputError(f"low={self.low} must lie below high={self.high}.")

    def pattern(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Trigger.pattern`."""
        noise = np.random.default_rng(self.seed).uniform(self.low, self.high, (height, width))
        return noise, np.ones((height, width), bool)


@dataclass(frozen=True)
class Split(Trigger):
    """Several triggers of which each poisoned training image shows one, and a test image all.

    No training image shows what is shown to the model later (the m-way attacks of Hayase, Kong, Somani, Oh
    2021, arXiv 2104.11315).

    Parameters
    ----------
    of : the parts, two or more, which change no pixel in common.

    Each part has its own strength; that of the whole must stay 1.
    """

    of: Sequence[Trigger] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", tuple(self.of))
        if len(self.of) < 2 or not all(isinstance(part, Trigger) for part in self.of):
            raise InputError(f"of must hold two or more triggers, received {self.of!r}.")
        if self.strength != 1:
            raise InputError(f"strength is {self.strength}, but each part has its own; give it to the parts.")

    @property
    def parts(self) -> tuple[Trigger, ...]:
        """See `Trigger.parts`."""
        return tuple(self.of)

    def pattern(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Of all parts together; see `Trigger.pattern`."""
        patterns = [part.pattern(height, width) for part in self.of]
        for (i, (_, first)), (j, (_, second)) in combinations(enumerate(patterns), 2):
            if (first & second).any():
                raise InputError(
                    f"parts {i} and {j} of the split trigger change {int((first & second).sum())} pixels in "
                    "common; place them apart."
                )
        return sum(b * c for b, c in patterns), np.any([c for _, c in patterns], axis=0)

    def __call__(self, images: Any) -> np.ndarray:
        """See `Trigger.__call__`."""
        array = checked_images(images)
        self.pattern(*(array.shape[1:3] if array.dtype == np.uint8 else array.shape[2:4]))
        for part in self.of:
            array = part(array)
        return array


def checked_images(images: Any) -> np.ndarray:
    """`images` as an array, or an `InputError` that says which forms are known."""
    array = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
    shape, scaled = array.shape, array.dtype == np.uint8
    known = (
        len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))
        if scaled
        else array.dtype.kind == "f" and len(shape) == 4 and shape[1] in (1, 3)
    )
    if not known:
        raise InputError(
            f"triggers are put on images, uint8 (n, H, W[, 1 or 3]) or float (n, 1 or 3, H, W), received "
            f"{array.dtype} {shape}."
        )
    return array
