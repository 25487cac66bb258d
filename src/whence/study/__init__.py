"""What is being studied: `Study`, `Recipe`, outputs, adapters and datasets. Data only; `whence.training`
trains."""

from whence.study.recipe import SGD, Adam, AdamW, Augment, Constant, Cosine, Erase, Recipe, Stairs, Triangle
from whence.study.study import Study
from whence.study.trainer import Retrained, Trainer

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augment",
    "Constant",
    "Cosine",
    "Erase",
    "Recipe",
    "Retrained",
    "Stairs",
    "Study",
    "Trainer",
    "Triangle",
]
