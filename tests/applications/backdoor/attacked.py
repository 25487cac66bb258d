"""A small study of real images to poison: three classes of the bundled sample of Fashion-MNIST."""

from functools import partial

import numpy as np

import whence
from whence.study import SGD, Recipe, Study
from whence.training import mlp


def study(n=240, targets=90, classes=("T-shirt", "trouser", "bag"), inputs=None, **changes):
    data = whence.datasets.fashion_mnist_sample().only(classes).sample(n, targets, seed=0)
    recipe = Recipe(partial(mlp, 784, len(classes), (32,)), epochs=6, batch_size=32, optimizer=SGD(0.05, 0.9))
    x, y = data.train_x, data.test_x
    if inputs is not None:
        x, y = inputs(x), inputs(y)
    return Study((x, data.train_y), (y, data.test_y), recipe, classes=list(classes), **changes)


def as_floats(images):
    """float32 channel-first, 0 to 1."""
    return (images[:, None] / 255).astype(np.float32)
