"""The studies on which methods are compared, each with a bank of retrainings: what was trained, on what, how
often.

Retrainings lie under runs/ and are made once; a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import whence
from benchmarks.harness import RUNS
from whence.errors import InputError
from whence.study.datasets.files import data_folders, find
from whence.training import bag_of_embeddings, conv_net, logistic_regression, mlp


@dataclass(frozen=True)
class Bench:
    """A study and how it is retrained: so many masks to fit on, to validate on, to report on."""

    name: str
    study: Callable[[], whence.Study]
    train: int = 2000
    validation: int = 200
    held_out: int = 100
    held_out_seeds: int = 5
    checkpoints: int = 600  # rows whose weights are kept
    keep: float = 0.5
    hessians: tuple[str, ...] = ("ekfac",)  # of the influence functions
    projection: int | None = None  # of TRAK
    self_supervised: bool = False  # whether the images are worth learning features of
    metagradients: bool = False  # whether a metagradient for each target is affordable
    leave_one_out: bool = False  # whether a model for each example left out is affordable

    @property
    def rows(self) -> int:
        return self.train + self.validation + self.held_out * self.held_out_seeds

    @property
    def path(self):
        return RUNS / f"methods-{self.name}.zarr"

    def bank(self, progress: bool = True) -> whence.Bank:
        """The bank, filled to the last row (on the first call that takes minutes)."""
        masks = self.train + self.validation + self.held_out
        return whence.retrain(
            self.study(),
            self.rows,
            keep=self.keep,
            to=self.path,
            validation=self.validation / masks,
            held_out=self.held_out / masks,
            held_out_seeds=self.held_out_seeds,
            checkpoints=self.checkpoints,
            progress=progress,
        )

    def leaving_one_out(self) -> whence.Bank:
        """A bank with a model of everything and one without each example, all with one seed."""
        study = self.study()
        subsets = whence.Subsets.leaving_out(study.n, [[], *([i] for i in range(study.n))])
        return whence.retrain(
            study,
            study.n + 1,
            subsets=subsets,
            training_seed=0,
            to=RUNS / f"methods-{self.name}-leaving-one-out.zarr",
            validation=0.0,
            held_out=0.0,
        )


def judged(
    study: whence.Study, to: Path, models: int, held_out_masks: int, held_out_seeds: int, keep: float
) -> whence.Bank:
    """A bank with `models` retrainings to fit to, a tenth of them for validation, and so many masks to judge
    by, each with several seeds."""
    share = held_out_masks / (models + held_out_masks)
    return whence.retrain(
        study,
        models + held_out_masks * held_out_seeds,
        keep=keep,
        to=to,
        validation=0.1 * (1 - share),
        held_out=share,
        held_out_seeds=held_out_seeds,
    )


def _study(data, recipe, name, texts=None) -> whence.Study:
    return whence.Study(
        train=(data.train_x, data.train_y),
        targets=(data.test_x, data.test_y),
        outputs=["margin", "loss"],
        recipe=recipe,
        classes=data.classes,
        name=name,
        texts=texts,
    )


def mnist_logistic(n: int = 5000, targets: int = 500) -> whence.Study:
    """Logistic regression on the first digits of MNIST, trained to near convergence."""
    recipe = whence.Recipe(
        partial(logistic_regression, 784, 10),
        epochs=20,
        batch_size=64,
        optimizer=whence.SGD(0.02, momentum=0.9, weight_decay=1e-3),
        precision="float32",
    )
    return _study(_first(whence.datasets.mnist(), n, targets), recipe, "MNIST, logistic regression")


def mnist_mlp(n: int = 5000, targets: int = 500, epochs: int = 10) -> whence.Study:
    """The 784-128-64-10 perceptron on the same digits."""
    recipe = whence.Recipe(
        partial(mlp, 784, 10),
        epochs=epochs,
        batch_size=64,
        optimizer=whence.SGD(0.03, momentum=0.9, weight_decay=5e-4),
        precision="float32",
    )
    return _study(_first(whence.datasets.mnist(), n, targets), recipe, "MNIST, MLP 128-64")


def cifar2(n: int = 2000, targets: int = 500, epochs: int = 8) -> whence.Study:
    """Cats against dogs of CIFAR-10, a conv net of 22,000 weights."""
    data = whence.datasets.cifar10(classes=("cat", "dog"), batches=(1, 2)).sample(n, targets, seed=0)
    recipe = whence.Recipe(
        partial(conv_net, (3, 32, 32), 2, 32),
        epochs=epochs,
        batch_size=64,
        optimizer=whence.SGD(0.02, momentum=0.9, nesterov=True, weight_decay=5e-4),
        precision="float32",
    )
    return _study(data, recipe, "CIFAR-2, conv net")


def human_labels(kind: str) -> np.ndarray:
    """What people called the 50,000 training images of CIFAR-10, in published order: CIFAR-10N (Wei et al.
    2022), "aggregate" or "worst" of three labels."""
    place = "cifar10-extras/cifar10n-human.npz"
    path = find(data_folders(None), [place])
    if path is None:
        raise InputError(f"CIFAR-10N is read from $WHENCE_DATA/{place}, which is not there.")
    return np.load(path)[{"aggregate": "aggre_label", "worst": "worse_label"}[kind]].astype(np.int64)


def cifar_tails(
    sizes: tuple[int, int, int] = (820, 170, 30), targets: int = 400, epochs: int = 20, width: int = 16
) -> tuple[whence.Study, np.ndarray, np.ndarray]:
    """Six classes of CIFAR-10 in two, each with a long tail of sub-classes: bird, cat and frog against deer,
    dog and horse, so many of each, under the worst of three labels that people gave (one that names none of
    the six leaves the image out). With it the true sub-class of each training example, and whether its label
    is of the other side.

    A conv net that learns all of it by heart. Only full batches count, so that leaving out a few examples
    changes neither the number of steps nor the size of a batch, by which models could be told apart.
    """
    names = (("bird", "cat", "frog"), ("deer", "dog", "horse"))
    flat = [name for side in names for name in side]
    data = whence.datasets.cifar10(classes=flat, batches=(1, 2))
    everything = whence.datasets.cifar10(batches=(1, 2))
    place = np.array([flat.index(name) if name in flat else -1 for name in everything.classes])
    called = place[human_labels("worst")[: len(everything.train_y)]][place[everything.train_y] >= 0]
    rng = np.random.default_rng(0)
    counts = np.array([*sizes, *sizes])
    train = np.concatenate(
        [
            rng.choice(np.flatnonzero((data.train_y == c) & (called >= 0)), count, False)
            for c, count in enumerate(counts)
        ]
    )
    shares = np.maximum(counts * targets // counts.sum(), 10)
    test = np.concatenate(
        [rng.choice(np.flatnonzero(data.test_y == c), count, False) for c, count in enumerate(shares)]
    )
    train, test = rng.permutation(train), rng.permutation(test)
    recipe = whence.Recipe(
        partial(conv_net, (3, 32, 32), 2, width),
        epochs=epochs,
        batch_size=64,
        optimizer=whence.SGD(0.03, momentum=0.9, nesterov=True, weight_decay=5e-4),
        drop_last=True,
    )
    study = whence.Study(
        train=(data.train_x[train], called[train] // 3),
        targets=(data.test_x[test], data.test_y[test] // 3),
        recipe=recipe,
        classes=["/".join(side) for side in names],
        name="CIFAR-10 in two classes with long tails, as people labelled it",
    )
    return study, np.array(flat)[data.train_y[train]], called[train] // 3 != data.train_y[train] // 3


def sst2(n: int = 3000, targets: int = 500) -> whence.Study:
    """Sentiment of film reviews, a bag of embeddings; n phrases of ten words or more."""
    data = whence.datasets.sst2(vocabulary=4000, length=32, least=10).sample(n, targets, seed=0)
    recipe = whence.Recipe(
        partial(bag_of_embeddings, 4000, 2, 16),
        epochs=12,
        batch_size=64,
        optimizer=whence.SGD(3.0, momentum=0.9, weight_decay=1e-3),
        precision="float32",
    )
    texts = (data.train_text, data.test_text)
    return _study(data, recipe, "SST-2, bag of embeddings", texts=texts)


def _first(data, n: int, targets: int):
    return data.rows(slice(n), slice(targets))


BENCHES = {
    "mnist-lr": Bench(
        "mnist-lr",
        mnist_logistic,
        hessians=("explicit", "cg", "kfac", "ekfac"),
        metagradients=True,
        leave_one_out=True,
    ),
    "mnist-mlp": Bench("mnist-mlp", mnist_mlp, hessians=("kfac", "ekfac"), metagradients=True),
    "cifar2": Bench("cifar2", cifar2, hessians=("kfac", "ekfac"), self_supervised=True),
    "sst2": Bench("sst2", sst2, hessians=("kfac", "ekfac"), projection=2048, metagradients=True),
}
# the same in about a minute, to see that everything runs
QUICK = Bench(
    "quick",
    partial(mnist_logistic, 400, 50),
    train=270,
    validation=30,
    held_out=30,
    held_out_seeds=2,
    checkpoints=40,
    hessians=("cg", "kfac", "ekfac"),
    self_supervised=True,
    metagradients=True,
    leave_one_out=True,
)
