"""Near-duplicate images found by pixels: correlation of small, standardised versions, mirrored or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError

if TYPE_CHECKING:
    from whence.study import Study

SIDE = 16  # pixels to which images are averaged: small shifts and compression vanish, the scene stays
_AT_ONCE = 512  # targets


def pixel_correlation(train: Any, targets: Any) -> np.ndarray:
    """(targets, train) float32: largest correlation of a target, as it is or mirrored, with each train image.

    uint8 images (n, H, W[, C]). Each channel of each image is brought to mean 0, and each image to length 1,
    so brightness and contrast do not matter.
    """
    left, right = _signature(train), _signature(targets)
    mirrored = _signature(np.asarray(targets)[:, :, ::-1])
    out = np.empty((len(right), len(left)), np.float32)
    for start in range(0, len(right), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        np.maximum(right[part] @ left.T, mirrored[part] @ left.T, out=out[part])
    return out


def best_matches(train: Any, targets: Any, count: int = 1) -> list[tuple[int, int, float]]:
    """The `count` training images most like each target: (target, train, correlation), likest pairs first.

    Needs the memory of 512 x train numbers, so a whole data set can be looked through.
    """
    if count < 1:
        raise InputError(f"count is {count}, but it must be at least 1.")
    left, targets = _signature(train), np.asarray(targets)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(targets), _AT_ONCE):
        part = targets[start : start + _AT_ONCE]
        score = np.maximum(_signature(part) @ left.T, _signature(part[:, :, ::-1]) @ left.T)
        count = min(count, score.shape[1])
        best = np.argpartition(-score, count - 1, axis=1)[:, :count]
        found += [(start + i, int(j), float(score[i, j])) for i, row in enumerate(best) for j in row]
    return sorted(found, key=lambda match: -match[2])


def pixel_similarity(study: Study) -> Attribution:
    """`pixel_correlation` of a study of uint8 images, as an Attribution that knows nothing of labels."""
    return Attribution(
        pixel_correlation(study.train_inputs, study.target_inputs),
        target_ids=study.target_ids,
        train_ids=study.train_ids,
        output=study.outputs[0],
        units="correlation of pixels",
        method="pixel correlation, mirrored or not",
        provenance={"study": study.fingerprint},
    )


def _signature(images: Any) -> np.ndarray:
    """(n, features) float32 of length 1."""
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise InputError(
            f"pixels are compared in uint8 images (n, H, W[, C]), received {array.dtype} {array.shape}; pass "
            "a similarity of your own, for example Similarity(features, signed=False).attribute(study)."
        )
    array = array.reshape(*array.shape[:3], -1)
    factor = max(1, min(array.shape[1:3]) // SIDE)
    height, width = (size // factor * factor for size in array.shape[1:3])
    small = array[:, :height, :width].reshape(
        len(array), height // factor, factor, width // factor, factor, array.shape[3]
    )
    small = small.mean(axis=(2, 4), dtype=np.float32)
    small -= small.mean(axis=(1, 2), keepdims=True)
    small /= np.maximum(np.sqrt(np.square(small).mean(axis=(1, 2), keepdims=True)), 1e-3)
    flat = small.reshape(len(array), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
