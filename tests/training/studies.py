"""Small studies that the engine's tests train."""

from functools import partial

import numpy as np
import torch
from torch import nn

from whence.study import SGD, Recipe, Study
from whence.training import BatchNorm2d, logistic_regression, mlp

N, TARGETS, CLASSES = 40, 7, 3


def tiny_conv(norm=BatchNorm2d):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        norm(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(4 * 64, CLASSES),
    )


MODELS = {
    "logistic": partial(logistic_regression, 64, CLASSES),
    "mlp": partial(mlp, 64, CLASSES, (8,)),
    "conv": tiny_conv,
}


def images(seed=0, count=N + TARGETS):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pictures = rng.integers(0, 256, (count, 8, 8)) // 2 + 40 * labels[:, None, None]
    return pictures.astype(np.uint8), labels


def study(model="logistic", x=None, outputs=("margin",), **options):
    pictures, labels = images()
    if x is not None:
        pictures = x
    settings = {"epochs": 3, "batch_size": 8, "optimizer": SGD(0.1, 0.9, weight_decay=1e-3), **options}
    recipe = Recipe(MODELS.get(model, model), **settings)
    return Study((pictures[:N], labels[:N]), (pictures[N:], labels[N:]), recipe, outputs)


def masks(count, keep=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(N) < round(keep * N) for _ in range(count)])


def train(subject, rows, seeds, stack=1, **more):
    trainer = subject.trainer(engine={"stack": stack})
    return [run.outputs["margin"] for run in trainer.train(rows, np.asarray(seeds), **more)]


def weights_of(model):
    return torch.cat([p.flatten() for p in model.state_dict().values()])
