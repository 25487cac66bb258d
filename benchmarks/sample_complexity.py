"""LDS against the number of retrained models: LASSO, ridge, OLS and difference of means on CIFAR-2, with the
ceiling.

CIFAR-2 is cats against dogs of CIFAR-10 (read from $WHENCE_DATA, or fetched). A small conv net is retrained
on random halves of the training set; every method is fitted to the first so many retrainings (those it
validates on included) and all are judged by the same held-out masks, each averaged over several seeds. Random
scores and the similarity of pixels and of penultimate features, which need no retraining, are judged
alongside.

The retrainings lie in a bank under runs/, so a run that was stopped goes on where it was. On two cores a full
run takes about half an hour, nearly all of it training.
"""

from __future__ import annotations

from functools import partial

import numpy as np

import whence
from benchmarks.harness import RUNS, Result
from whence.evaluate import compare, noise_ceiling
from whence.evaluate.learning_curve import first_models
from whence.methods import Datamodel, DifferenceOfMeans, Random, Similarity
from whence.training import conv_net

FULL = {
    "n": 1000,
    "targets": 300,
    "models": (50, 100, 250, 500, 1000, 1500, 2000, 4000),
    "held_out_masks": 75,
    "held_out_seeds": 5,
    "validation": 0.1,
    "keep": 0.5,
    "width": 16,
    "epochs": 8,
    "batch_size": 64,
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "bootstrap": 1000,
    "seed": 0,
}
QUICK = FULL | {
    "n": 200,
    "targets": 100,
    "models": (50, 100, 200, 400),
    "held_out_masks": 40,
    "held_out_seeds": 4,
    "width": 8,
    "bootstrap": 300,
}
FITTED = {
    "LASSO": Datamodel("lasso"),
    "ridge": Datamodel("ridge"),
    "OLS": Datamodel("ols"),
    "difference of means": DifferenceOfMeans(),
}
BASELINES = {
    "penultimate similarity": Similarity("penultimate"),
    "pixel similarity": Similarity("pixels"),
    "random": Random(),
}


def cats_and_dogs(n, targets, width, epochs, batch_size, lr, momentum, weight_decay, seed, **_):
    """The study: a balanced sample of both classes, margins of test images, a conv net trained in seconds."""
    data = whence.datasets.cifar10(classes=("cat", "dog"), batches=(1,)).sample(n, targets, seed=seed)
    recipe = whence.Recipe(
        model=partial(conv_net, (3, 32, 32), 2, width),
        epochs=epochs,
        batch_size=batch_size,
        optimizer=whence.SGD(lr=lr, momentum=momentum, nesterov=True, weight_decay=weight_decay),
    )
    return whence.Study(
        train=(data.train_x, data.train_y),
        targets=(data.test_x, data.test_y),
        recipe=recipe,
        classes=data.classes,
        name=f"CIFAR-2, {n} of them",
    )


def retrainings(study, models, held_out_masks, held_out_seeds, validation, keep, seed, **_):
    """A bank with `models[-1]` retrainings to fit to and `held_out_masks` masks to judge by."""
    shares = {"validation": validation, "held_out": held_out_masks / (models[-1] + held_out_masks)}
    plan = whence.Plan(
        whence.Subsets.uniform(study.n, keep, seed), **shares, held_out_seeds=held_out_seeds, seed=seed
    )
    part = plan.rows(0, 2 * models[-1] + 4 * held_out_masks * held_out_seeds).part
    enough = (np.cumsum(part != 2) >= models[-1]) & (np.cumsum(part == 2) >= held_out_masks * held_out_seeds)
    return whence.retrain(
        study,
        int(np.argmax(enough)) + 1,
        to=RUNS / f"sample_complexity-n{study.n}.zarr",
        keep=keep,
        held_out_seeds=held_out_seeds,
        seed=seed,
        **shares,
    )


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    study = cats_and_dogs(**settings)
    bank = retrainings(study, **settings)
    judged = bank.by_mask("held_out").outputs
    ceiling = noise_ceiling(judged, bootstrap=settings["bootstrap"])
    result = Result(
        "sample_complexity",
        settings
        | {
            "rows": bank.rows_committed,
            "masks_judged": len(judged),
            "seconds_per_model": bank.info().get("seconds_per_model"),
        },
    )
    result.row(
        method="noise ceiling",
        models=0,
        lds=ceiling.ceiling,
        low=ceiling.interval[0],
        high=ceiling.interval[1],
    )
    curves = {name: [] for name in FITTED}
    for models in settings["models"]:
        early = first_models(bank, models, "margin")
        # Least squares has a unique answer only with more retrainings than training examples.
        able = [name for name in FITTED if name != "OLS" or models > study.n + 1]
        fitted = {name: FITTED[name].attribute(early) for name in able}
        last = models == settings["models"][-1]
        if last:
            fitted |= {name: method.attribute(study) for name, method in BASELINES.items()}
        scores = compare(fitted, bank, bootstrap=settings["bootstrap"])
        for name in fitted:
            score = scores.scores[name]
            add(result, name, models if name in FITTED else 0, score)
            if name in FITTED:
                curves[name].append({"models": models, "lds": score.mean, "interval": score.interval})
    claims(result, scores, bank, settings)
    result.details = {
        "ceiling": ceiling.to_dict() | {"reliability_per_target": None, "noise_variance": None},
        "mean_accuracy": float((judged > 0).mean()),
        "curves": curves,
        "models_saved_by_lasso": models_saved(curves),
    }
    return result


def add(result, name, models, score):
    low, high = score.interval
    result.row(
        method=name,
        models=models,
        lds=score.mean,
        low=low,
        high=high,
        pearson=score.pearson,
        of_ceiling=score.of_ceiling,
    )


def claims(result, scores, bank, settings):
    """What the documentation says, at the largest number of models."""
    most = f"{settings['models'][-1]:,} models"
    # Which datamodel to speak of is chosen on the validation part, not by the scores that are reported.
    chosen = Datamodel("auto").attribute(bank).method.removeprefix("datamodel (").removesuffix(")")
    baseline = next(name for name in scores.scores if name in BASELINES)
    for first, second in ((chosen, baseline), (chosen, "difference of means")):
        interval = scores.difference(first, second).interval
        result.claim(
            f"LDS of {first} minus {second}, {most}: lower end of the paired 95 % interval",
            interval[0],
            at_least=0,
            interval=interval,
        )
    gap = scores.scores[chosen].interval[0] - scores.scores[baseline].interval[1]
    result.claim(f"gap between the separate intervals of {chosen} and {baseline}, {most}", gap, at_least=0)


def models_saved(curves):
    """Per LASSO point: how many times more models the difference of means needs for the same LDS; None beyond
    its curve."""
    reference = curves["difference of means"]
    lds, models = [point["lds"] for point in reference], [point["models"] for point in reference]
    if np.any(np.diff(lds) <= 0):
        return None
    return [
        {
            "models": point["models"],
            "factor": float(np.exp(np.interp(point["lds"], lds, np.log(models))) / point["models"])
            if lds[0] <= point["lds"] <= lds[-1]
            else None,
        }
        for point in curves["LASSO"]
    ]
