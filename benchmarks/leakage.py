"""Leakage on CIFAR-2: duplicates planted five ways and real ones, found by datamodel weights and by likeness.

Altered copies of test images take the place of training images, and so do the training images that pixel
matching finds to be near-duplicates of cats and dogs of the test set. Average precision is of the ranking of
all pairs of a target and a training image, by evidence: the weights, a likeness (of pixels, or of features
learnt without labels), both. On the real ones pixels are no contender: they chose them. Then the suspects are
removed and their targets' margins compared. The best matches of all of CIFAR-10 are shown on a page beside
the results.

The retrainings lie under runs/, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np

import whence
from benchmarks.harness import RUNS, Result
from whence.applications import Pair, best_matches, leakage, pixel_similarity, plant_duplicates
from whence.finding import Finding, Table
from whence.methods import Datamodel, Similarity, encoders
from whence.training import conv_net

FULL = {
    "n": 1000,
    "targets": 400,
    "each": 15,
    "real": 25,  # near-duplicates that CIFAR-2 itself has, put in with their partners
    "searched": 10_000,  # test images held against the whole training set for the page
    "width": 16,
    "epochs": 8,
    "lr": 0.02,
    "models": 2500,
    "ssl_epochs": 60,
    "retrainings": 30,
    "seed": 0,
}
QUICK = FULL | {
    "n": 200,
    "targets": 100,
    "each": 4,
    "real": 8,
    "searched": 500,
    "width": 8,
    "models": 400,
    "ssl_epochs": 10,
    "retrainings": 5,
}
CORRELATION = 0.9  # of pixels, from which on a match counts as a real near-duplicate
SHOWN = 60


def with_duplicates(n, targets, each, real, seed, **_):
    """Training set, targets and the pairs that are known: planted ones, and real ones by pixel matching."""
    whole = whence.datasets.cifar10(classes=("cat", "dog"))
    matches = [
        (i, j)
        for i, j, correlation in best_matches(whole.train_x, whole.test_x)
        if correlation >= CORRELATION and whole.train_y[j] == whole.test_y[i]
    ][:real]
    # One pair a target and a partner, so that a pair is one row and one column.
    matches = [m for k, m in enumerate(matches) if m[1] not in {j for _, j in matches[:k]}]
    rng = np.random.default_rng(seed)
    taken_targets, taken_train = ([m[side] for m in matches] for side in (0, 1))
    rest = [
        rng.choice(np.setdiff1d(np.arange(len(y)), taken), count - len(taken), replace=False)
        for y, taken, count in ((whole.test_y, taken_targets, targets), (whole.train_y, taken_train, n))
    ]
    at_targets, at_train = np.r_[taken_targets, rest[0]].astype(int), np.r_[taken_train, rest[1]].astype(int)
    queries = whole.test_x[at_targets], whole.test_y[at_targets]
    train = whole.train_x[at_train], whole.train_y[at_train]
    known = tuple(Pair(k, k, "real") for k in range(len(matches)))
    # Copies go where no real partner stands.
    start = len(matches)
    planted = plant_duplicates(
        (train[0][start:], train[1][start:]), (queries[0][start:], queries[1][start:]), each, seed=seed
    )
    x, y = (np.concatenate([old[:start], new]) for old, new in zip(train, planted.train, strict=True))
    known += tuple(Pair(p.target + start, p.train + start, p.kind) for p in planted.pairs)
    return (x, y), queries, known, whole.classes


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    folder = RUNS / f"leakage-n{settings['n']}"
    train, targets, known, classes = with_duplicates(**settings)
    recipe = whence.Recipe(
        partial(conv_net, (3, 32, 32), 2, settings["width"]),
        epochs=settings["epochs"],
        batch_size=50,
        optimizer=whence.SGD(settings["lr"], momentum=0.9, nesterov=True, weight_decay=5e-4),
        precision="float32",
    )
    study = whence.Study(train, targets, recipe, classes=classes, name="CIFAR-2 with duplicates")
    bank = whence.retrain(study, settings["models"], to=folder / "bank.zarr", seed=settings["seed"])
    features = encoders.contrastive(epochs=settings["ssl_epochs"], seed=settings["seed"])
    likeness = {
        "pixels": pixel_similarity(study),
        "self-supervised": Similarity(features, "cosine", signed=False).attribute(study),
    }
    scores = Datamodel("ridge").attribute(bank)
    kinds = list(dict.fromkeys(pair.kind for pair in known))
    result = Result("leakage", settings | {"duplicates": len(known), "rows": bank.rows_committed})
    precision, found = {}, {}
    for name, similarity in likeness.items():
        one = leakage(scores, study, similarity=similarity, top=4 * len(known), verify=False)
        found[name], judged = one, one.against(known)
        for evidence, by_kind in judged.average_precision.items():
            label = {"datamodel": "datamodel", "similarity": name, "both": f"datamodel and {name}"}[evidence]
            precision[label] = by_kind
        result.details[f"calibration, {name}"] = reliability(one, known)
    for label, by_kind in precision.items():
        by_kind["planted"] = float(np.mean([by_kind[kind] for kind in kinds if kind != "real"]))
        result.row(evidence=label, **{kind: by_kind[kind] for kind in (*kinds, "planted", "all")})
    for name, one in found.items():
        judged = one.against(known)
        result.row(
            suspects_by=f"datamodel and {name}",
            called=sum(s.suspicion >= judged.least for s in one.suspects),
            precision=judged.precision,
            recall=judged.recall,
            least=judged.least,
        )
    checked = found["pixels"].verify(
        study, retrainings=settings["retrainings"], to=folder / "removed.zarr", progress=True
    )
    for what in ("suspects", "random"):
        change = checked.change[what]
        result.row(
            removed=what,
            examples=checked.change["removed"],
            targets=checked.change["targets"],
            **{f"margin_{key}": value for key, value in change.items()},
        )
    claims(result, precision, found, known, checked)
    page = folder / "candidates.html"
    whence.report([scores, checked, candidates(settings)], study=study, bank=bank, to=page)
    result.details["page"] = page.name
    return result


def claims(result, precision, found, known, checked):
    # Real duplicates were chosen by pixels, so the planted kinds alone are a fair contest; all kinds weigh
    # alike.
    for name in found:
        alone = max(precision["datamodel"]["planted"], precision[name]["planted"])
        both = precision[f"datamodel and {name}"]["planted"]
        result.claim(
            f"average precision of datamodel and {name} over the better of the two", both - alone, at_least=0
        )
        judged = found[name].against(known)
        result.claim(
            f"precision of what datamodel and {name} suspect with 0.8 or more",
            judged.precision or 0.0,
            at_least=0.8,
        )
    result.claim(
        "average precision of datamodel and pixels",
        precision["datamodel and pixels"]["planted"],
        at_least=0.8,
    )
    change = checked.change
    result.claim(
        "margin lost without the suspects, less what as many random images cost: upper end",
        change["suspects"]["high"] - change["random"]["low"],
        at_most=0.0,
        interval=(change["suspects"]["low"], change["suspects"]["high"]),
    )


def reliability(found, known, edges=(0.0, 0.5, 0.8, 0.95, 1.0)):
    """Of the pairs listed with a suspicion between two edges, how many are known duplicates."""
    true = {(p.target, p.train) for p in known}
    rows = []
    for low, high in pairwise(edges):
        inside = [s for s in found.suspects if low <= s.suspicion < high or (high == 1 and s.suspicion == 1)]
        hits = sum((s.target_place, s.train_place) in true for s in inside)
        rows.append({"from": low, "to": high, "pairs": len(inside), "duplicates": hits})
    return rows


def candidates(settings):
    """The likeliest real duplicates of CIFAR-10 by pixels, side by side in one picture each."""
    whole = whence.datasets.cifar10()
    pictures = whole.test_x[: settings["searched"]]
    matches = best_matches(whole.train_x, pictures)[:SHOWN]
    rows = [
        (f"test/{i}", f"train/{j}", whole.classes[whole.test_y[i]], whole.classes[whole.train_y[j]], c)
        for i, j, c in matches
    ]
    near = sum(c >= CORRELATION for *_, c in best_matches(whole.train_x, pictures))
    return Finding(
        title="Near-duplicates in CIFAR-10",
        statement=(
            f"{near:,} of {len(pictures):,} test images have a training image with a pixel correlation of "
            f"{CORRELATION} or more"
        ),
        table=Table(("test image", "training image", "class", "partner's class", "correlation"), rows),
        meaning="Correlation of 16 x 16 versions, mirrored or not. Nothing was trained for this.",
    )
