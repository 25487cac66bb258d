"""CIFAR-10 in the forms in which it travels; each is turned into the published binary records and checked."""

from __future__ import annotations

import io
import os
import pickletools
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from whence.errors import InputError
from whence.study.datasets.dataset import Dataset
from whence.study.datasets.files import check, data_folders, fetch, find

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
# md5 of the official binary batches
BATCHES = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
_PIXELS = 3 * 32 * 32


def cifar10(
    root: str | os.PathLike[str] | None = None,
    classes: Sequence[str | int] | None = None,
    batches: Sequence[int] = (1, 2, 3, 4, 5),
) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images, uint8 (n, 32, 32, 3), in published order.

    Looks in `root` (default: $WHENCE_DATA), then in the cache, for one of: the official binary batches
    (`cifar-10-batches-bin/*.bin`, or their `cifar-10-binary.tar.gz`), the python batches
    (`cifar-10-batches-py/data_batch_1` ...; parsed, never unpickled), or `.npz` files of lossless WebP strips
    (`cifar10/data_batch_1.npz` ..., needs Pillow). Fetches the official archive when there is none.

    Parameters
    ----------
    classes : only these, by name or label, relabelled 0, 1, ... in this order; ("cat", "dog") gives CIFAR-2
    batches : which of the five training batches to read

    Raises
    ------
    InputError : nothing found and no network, or a batch whose images and labels are not the published ones.
    """
    if not batches or not set(batches) <= {1, 2, 3, 4, 5} or len(set(batches)) < len(batches):
        raise InputError(
            f"batches is {list(batches)}, but it must name training batches from 1 to 5, each once."
        )
    folders = data_folders(root)
    names = [f"data_batch_{number}" for number in batches]
    parts = [_batch(name, folders) for name in [*names, "test_batch"]]
    train_x, train_y = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    data = Dataset(
        train_x,
        train_y,
        *parts[-1],
        classes=CLASSES,
        name="CIFAR-10",
        licence="none stated; cite Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
    )
    return data if classes is None else data.only(classes)


def _batch(name: str, folders: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and labels (n,) of one batch."""
    readers: list[tuple[list[str], Callable[[Path, str], bytes]]] = [
        ([f"cifar-10-batches-bin/{name}.bin", f"{name}.bin", f"cifar10/{name}.bin"], _from_binary),
        ([f"cifar-10-batches-py/{name}", name], _from_python),
        ([f"cifar10/{name}.npz", f"{name}.npz"], _from_strips),
        (["cifar-10-binary.tar.gz", "cifar10/cifar-10-binary.tar.gz"], _from_archive),
    ]
    found = [(path, read) for places, read in readers if (path := find(folders, places)) is not None]
    path, read = found[0] if found else (fetch("cifar10", URL, ARCHIVE_MD5, folders), _from_archive)
    raw = read(path, name)
    check(path, raw, BATCHES[name])
    records = np.frombuffer(raw, np.uint8).reshape(-1, 1 + _PIXELS)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)


def _records(labels: np.ndarray, planes: np.ndarray) -> bytes:
    """The official binary form: for each image its label byte, then the red, green and blue plane."""
    return np.concatenate([labels[:, None], planes.reshape(len(labels), _PIXELS)], axis=1).tobytes()


def _from_binary(path: Path, name: str) -> bytes:
    return path.read_bytes()


def _from_archive(path: Path, name: str) -> bytes:
    try:
        with tarfile.open(path) as archive:
            member = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
            if member is not None:
                return member.read()
    except (KeyError, tarfile.TarError, EOFError, OSError) as problem:
        raise InputError(f"{path} cannot be read ({problem}); it is damaged, replace it.") from None
    raise InputError(f"{path} holds no cifar-10-batches-bin/{name}.bin; it is another file, replace it.")


def _from_strips(path: Path, name: str) -> bytes:
    """Labels, and WebP strips of images stacked vertically: `labels`, `webp_00`, `webp_01`, ..."""
    try:
        from PIL import Image
    except ImportError:
        raise InputError(f"{path} needs Pillow to be read; pip install 'whence[images]'.") from None
    with np.load(path, allow_pickle=False) as arrays:
        labels = arrays["labels"]
        strips = [arrays[key].tobytes() for key in sorted(arrays.files) if key.startswith("webp_")]
    pictures = [np.asarray(Image.open(io.BytesIO(strip)).convert("RGB")) for strip in strips]
    return _records(labels, np.concatenate(pictures).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2))


def _from_python(path: Path, name: str) -> bytes:
    """The pickled "python version", read without unpickling, which would run whatever a pickle tells it to.

    A pickle is a list of instructions. We walk along them and pick up two things: the one long byte string
    (the pixels) and the small integers after the key "labels". The md5 check that follows proves the result.
    """
    content = path.read_bytes()
    labels: list[int] = []
    pixels, key = b"", ""
    try:
        for code, argument, _ in pickletools.genops(content):
            if isinstance(argument, str | bytes):
                # Python 2's byte strings come as latin-1 text
                if len(argument) >= _PIXELS:
                    pixels = argument.encode("latin-1") if isinstance(argument, str) else argument
                key = argument if isinstance(argument, str) else ""
            elif key == "labels" and code.name in ("BININT", "BININT1") and argument is not None:
                labels.append(argument)
    except ValueError as problem:
        raise InputError(f"{path} cannot be parsed ({problem}); it is damaged or another file.") from None
    if not pixels or len(labels) * _PIXELS != len(pixels) or not set(labels) <= set(range(10)):
        raise InputError(f"{path} is not one of CIFAR-10's python batches; it is damaged or another file.")
    return _records(np.array(labels, np.uint8), np.frombuffer(pixels, np.uint8))
