"""Wrong labels, planted on MNIST and CIFAR-10 and made by people, found by every ranking.

One bank of retrainings on halves for each data set gives out-of-fold and in-fold predictions, and the class
probabilities that confident learning gets; attributions and training dynamics are of the same recipe. The
ranking that counts as ours ("combined") was fixed on other images, flips and seeds; of confident learning's
the best counts. Then as many suspects as were estimated are removed or relabelled and networks retrained.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np

import whence
from benchmarks import studies
from benchmarks.harness import RUNS, Result
from benchmarks.kept import Kept
from whence.applications import Mislabels, Recovery, mislabels
from whence.applications.mislabels_folds import folds
from whence.methods import TRAK, Datamodel, GradDot, Influence, Random
from whence.study.variants import self_targets, with_outputs, with_train
from whence.training import conv_net, dynamics

FULL = {
    "n": 5000,
    "targets": 2000,  # held-out examples, with their true labels, by which cleaning is judged
    "flipped": 0.1,  # share of planted wrong labels, any other class alike
    "models": 100,
    "width": 32,
    "epochs": 12,
    "lr": 0.05,
    "checkpoints": 3,
    "runs": 5,  # of which training dynamics are read
    "folds": 5,
    "retrainings": 10,
    "seed": 0,
}
QUICK = FULL | {
    "n": 400,
    "targets": 200,
    "models": 40,
    "width": 8,
    "epochs": 6,
    "checkpoints": 2,
    "runs": 2,
    "retrainings": 4,
}
# What a package of confident learning would rank by, given the same class probabilities
CONFIDENT = ("self-confidence", "normalised margin", "confident margin", "cleanlab")
MNIST, HUMAN = ("MNIST, logistic regression", "MNIST, MLP"), ("CIFAR-10N, aggregate", "CIFAR-10N, worst")
PLANTED = "CIFAR-10, planted"


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    result = Result("mislabels", dict(settings))
    for name in (*MNIST, PLANTED, *HUMAN):
        _one(result, name, *noisy(name, settings), settings)
    return result


def noisy(name, settings):
    """A study under wrong labels, and the true ones (n,)."""
    n, targets, seed = settings["n"], settings["targets"], settings["seed"]
    if name in MNIST:
        make = studies.mnist_logistic if name == MNIST[0] else studies.mnist_mlp
        study = make(n, targets)
        return with_train(
            study, (study.train_inputs, flip(study.train_labels, 10, settings))
        ), study.train_labels
    data = _cifar10()
    rows = np.random.default_rng(seed).permutation(len(data.train_y))[:n]
    truth = data.train_y[rows]
    data = data.rows(rows, slice(targets))
    labels = flip(truth, 10, settings) if name == PLANTED else studies.human_labels(name.split(", ")[1])[rows]
    recipe = whence.Recipe(
        partial(conv_net, (3, 32, 32), 10, settings["width"]),
        epochs=settings["epochs"],
        batch_size=64,
        optimizer=whence.SGD(settings["lr"], momentum=0.9, nesterov=True, weight_decay=5e-4),
        augment=whence.Augment(flip=True, translate=2),
        precision="float32",
    )
    study = whence.Study(
        (data.train_x, labels), (data.test_x, data.test_y), recipe, classes=data.classes, name=name
    )
    return study, truth


@cache
def _cifar10():
    return whence.datasets.cifar10()


def flip(labels, classes, settings):
    """Labels of which a share is replaced by a random other class."""
    rng = np.random.default_rng(settings["seed"])
    at = rng.choice(len(labels), round(settings["flipped"] * len(labels)), replace=False)
    changed = labels.copy()
    changed[at] = (changed[at] + rng.integers(1, classes, len(at))) % classes
    return changed


def _one(result, name, study, truth, settings):
    folder = RUNS / f"mislabels-n{settings['n']}" / name.lower().replace(", ", "-").replace(" ", "-")
    asked = with_outputs(self_targets(study), ["margin", "logits"])
    bank = whence.retrain(
        asked, settings["models"], to=folder / "bank.zarr", seed=settings["seed"], validation=0.1, held_out=0,
        checkpoints=settings["checkpoints"],
    )  # fmt: skip
    watched = dynamics(study, settings["runs"], seed=settings["seed"])
    found = mislabels(_attributions(asked, bank, folder), study, bank=bank, dynamics=watched, verify=False)
    judged = found.against(truth)
    _rows(result, name, judged)
    parts = np.array_split(np.random.default_rng(settings["seed"]).permutation(study.n), settings["folds"])
    crossed = whence.retrain(
        asked, settings["folds"], subsets=whence.Subsets.leaving_out(study.n, parts), validation=0,
        held_out=0, to=folder / "crossed.zarr", seed=settings["seed"],
    )  # fmt: skip
    usual = mislabels(None, study, probabilities=folds(crossed).probabilities, verify=False).against(truth)
    _rows(result, name, usual, f", {settings['folds']}-fold")
    checked = found.verify(
        study, retrainings=settings["retrainings"], to=folder / "cleaned.zarr", progress=True
    )
    result.row(
        data=name,
        wrong=judged.wrong,
        estimated=judged.estimated,
        by_confident_learning=found.estimates["confident learning"],
        by=judged.by,
        precision_of_suspects=judged.precision,
        recall=judged.recall,
        corrected=judged.corrected,
    )
    for arm in checked.cleaning.arms:
        result.row(
            data=name,
            training_set=arm.what,
            accuracy=arm.accuracy,
            against_random=arm.ahead,
            low=arm.ahead_interval[0],
            high=arm.ahead_interval[1],
        )
    _claims(result, name, judged, checked)
    page = folder / "suspects.html"
    whence.report([checked], study=study, to=page)


def _attributions(asked, bank, folder):
    kept = Kept(folder / "scores")
    return {name: kept.one(name, make)[0] for name, make in _methods(asked, bank).items()}


def _methods(asked, bank):
    return {
        "random": lambda: Random().attribute(asked),
        "ridge datamodel": lambda: Datamodel("ridge").attribute(bank, "margin"),
        "gradient dot": lambda: GradDot(bank).attribute(asked, "margin"),
        "TRAK": lambda: TRAK(bank).attribute(asked, "margin"),
        "influence": lambda: Influence("ekfac", checkpoints=bank, first=1).attribute(asked, "margin"),
    }


def _rows(result, name, judged: Recovery, suffix=""):
    for row in judged.rows:
        result.row(
            data=name,
            ranking=row.ranking + suffix,
            auc=row.auc,
            low=row.auc_interval[0],
            high=row.auc_interval[1],
            average_precision=row.average_precision,
            precision_at_the_number_wrong=row.precision,
        )


def _claims(result, name, judged: Recovery, checked: Mislabels):
    row = judged.row(judged.by)
    if name in MNIST:
        result.claim(f"{name}: AUC by {row.ranking}", row.auc, at_least=0.98, interval=row.auc_interval)
    theirs = max((one for one in judged.rows if one.ranking in CONFIDENT), key=lambda one: one.auc)
    result.claim(
        f"{name}: AUC of {row.ranking} less that of the best of confident learning ({theirs.ranking})",
        theirs.behind,
        at_least=0.0,
        interval=theirs.behind_interval,
    )
    arm = checked.cleaning.arm("removed")
    result.claim(
        f"{name}: accuracy without the suspects less that without random examples",
        arm.ahead,
        at_least=0.0,
        interval=arm.ahead_interval,
    )
