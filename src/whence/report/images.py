"""Small pictures as PNG data addresses, written without an imaging library."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

from whence.errors import InputError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}  # channels -> PNG colour type: grey, RGB, RGBA


def png(image: np.ndarray) -> bytes:
    """Bytes of a PNG file for an image of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8."""
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if (
        pixels.ndim != 3
        or pixels.shape[2] not in _COLOUR_TYPE
        or 0 in pixels.shape
        or pixels.dtype != np.uint8
    ):
        raise InputError(
            f"`image` has shape {np.shape(image)} and dtype {np.asarray(image).dtype}; "
            "a picture is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8."
        )
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPE[channels], 0, 0, 0)
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row starts with filter type 0
    rows[:, 1:] = pixels.reshape(height, -1)
    body = zlib.compress(rows.tobytes(), 9)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def data_address(image: np.ndarray, longest: int = 96) -> str:
    """The image as a `data:` address; an image with a side over `longest` pixels is reduced by whole-
    number averaging."""
    return "data:image/png;base64," + base64.b64encode(png(reduced(image, longest))).decode("ascii")


def reduced(image: np.ndarray, longest: int) -> np.ndarray:
    """Average blocks of pixels so that no side is longer than `longest` (a report holds hundreds of
    pictures)."""
    factor = -(-max(image.shape[:2]) // longest)
    if factor <= 1:
        return image
    height, width = image.shape[0] // factor * factor, image.shape[1] // factor * factor
    if not height or not width:  # a strip thinner than one block
        return np.ascontiguousarray(image[::factor, ::factor])
    trailing = image.shape[2:]
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, *trailing)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
