"""MNIST and Fashion-MNIST from their idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

from whence.errors import InputError
from whence.study.datasets.dataset import Dataset
from whence.study.datasets.files import check, data_folders, fetch, find

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# file -> (md5 of the unpacked file, md5 of the published .gz)
MNIST = {
    FILES[0]: ("6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    FILES[1]: ("a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
    FILES[2]: ("2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
    FILES[3]: ("27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
}
FASHION_MNIST = {
    FILES[0]: ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    FILES[1]: ("9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe"),
    FILES[2]: ("8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79"),
    FILES[3]: ("15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310"),
}
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_MNIST_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_CLASSES = [
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]
_IDX_UBYTE = 8  # the idx code for unsigned bytes, third byte of the file


def mnist(root: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST (LeCun, Cortes, Burges 1998): 60,000 + 10,000 handwritten digits, uint8 (n, 28, 28).

    Looks for the four idx files, plain or .gz, in `root` (default: $WHENCE_DATA), there also in `mnist/` and
    `MNIST/raw/`, then in the cache; fetches what is missing. InputError: nothing found and no network, or a
    file whose content is not the published one.
    """
    places = ("mnist", "MNIST/raw", "MNIST", ".")
    train_x, train_y, test_x, test_y = _read("mnist", places, MNIST, MNIST_URL, root)
    return Dataset(
        train_x,
        train_y,
        test_x,
        test_y,
        classes=[str(digit) for digit in range(10)],
        name="MNIST",
        licence="CC BY-SA 3.0, Yann LeCun, Corinna Cortes, Christopher Burges",
        source="http://yann.lecun.com/exdb/mnist/",
    )


def fashion_mnist(root: str | os.PathLike[str] | None = None) -> Dataset:
    """Fashion-MNIST (Xiao, Rasul, Vollgraf 2017): 60,000 + 10,000 articles of clothing, uint8 (n, 28, 28).

    Looks for the four idx files, plain or .gz, in `root` (default: $WHENCE_DATA), there also in
    `fashion-mnist/` and `FashionMNIST/raw/`, then in the cache; fetches what is missing. InputError: nothing
    found and no network, or a file whose content is not the published one.
    """
    places = ("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", ".")
    train_x, train_y, test_x, test_y = _read("fashion-mnist", places, FASHION_MNIST, FASHION_MNIST_URL, root)
    return Dataset(
        train_x,
        train_y,
        test_x,
        test_y,
        classes=FASHION_CLASSES,
        name="Fashion-MNIST",
        licence="MIT, Zalando SE",
        source="https://github.com/zalandoresearch/fashion-mnist",
    )


def _read(
    name: str,
    places: tuple[str, ...],
    files: dict[str, tuple[str, str]],
    url: str,
    root: str | os.PathLike[str] | None,
) -> list[np.ndarray]:
    folders = data_folders(root)
    arrays = []
    for file, (md5, packed_md5) in files.items():
        path = find(folders, [f"{place}/{file}{end}" for place in places for end in ("", ".gz")])
        if path is None:
            path = fetch(name, f"{url}{file}.gz", packed_md5, folders)
        content = _unpacked(path)
        check(path, content, md5)
        arrays.append(parse_idx(content, path))
    train_x, train_y, test_x, test_y = arrays
    return [train_x, train_y.astype(np.int64), test_x, test_y.astype(np.int64)]


def _unpacked(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, OSError) as problem:
        raise InputError(f"{path} cannot be unpacked ({problem}); it is damaged, replace it.") from None


def parse_idx(content: bytes, path: Path | str = "the file") -> np.ndarray:
    """The uint8 array in an idx file: zero, zero, type, number of dimensions, big-endian sizes, the data."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _IDX_UBYTE:
        raise InputError(f"{path} does not begin as an idx file of bytes does; it is another file.")
    start = 4 + 4 * content[3]
    shape = tuple(np.frombuffer(content[4:start], ">u4").astype(int))
    if len(content) - start != int(np.prod(shape)):
        raise InputError(f"{path} holds {len(content) - start} bytes of data, but its shape is {shape}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
