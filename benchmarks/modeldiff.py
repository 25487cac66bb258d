"""ModelDiff: a cue that one recipe cannot see, found and tested; recipes against themselves; augmentation.

A small stamp stands on 30 % of one class of Fashion-MNIST images, in the training set and among the targets.
Recipe "sees" trains on the images as they are; recipe "blind" blanks that corner of every training image.
The first component of what "sees" has beyond "blind" should be the stamp; stamping other images should move
"sees" and not "blind", more with a larger stamp, less the more often the corner was blanked. A recipe against
itself (a second bank, and halves of each bank as if they were two recipes) should pass nothing. Last, on
images of CIFAR-10, training with and without augmentation, reported as found.

The retrainings lie under runs/, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

import whence
from benchmarks.harness import RUNS, Result
from whence.applications import (
    FeatureEffects,
    Halves,
    RecipeComparison,
    compare_recipes,
    feature_effects,
)
from whence.applications.transforms import Patch
from whence.evaluate.intervals import welch
from whence.evaluate.learning_curve import WithoutRows
from whence.methods import Datamodel
from whence.training import conv_net, logistic_regression

STAMP = {  # Fashion-MNIST, multinomial logistic regression
    "classes": ("T-shirt", "pullover", "coat", "shirt"),
    "stamped": "shirt",
    "share": 0.3,  # of the class that carry the stamp
    "size": 3,  # of the stamp, pixels
    "sizes": (1, 2, 3),  # of the stamps in the test
    "blanked": (0.0, 0.5, 0.9, 1.0),  # how often the corner is blanked, by recipe
    "n": 600,
    "targets": 240,
    "batch": 300,  # all that a subset keeps: the order of examples adds no noise to the weights
    "epochs": 15,
    "lr": 0.03,
    "models": 5000,
    "splits": 5,
    "trials": 5,  # of each bank, halved at random and compared with itself
    "retrainings": 60,
    "removals": 40,
    "seed": 0,
}
AUGMENTATION = {  # CIFAR-10, conv net
    "classes": ("cat", "dog"),
    "n": 800,
    "targets": 300,
    "width": 12,
    "batch": 50,
    "epochs": 8,
    "lr": 0.02,
    "models": 2500,
    "splits": 5,
    "removals": 20,
    "seed": 0,
}
FULL = STAMP, AUGMENTATION
QUICK = (
    STAMP | {"models": 2500, "splits": 2, "trials": 1, "retrainings": 10, "removals": 5},
    AUGMENTATION | {"n": 200, "targets": 60, "width": 4, "models": 160, "splits": 2, "removals": 3},
)
COMPONENTS = 10
TOP = 30  # training examples of which precision is taken
METHOD = Datamodel("ridge")


def run(quick: bool = False) -> Result:
    stamped, augmentation = QUICK if quick else FULL
    folder = RUNS / ("modeldiff-quick" if quick else "modeldiff")
    result = Result(
        "modeldiff",
        {"stamp": stamped, "augmentation": augmentation, "components": COMPONENTS, "top": TOP},
    )
    planted(result, stamped, folder)
    augmented(result, augmentation, folder)
    return result


def planted(result: Result, settings: dict[str, Any], folder) -> None:
    recipes, cue = with_stamp(settings)
    strengths = list(recipes)
    names = ("sees", "blind")
    sees, blind = recipes[strengths[0]], recipes[strengths[-1]]
    banks = {
        name: bank_of(study, settings, folder / f"{name}.zarr", seed)
        for name, study, seed in (("sees", sees, 0), ("blind", blind, 1), ("sees again", sees, 2))
    }
    halves = {name: Halves.of(METHOD, bank, splits=settings["splits"]) for name, bank in banks.items()}
    found = compare_recipes(
        halves["sees"], halves["blind"], sees, blind,
        names=names, components=COMPONENTS, retrainings=settings["removals"], to=folder / "removed",
        progress=True,
    )  # fmt: skip
    tell(result, "stamp", found, cue)
    doses = {f"a stamp of {size} x {size} pixels": stamp(size) for size in settings["sizes"]}
    tested = found.test(
        doses, sees, blind, settings["stamped"], retrainings=settings["retrainings"], to=folder / "tested",
        progress=True,
    )  # fmt: skip
    whence.report([halves["sees"].whole, tested], study=sees, bank=banks["sees"], to=folder / "stamp.html")
    effects = feature_effects(
        recipes, doses, settings["stamped"], retrainings=settings["retrainings"], seed=1,
        to=folder / "doses", progress=True,
    )  # fmt: skip
    for row in effects.rows:
        result.row(
            recipe=row.recipe, stamp=row.transform, probability_before=row.before, effect=row.effect,
            low=row.interval[0], high=row.interval[1],
        )  # fmt: skip
    claims_of_the_cue(result, found, cue)
    claims_of_the_test(result, tested)
    claims_of_the_doses(result, effects)
    against_itself(result, settings, halves, banks, names)


def augmented(result: Result, settings: dict[str, Any], folder) -> None:
    """With against without augmentation, on images without a stamp."""
    data = whence.datasets.cifar10(classes=settings["classes"], batches=(1, 2))
    data = data.sample(settings["n"], settings["targets"], seed=settings["seed"])
    names = ("augmented", "plain")
    network = partial(conv_net, (3, 32, 32), len(settings["classes"]), settings["width"])
    recipes = (
        recipe(network, settings, augment=whence.Augment(flip=True, translate=4)),
        recipe(network, settings),
    )
    studies = [
        whence.Study(
            (data.train_x, data.train_y), (data.test_x, data.test_y), one, classes=data.classes,
            outputs=["margin", "margin_max"], name=f"CIFAR-10 {name}",
        )
        for name, one in zip(names, recipes, strict=True)
    ]  # fmt: skip
    banks = {
        name: bank_of(study, settings, folder / f"{name}.zarr", seed)
        for seed, (name, study) in enumerate(zip(names, studies, strict=True))
    }
    halves = {name: Halves.of(METHOD, bank, splits=settings["splits"]) for name, bank in banks.items()}
    found = compare_recipes(
        *halves.values(), *studies,
        names=names, components=COMPONENTS, retrainings=settings["removals"],
        to=folder / "removed, augmentation", progress=True,
    )  # fmt: skip
    tell(result, "augmentation", found, None)
    result.details["with and without augmentation"] = {
        "statement": found.statement,
        "verified": found.verified,
        "accuracy": {name: accuracy(bank) for name, bank in banks.items()},
    }
    whence.report(
        [halves["augmented"].whole, found], study=studies[0], bank=banks["augmented"],
        to=folder / "augmentation.html",
    )  # fmt: skip


def stamp(size: int) -> Patch:
    return Patch(1, 1, size, size)


def recipe(network: Any, settings: dict[str, Any], **more: Any) -> whence.Recipe:
    return whence.Recipe(
        network,
        epochs=settings["epochs"],
        batch_size=settings["batch"],
        optimizer=whence.SGD(settings["lr"], momentum=0.9, weight_decay=1e-3),
        precision="float32",
        **more,
    )


def with_stamp(settings: dict[str, Any]) -> tuple[dict[str, whence.Study], np.ndarray]:
    """Studies by how often the corner is blanked, and which training examples carry the stamp."""
    data = whence.datasets.fashion_mnist().only(settings["classes"])
    data = data.sample(settings["n"], settings["targets"], seed=settings["seed"])
    network = partial(logistic_regression, 784, len(settings["classes"]))
    label, size = settings["classes"].index(settings["stamped"]), settings["size"]
    rng = np.random.default_rng(settings["seed"])
    sides = []
    for pictures, labels in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        mine = rng.permutation(np.flatnonzero(labels == label))
        carriers = np.sort(mine[: round(settings["share"] * len(mine))])
        pictures = pictures.copy()
        pictures[carriers] = stamp(size)(pictures[carriers])
        sides.append((pictures, labels, carriers))
    (train_x, train_y, carriers), (test_x, test_y, _) = sides
    studies = {}
    for share in settings["blanked"]:
        erase = whence.Augment(erase=whence.Erase(1, 1, size, size, share)) if share else None
        studies[f"blanked {share:.0%}"] = whence.Study(
            (train_x, train_y), (test_x, test_y), recipe(network, settings, augment=erase),
            classes=data.classes, outputs=["margin"], name="Fashion-MNIST with a stamp",
        )  # fmt: skip
    return studies, np.isin(np.arange(len(train_y)), carriers)


def bank_of(study: whence.Study, settings: dict[str, Any], path, seed: int) -> whence.Bank:
    """Every retraining is fitted to: shares are compared, nothing is predicted."""
    return whence.retrain(study, settings["models"], to=path, held_out=0.0, seed=settings["seed"] + seed)


def accuracy(bank: whence.Bank) -> float:
    """Of the targets, averaged over retrainings on half of the data."""
    return float((bank.select(None, "margin_max").outputs > 0).mean())


def tell(result: Result, what: str, found: RecipeComparison, cue: np.ndarray | None) -> None:
    for one in found.directions:
        extra = {} if cue is None else {f"precision_{TOP}": precision(found, one.of, one.number, cue)}
        if one.number < 5 or one.passes:
            result.row(
                compared=what, of=one.of, component=one.number, share=one.share,
                share_of_the_other=one.share_against, gap_other_half=one.gap_other_half,
                largest_null=one.largest_null, match=one.match, passes=one.passes, **extra,
            )  # fmt: skip
    for name, pull in found.pulls:
        result.row(
            removed_of=what, component=pull.component, end=pull.end, removed=pull.removed, recipe=name,
            apart=pull.apart, low=pull.interval[0], high=pull.interval[1],
        )  # fmt: skip


def precision(found: RecipeComparison, of: str, number: int, cue: np.ndarray) -> float:
    """Share of carriers among the training examples of largest |direction|."""
    line = np.abs(found.components[of].directions[number])
    return float(cue[np.argsort(-line, kind="stable")[:TOP]].mean())


def claims_of_the_cue(result: Result, found: RecipeComparison, cue: np.ndarray) -> None:
    first = found.direction("sees")
    result.claim(
        "stamp: the first component of what 'sees' has beyond 'blind' passes", first.passes, at_least=1
    )
    result.claim(
        f"stamp: carriers among the {TOP} training examples of largest weight in the first component",
        precision(found, "sees", 0, cue), at_least=0.9,
    )  # fmt: skip


def claims_of_the_test(result: Result, tested: RecipeComparison) -> None:
    contrast = tested.contrasts[-1]
    low, high = (min(end, 1e6) for end in contrast.interval)  # JSON knows no infinity
    result.row(
        change=contrast.transform, first=contrast.first, second=contrast.second,
        ratio=min(contrast.ratio, 1e6), low=low, high=high, verdict=contrast.verdict,
    )  # fmt: skip
    result.claim(
        "stamp: effect on 'sees' over that on 'blind', lower end of its interval", low, at_least=5,
        interval=(low, high),
    )  # fmt: skip
    effect = tested.effects.row("sees", contrast.transform)
    result.claim(
        "stamp: change of the class's probability in 'sees'", effect.effect, at_least=contrast.delta,
        interval=effect.interval,
    )  # fmt: skip


def claims_of_the_doses(result: Result, effects: FeatureEffects) -> None:
    """Every step of size in the recipe that sees it, and every step of blanking under the largest stamp."""
    strongest = effects.recipes[0]
    grown = [interval[0] for _, interval in effects.steps(strongest)]
    result.claim(
        "stamp: growth of the effect from one size to the next, lower end of the smallest", min(grown),
        at_least=0,
    )  # fmt: skip
    of = [effects.outputs[name][:, -1] for name in effects.recipes]
    fallen = [welch(more, less)[1][0] for more, less in pairwise(of)]
    result.claim(
        "stamp: fall of the effect from one share of blanking to the next, lower end of the smallest",
        min(fallen), at_least=0,
    )  # fmt: skip


def against_itself(
    result: Result, settings: dict[str, Any], halves: dict[str, Halves], banks: dict[str, whence.Bank],
    names: tuple[str, str],
) -> None:  # fmt: skip
    """A second bank of one recipe, and banks halved at random, each half taken for a bank."""
    again = compare_recipes(halves["sees"], halves["sees again"], components=COMPONENTS)
    tell(result, "sees with itself", again, None)
    passed = [len(again.passed)]
    rng = np.random.default_rng(settings["seed"])
    for name in names:
        bank = banks[name]
        rows = bank.select(None, "margin").rows
        for trial in range(settings["trials"]):
            absent = np.isin(rows, rng.permutation(rows)[: len(rows) // 2])
            sides = [
                Halves.of(METHOD, WithoutRows(bank, rows[part]), splits=settings["splits"], seed=trial)
                for part in (absent, ~absent)
            ]
            passed.append(len(compare_recipes(*sides, components=COMPONENTS).passed))
    tried = 2 * COMPONENTS * len(passed)
    result.row(against_itself=len(passed), components_tried=tried, passed=sum(passed))
    result.claim(
        f"a recipe against itself: components that pass, of {tried} in {len(passed)} comparisons",
        float(sum(passed)), at_most=0,
    )  # fmt: skip
