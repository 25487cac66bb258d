"""Draw the sample of Fashion-MNIST that is bundled with whence; WHENCE_DATA names the folder of the full one.

    WHENCE_DATA=... python tools/make_fashion_mnist_sample.py

Writes src/whence/study/datasets/fashion_mnist_sample.npz, the same bytes every time. Beside images and labels
it holds each image's index in the full data set.
"""

from pathlib import Path

import numpy as np

from whence.study.datasets.dataset import balanced
from whence.study.datasets.idx import fashion_mnist

TRAIN, TEST, SEED = 2_000, 500, 0
TO = Path(__file__).parents[1] / "src/whence/study/datasets/fashion_mnist_sample.npz"


def main() -> None:
    full, rng = fashion_mnist(), np.random.default_rng(SEED)
    train = balanced(full.train_y, TRAIN, 10, "train", rng)
    test = balanced(full.test_y, TEST, 10, "test", rng)
    np.savez_compressed(
        TO,
        train_x=full.train_x[train],
        train_y=full.train_y[train].astype(np.uint8),
        train_index=train.astype(np.uint16),
        test_x=full.test_x[test],
        test_y=full.test_y[test].astype(np.uint8),
        test_index=test.astype(np.uint16),
    )
    print(f"{TO}: {TO.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
