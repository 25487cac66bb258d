"""Data sets that need no download: the bundled sample of Fashion-MNIST, and scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whence.errors import InputError
from whence.study.datasets.dataset import Dataset, balanced
from whence.study.datasets.idx import FASHION_CLASSES

SAMPLE = Path(__file__).with_name("fashion_mnist_sample.npz")


def fashion_mnist_sample() -> Dataset:
    """2,000 train and 500 test images of Fashion-MNIST, the ten classes balanced, bundled with whence.

    uint8 (n, 28, 28). Drawn by `tools/make_fashion_mnist_sample.py`. MIT licence, Zalando SE. Source: Xiao,
    Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning", 2017.
    """
    with np.load(SAMPLE, allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in ("train_x", "train_y", "test_x", "test_y")}
    return Dataset(
        parts["train_x"],
        parts["train_y"].astype(np.int64),
        parts["test_x"],
        parts["test_y"].astype(np.int64),
        classes=FASHION_CLASSES,
        name="Fashion-MNIST sample",
        licence="MIT, Zalando SE",
        source="https://github.com/zalandoresearch/fashion-mnist",
    )


def digits(test: int = 360, seed: int = 0) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, uint8 (n, 8, 8) with values 0..16 stretched to 0..255.

    `test` of them, drawn with `seed` and the classes balanced, become the test set. Needs scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits needs scikit-learn; pip install 'whence[sklearn]'.") from None
    loaded = load_digits()
    images = np.round(loaded.images * (255 / 16)).astype(np.uint8)
    labels = loaded.target.astype(np.int64)
    if not 0 < test < len(labels):
        raise InputError(f"test is {test}, but it must lie between 1 and {len(labels) - 1}.")
    rows = balanced(labels, test, 10, "test", np.random.default_rng(seed))
    held_out = np.isin(np.arange(len(labels)), rows)
    return Dataset(
        images[~held_out],
        labels[~held_out],
        images[held_out],
        labels[held_out],
        classes=[str(digit) for digit in range(10)],
        name="digits",
        licence="CC BY 4.0, UCI Machine Learning Repository",
        source="https://archive.ics.uci.edu/dataset/80",
    )
