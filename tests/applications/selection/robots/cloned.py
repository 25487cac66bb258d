"""A small cloning study: good and bad episodes of one task, with targets to choose by and to report on."""

from tests.study.robots.made import driven
from whence.study import Adam
from whence.study.robots import Demonstrations, TanhGaussian, cloning_recipe, cloning_study

GOOD, BAD = 16, 16
LOSS = TanhGaussian(lowest=-1.0, margin=1e-2)  # so few steps would else be learnt by heart
FAST = Adam(lr=3e-3, betas=(0.9, 0.99), eps_root=1e-8)


def pool():
    """Good episodes first, then as many that go the other way."""
    return Demonstrations.concatenate(
        [driven(GOOD, seed=1), driven(BAD, seed=2, mistake=3.1, source="backwards", length=(5, 16))]
    )


def cloned(epochs=25, **options):
    prior = pool()
    settings = {"batch_size": 128, "width": 32, "depth": 2, "loss": LOSS, "optimizer": FAST} | options
    return cloning_study(prior, targets(), cloning_recipe(prior, epochs=epochs, **settings))


def targets():
    return driven(6, seed=7)


def report():
    return driven(6, seed=8)
