"""The training engine: one pure step, and drivers for one model and for many at once."""

from whence.training.batchnorm import BatchNorm2d
from whence.training.dynamics import Dynamics, dynamics
from whence.training.networks import bag_of_embeddings, conv_net, gpt, logistic_regression, mlp, resnet9
from whence.training.single import features, train
from whence.training.trainer import RecipeTrainer

__all__ = [
    "BatchNorm2d",
    "Dynamics",
    "RecipeTrainer",
    "bag_of_embeddings",
    "conv_net",
    "dynamics",
    "features",
    "gpt",
    "logistic_regression",
    "mlp",
    "resnet9",
    "train",
]
