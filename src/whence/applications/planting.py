"""Planted duplicates: altered copies of targets in a training set, so that a search for leaks is scored.

Made with numpy alone. The kinds are what happens to images that are collected twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whence.errors import InputError

_BLOCK = 8
# Quantisation of the luminance in Annex K of the JPEG standard, at quality 50.
_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float64,
)


@dataclass(frozen=True)
class Pair:
    """A target and a training example that show the same thing (positions in the study), and of what kind."""

    target: int
    train: int
    kind: str


@dataclass(frozen=True)
class Planted:
    """A training set with duplicates in it.

    Attributes
    ----------
    train : (images, labels), of the size and with the class counts of the original.
    pairs : which training example is a copy of which target.
    """

    train: tuple[np.ndarray, np.ndarray]
    pairs: tuple[Pair, ...]


def plant_duplicates(
    train: tuple[Any, Any],
    targets: tuple[Any, Any],
    each: int = 10,
    kinds: Sequence[str] = ("exact", "flipped", "cropped", "re-encoded", "colour-shifted"),
    seed: int = 0,
) -> Planted:
    """Replace random training examples by copies of targets of the same class.

    Parameters
    ----------
    train, targets : (images, labels); uint8 images (n, H, W) or (n, H, W, C).
    each : copies of each kind; a target is copied once at most.
    kinds : of "exact", "flipped" (mirrored), "cropped" (81 % of each side, stretched back), "re-encoded" (the
        lossy step of JPEG at quality 30) and "colour-shifted" (gain and offset of each channel).

    Raises
    ------
    InputError : other images than uint8, an unknown kind, fewer targets or examples of a class than copies.
    """
    images, labels = np.array(train[0]), np.asarray(train[1])
    pictures, classes = np.asarray(targets[0]), np.asarray(targets[1])
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or pictures.shape[1:] != images.shape[1:]:
        raise InputError(
            f"duplicates are made of uint8 images (n, H, W[, C]) of one size, received {images.dtype} "
            f"{images.shape} and targets {pictures.shape}."
        )
    unknown = set(kinds) - set(ALTER)
    if unknown or not kinds:
        raise InputError(f"kinds is {list(kinds)}, but it must hold some of {', '.join(ALTER)}.")
    wanted = each * len(kinds)
    if each < 1 or wanted > len(pictures):
        raise InputError(
            f"each is {each}, but {wanted} copies need as many targets; there are {len(pictures)}."
        )
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(pictures))[:wanted]
    free = {c: rng.permutation(np.flatnonzero(labels == c)).tolist() for c in np.unique(labels).tolist()}
    pairs = []
    for number, target in enumerate(chosen.tolist()):
        kind = kinds[number % len(kinds)]
        places = free.get(int(classes[target]), [])
        if not places:
            raise InputError(
                f"train has too few examples of class {int(classes[target])} to be replaced; plant fewer."
            )
        place = places.pop()
        images[place] = ALTER[kind](pictures[target], rng)
        pairs.append(Pair(target, place, kind))
    return Planted((images, labels), tuple(pairs))


def _exact(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image


def _flipped(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return image[:, ::-1]


def _cropped(image: np.ndarray, rng: np.random.Generator, share: float = 0.81) -> np.ndarray:
    """A random window of `share` of each side, stretched to the full size bilinearly."""
    size = np.array(image.shape[:2])
    window = np.maximum(np.round(share * size).astype(int), 2)
    start = [int(rng.integers(0, free + 1)) for free in size - window]
    out = image.astype(np.float64)
    for axis in (0, 1):
        at = start[axis] + np.linspace(0, window[axis] - 1, size[axis])
        low = np.minimum(at.astype(int), size[axis] - 2)
        weight = np.expand_dims(at - low, tuple(i for i in range(out.ndim) if i != axis))
        out = (1 - weight) * out.take(low, axis) + weight * out.take(low + 1, axis)
    return _bytes(out)


def _re_encoded(image: np.ndarray, rng: np.random.Generator, quality: int = 30) -> np.ndarray:
    """Every 8 x 8 block through a rounded cosine transform, channel by channel."""
    height, width = image.shape[:2]
    channels = image.reshape(height, width, -1).astype(np.float64) - 128
    padded = np.pad(channels, ((0, -height % _BLOCK), (0, -width % _BLOCK), (0, 0)), mode="edge")
    k = np.arange(_BLOCK)
    basis = np.sqrt(2 / _BLOCK) * np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * _BLOCK))
    basis[0] /= np.sqrt(2)
    table = np.maximum(
        np.floor((_TABLE * (5000 / quality if quality < 50 else 200 - 2 * quality) + 50) / 100), 1
    )
    rows, columns, count = padded.shape[0] // _BLOCK, padded.shape[1] // _BLOCK, padded.shape[2]
    blocks = padded.reshape(rows, _BLOCK, columns, _BLOCK, count)
    cosines = np.einsum("ua,raqbc,vb->ruqvc", basis, blocks, basis)
    cosines = np.round(cosines / table[None, :, None, :, None]) * table[None, :, None, :, None]
    back = np.einsum("ua,ruqvc,vb->raqbc", basis, cosines, basis).reshape(padded.shape) + 128
    return _bytes(back[:height, :width]).reshape(image.shape)


def _colour_shifted(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    channels = image.reshape(*image.shape[:2], -1).astype(np.float64)
    gain, offset = rng.uniform(0.7, 1.3, channels.shape[2]), rng.uniform(-25, 25, channels.shape[2])
    return _bytes((channels - 128) * gain + 128 + offset).reshape(image.shape)


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


ALTER: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "exact": _exact,
    "flipped": _flipped,
    "cropped": _cropped,
    "re-encoded": _re_encoded,
    "colour-shifted": _colour_shifted,
}
