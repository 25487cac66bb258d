"""Counterfactual support on CIFAR-2: how many training images each ranker must take away to flip a target.

Every ranker gets the same targets, caps and number of retrainings; targets that nothing up to the cap flips
are censored. Beside its curve stands each ranker's LDS on held-out retrainings, for the two need not agree:
features that were learnt without labels can find good supports and predict outputs badly. Then the sizes that
datamodels predict are held to account: taken at their word, enlarged by a fifth, and calibrated on the other
targets.

The retrainings lie under runs/, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import math
import time
from functools import partial

import numpy as np

import whence
from benchmarks.harness import RUNS, Result
from whence.applications import compare_support, log_rank
from whence.applications.compare_support import events
from whence.evaluate import compare
from whence.methods import TRAK, Datamodel, GuidedDatamodel, Random, Similarity, encoders
from whence.training import conv_net

FULL = {
    "n": 1000,
    "targets": 300,
    "width": 16,
    "epochs": 8,
    "lr": 0.02,
    "models": 2000,
    "held_out_masks": 100,
    "held_out_seeds": 4,
    "checkpoints": 50,
    "ssl_epochs": 60,
    "flipped": 32,
    "retrainings": 5,
    "steps": 6,
    "limit": 200,
    "seed": 0,
}
MID = FULL | {"n": 500, "width": 12, "models": 1000, "flipped": 24, "limit": 120, "checkpoints": 20}
QUICK = FULL | {
    "n": 200,
    "targets": 100,
    "width": 8,
    "models": 400,
    "held_out_masks": 30,
    "held_out_seeds": 2,
    "checkpoints": 10,
    "ssl_epochs": 10,
    "flipped": 8,
    "retrainings": 3,
    "steps": 4,
    "limit": 40,
}
WANTED = 0.92  # share of targets that Ilyas et al. certify after enlarging every set by a fifth
RIDGES = (1e-4, 1e-3, 1e-2)


def cats_and_dogs(n, targets, width, epochs, lr, seed, **_):
    """Cats and dogs of CIFAR-10, a conv net trained in a fraction of a second."""
    data = whence.datasets.cifar10(classes=("cat", "dog"), batches=(1, 2)).sample(n, targets, seed=seed)
    recipe = whence.Recipe(
        partial(conv_net, (3, 32, 32), 2, width),
        epochs=epochs,
        batch_size=50,
        optimizer=whence.SGD(lr, momentum=0.9, nesterov=True, weight_decay=5e-4),
        precision="float32",
    )
    return whence.Study(
        train=(data.train_x, data.train_y),
        targets=(data.test_x, data.test_y),
        outputs=["margin"],
        recipe=recipe,
        classes=data.classes,
        name="CIFAR-2, conv net",
    )


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    folder = RUNS / f"support-n{settings['n']}"
    study = cats_and_dogs(**settings)
    masks = settings["models"] + settings["held_out_masks"]
    bank = whence.retrain(
        study,
        settings["models"] + settings["held_out_masks"] * settings["held_out_seeds"],
        to=folder / "bank.zarr",
        held_out=settings["held_out_masks"] / masks,
        held_out_seeds=settings["held_out_seeds"],
        checkpoints=2 * settings["checkpoints"],  # those of held-out rows are not used
        seed=settings["seed"],
    )
    result = Result("support", settings | {"rows": bank.rows_committed})
    scores, cost = rankers(study, bank, settings)
    judged = compare(scores, bank)
    found = compare_support(
        scores,
        study,
        targets=settings["flipped"],
        reference="random, own class",
        cost=cost,
        limit=settings["limit"],
        retrainings=settings["retrainings"],
        steps=settings["steps"],
        to=folder / "search",
        progress=True,
    )
    chance = log_rank_against(found, "random")
    for name, support in found.supports.items():
        middle = support.curve.quantile(0.5)
        test = found.tests.get(name)
        result.row(
            ranker=name,
            median=f"> {settings['limit']}" if middle is None else middle,
            flipped=sum(row.support is not None for row in support.rows),
            at_a_quarter_of_the_cap=support.curve.at(settings["limit"] / 4),
            p_random=chance[name].p if name in chance else None,
            p_random_own_class=None if test is None else test.p,
            lds=judged.scores[name].mean,
            lds_low=judged.scores[name].interval[0],
            lds_high=judged.scores[name].interval[1],
            trainings=cost[name],
        )
    result.details = {
        "curves": {name: support.curve.to_dict() for name, support in found.supports.items()},
        "rows": {name: [row.to_dict() for row in s.rows] for name, s in found.supports.items()},
        "overlap": overlap(found),
        "trained": found.trained,
    }
    for name in ("ridge datamodel", "guided datamodel"):
        certificates(result, found.supports[name], study, folder / "certify" / name.split()[0], name)
        for against, test in (("random", chance[name]), ("random, own class", found.tests[name])):
            p = test.p if test.ahead else 1.0
            result.claim(f"{name} flips by smaller sets than {against}: log-rank p", p, at_most=0.05)
    result.claim("targets searched", len(found.supports["random"].rows), at_least=30)
    result.claim("rankers compared", len(scores), at_least=4)
    result.claim("retrainings a point", settings["retrainings"], at_least=5)
    return result


def rankers(study, bank, settings):
    """Name -> attribution, and what each cost in trainings of one model on half of the data."""
    fitted = len(bank.select("train").seed) + len(bank.select("validation").seed)
    each = bank.info()["seconds_per_model"]
    seed = settings["seed"]
    features, seconds = timed(lambda: encoders.contrastive(epochs=settings["ssl_epochs"], seed=seed)(study))
    encoder = seconds / each
    own = {"class_conditioned": True}
    trak = TRAK(bank, first=settings["checkpoints"])
    path, seconds = timed(lambda: trak.path(study, RIDGES))
    tuned = {str(i): scores for i, scores in enumerate(path)}
    best = path[int(next(iter(compare(tuned, bank, part="validation", bootstrap=0).scores)))]
    gradients = settings["checkpoints"] + seconds / each
    made = {
        "random": Random(seed).attribute(study),
        "random, own class": Similarity(noise(study, seed), "l2", **own).attribute(study),
        "pixels, l2": Similarity("pixels", "l2", **own).attribute(study),
        "penultimate, l2": Similarity("penultimate", "l2", **own).attribute(study),
        "self-supervised, l2": Similarity(features, "l2", **own).attribute(study),
        "self-supervised, SVM": Similarity(features, "svm", **own).attribute(study),
        f"TRAK-{settings['checkpoints']}": best,
        "ridge datamodel": Datamodel("ridge").attribute(bank),
        "guided datamodel": GuidedDatamodel(best).attribute(bank),
    }
    costs = (0, 0, 0, 1, encoder, encoder, gradients, fitted, fitted + seconds / each)
    return made, dict(zip(made, map(float, costs), strict=True))


def noise(study, seed):
    """Features that know nothing, so that likeness within the class is a random order."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(study.n, 8)), rng.normal(size=(len(study.target_ids), 8))


def timed(make):
    start = time.process_time()
    made = make()
    return made, time.process_time() - start


def log_rank_against(found, name):
    reference = events(found.supports[name])
    return {
        other: log_rank(events(support), reference, paired=True)
        for other, support in found.supports.items()
        if other != name
    }


def overlap(found, k=20):
    """Share of the first k images that two rankers have in common, mean over targets."""
    heads = {
        name: [
            set(np.argsort(-s.attribution.weight[s.attribution.target_index(row.target)[0]])[:k].tolist())
            for row in s.rows
        ]
        for name, s in found.supports.items()
    }
    return {
        a: {
            b: float(np.mean([len(x & y) / k for x, y in zip(heads[a], heads[b], strict=True)]))
            for b in heads
        }
        for a in heads
    }


def certificates(result, support, study, folder, name):
    """Share of targets that sets of the predicted size flip, and the enlargement that would do as well."""
    calibrated = support.certify(study, to=folder)
    plain, fifth = (support.certify(study, inflation, to=folder) for inflation in (1.0, 1.2))
    for one in (plain, fifth, calibrated):
        result.row(
            sizes=f"{name}: {one.rule}",
            certified=one.share,
            low=one.interval[0],
            high=one.interval[1],
            mean_size=one.size,
            targets=one.targets,
            no_size=one.without,
        )
    blanket = blanket_size(support.rows, WANTED)
    result.claim(
        f"{name}: share of targets that the calibrated sizes flip",
        calibrated.share,
        at_least=WANTED,
        interval=calibrated.interval,
    )
    result.claim(
        f"{name}: mean calibrated size over the mean size of the smallest blanket enlargement that certifies "
        f"{WANTED:.0%}",
        calibrated_size(support.rows) / blanket[1],
        at_most=1.0,
    )
    result.details.setdefault("blanket", {})[name] = {"inflation": blanket[0], "mean_size": blanket[1]}


def both(rows):
    """Targets for which either rule says a size, so that the two are compared on the same ones."""
    return [row for row in rows if row.estimate is not None and row.calibrated is not None]


def calibrated_size(rows):
    return float(np.mean([row.calibrated for row in both(rows)]))


def blanket_size(rows, wanted):
    """The smallest factor by which all estimates must be enlarged so that this share reaches its support, and
    the mean size it makes. A support that was not found counts as one more than what was tried, in favour of
    the blanket."""
    needed = [(row.support or row.tried + 1) / row.estimate for row in both(rows)]
    factor = float(np.sort(needed)[max(math.ceil(wanted * len(needed)) - 1, 0)])
    return factor, float(np.mean([math.ceil(factor * row.estimate) for row in both(rows)]))
