"""The variance split against datamodels that were fitted, and its estimators against each other.

Three questions. On a simulated learner with known parts: how far do the estimators of the linear share stray,
at equal numbers of trainings? On MNIST (a perceptron) and CIFAR-2 (a conv net): do the R2 and the LDS of
datamodels fitted to ever more retrainings approach, from below, the ceiling that the split states without
fitting one? And on the perceptron again: what is the spread of the published design, and of ours, at equal
trainings?

The small studies are retrained for this (banks under runs/, so a run that was stopped goes on), on so few
examples that many times more retrainings than examples can be had; the large ones read the banks of the
benchmark `methods`, and make them where they are not there (another five to ten minutes each).
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial

import numpy as np

import whence
from benchmarks import simulated, studies
from benchmarks.harness import RUNS, Result
from whence.evaluate import (
    LearningCurve,
    Point,
    expected_lds,
    lds,
    models_needed,
    prediction_error,
    variance_split,
)
from whence.evaluate.harmonic.planner import missed
from whence.evaluate.learning_curve import first_models
from whence.methods import Datamodel

FULL = {
    "small": {
        "mnist-mlp": {"study": partial(studies.mnist_mlp, 600, 300), "models": 8000},
        "cifar2": {"study": partial(studies.cifar2, 400, 300, epochs=16), "models": 3000},
    },
    "large": ("mnist-mlp", "cifar2", "mnist-lr", "sst2"),
    "held_out_masks": 100,
    "held_out_seeds": 5,
    "designs": {"study": partial(studies.mnist_mlp, 600, 300), "blocks": 12, "trainings": 200},
    "simulated": {"n": 1000, "trainings": (400, 2000), "runs": 40},
    "bootstrap": 1000,
    "keep": 0.5,
}
QUICK = FULL | {
    "small": {
        "mnist-mlp": {"study": partial(studies.mnist_mlp, 100, 60), "models": 500},
        "cifar2": {"study": partial(studies.cifar2, 80, 60), "models": 160},
    },
    "large": (),
    "held_out_masks": 30,
    "held_out_seeds": 2,
    "designs": {"study": partial(studies.mnist_mlp, 100, 60), "blocks": 4, "trainings": 120},
    "simulated": {"n": 200, "trainings": (400,), "runs": 12},
    "bootstrap": 200,
}
METHODS = {"ridge": Datamodel("ridge"), "LASSO": Datamodel("lasso")}
NORMAL = 1.96


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    result = Result("harmonic", _said(settings))
    simulations(result, **settings["simulated"], keep=settings["keep"])
    for name, how in settings["small"].items():
        study = how["study"]()
        bank = retrained(study, how["models"], **settings)
        against_datamodels(result, f"{name}, n={study.n:,}", bank, settings["bootstrap"], METHODS)
    for name in settings["large"]:
        bench = studies.BENCHES[name]
        bank = bench.bank()
        against_datamodels(
            result, f"{name}, n={bank.n:,}", bank, settings["bootstrap"], {"ridge": METHODS["ridge"]}
        )
    designs(result, **settings["designs"], keep=settings["keep"])
    return result


def retrained(study, models, held_out_masks, held_out_seeds, keep, **_):
    to = RUNS / f"harmonic-{study.fingerprint[:8]}.zarr"
    return studies.judged(study, to, models, held_out_masks, held_out_seeds, keep)


def simulations(result, n, trainings, runs, keep):
    """Mean, spread and error of each estimator, and the claim on their spread."""
    truth = simulated.PARTS["linear"]
    spread = {}
    for count in trainings:
        for design in simulated.DESIGNS:
            found = simulated.estimates(design, n, count, keep, runs)
            spread[design, count] = found.std(ddof=1)
            result.row(
                simulated=design,
                trainings=count,
                true=truth,
                mean=found.mean(),
                spread=spread[design, count],
                rms_error=np.sqrt(((found - truth) ** 2).mean()),
            )
    for count in trainings:
        ours = next(
            value for (design, m), value in spread.items() if m == count and design.startswith("overlap")
        )
        best = min(
            value for (design, m), value in spread.items() if m == count and design.startswith("published")
        )
        result.claim(
            f"simulated: spread of ours over the published design's, its best rho, {count:,} trainings",
            ours / best,
            at_most=0.5,
            interval=_ratio_interval(ours / best, runs),
        )


def against_datamodels(result, name, bank, bootstrap, methods):
    """R2 and LDS of datamodels fitted to ever more retrainings, beside the split's ceilings and forecast."""
    split = variance_split(bank)
    top_r2, top_lds = split.best_r2(), split.best_lds()
    for part, share in (("linear", split.linear), ("non-linear", split.nonlinear), ("seed", split.seed)):
        result.row(
            split=name,
            part=part,
            share=share.value,
            low=share.interval[0],
            high=share.interval[1],
            masks=split.masks,
        )
    have = len(bank.select("train")) + len(bank.select("validation"))
    counts = [have >> shift for shift in range(5, -1, -1) if have >> shift >= 60]
    points = []
    for method, estimator in methods.items():
        for models in counts:
            fitted = estimator.attribute(first_models(bank, models, "margin"))
            error = prediction_error(fitted, bank, bootstrap=bootstrap)
            score = lds(fitted, bank, bootstrap=bootstrap)
            points.append((method, models, error, score))
            result.row(
                study=name,
                method=method,
                models=models,
                r2=error.r2,
                low=error.interval[0],
                high=error.interval[1],
                r2_ceiling=top_r2.value,
                lds=score.mean,
                lds_low=score.interval[0],
                lds_high=score.interval[1],
                lds_ceiling=top_lds.value,
                forecast_r2=float(forecast(split, models)) if method == "ridge" else None,
                forecast_lds=expected_lds(split, models) if method == "ridge" else None,
            )
    ridge = [point for point in points if point[0] == "ridge"]
    plan(result, name, split, ridge)
    claims(result, name, split, ridge, points)
    result.details.setdefault("splits", {})[name] = (
        split.to_dict()
        | dict.fromkeys(
            ("linear_per_target", "linear_standard_error", "nonlinear_per_target", "seed_per_target")
        )
        | {"variance_per_target": None, "target_ids": None}
    )


def plan(result, name, split, ridge):
    """The planner put to the test: from the curve up to a quarter of the retrainings, how many for the last
    LDS?"""
    _, models, _, score = ridge[-1]
    early = [Point(m, s.mean, *s.interval, s) for _, m, _, s in ridge if m <= models // 4 + 1]
    curve = LearningCurve("ridge", tuple(early), score.ceiling, score.ceiling_interval) if early else None
    planned = models_needed(split, score.mean, curve, seeds=score.seeds)
    low, high = planned.interval or (None, None)
    result.row(
        planner=name,
        curve_up_to=early[-1].models if early else 0,
        lds=score.mean,
        planned=planned.models,
        low=low,
        high=high,
        true=models,
    )


def claims(result, name, split, ridge, points):
    """The curve comes from below, nothing is significantly above its ceiling, and the two limits agree."""
    top_r2, top_lds = split.best_r2(), split.best_lds()
    for what, top, of in (
        ("R2", top_r2, lambda error, score: (error.r2, error.interval)),
        ("LDS", top_lds, lambda error, score: (score.mean, score.interval)),
    ):
        gaps = []
        for _, _, error, score in points:
            value, interval = of(error, score)
            joint = np.hypot((interval[1] - interval[0]) / 2, NORMAL * top.standard_error)
            gaps.append((value - top.value - joint, value - top.value + joint))
        worst = max(gaps)
        result.claim(
            f"{name}: {what} above its ceiling by no more than chance (lower end of the joint interval, "
            f"worst of "
            f"{len(gaps)} fits)",
            worst[0],
            at_most=0,
            interval=worst,
        )
    implied = implied_ceiling(split, *ridge[-1][1:3])
    gap = implied[0] - top_r2.value
    joint = np.hypot((implied[2] - implied[1]) / 2, NORMAL * top_r2.standard_error)
    result.claim(
        f"{name}: ceiling that ridge's R2 at {ridge[-1][1]:,} models implies against the split's (difference "
        f"over the "
        "joint half-width)",
        abs(gap) / joint,
        at_most=1,
        interval=((gap - joint) / joint, (gap + joint) / joint),
    )
    result.details.setdefault("implied", {})[name] = {"implied": implied, "ceiling": top_r2.value}


def forecast(split, models, limit=None, examples=None):
    """R2 of ridge at `models` retrainings: what is not missed of the ceiling, less the error of the
    intercept.

    `models`, `limit` and `examples` may be arrays that broadcast."""
    top, single = split.best_r2().value, split.best_r2(1).value
    limit = top if limit is None else limit
    share = np.clip(limit * single / top, 1e-6, 1 - 1e-6)
    ratio = np.asarray(models) / (split.n if examples is None else examples)
    return limit * (1 - missed(ratio, share)) - top / single / np.asarray(models)


def implied_ceiling(split, models, error):
    """The ceiling, with its interval, at which the forecast for `models` retrainings is the R2 that was
    found.

    The more retrainings an example, the less of it is the forecast's and the more the datamodel's own."""
    limits = np.linspace(1e-3, 1, 1000)
    curve = forecast(split, models, limits)
    return [float(np.interp(value, curve, limits)) for value in (error.r2, *error.interval)]


def designs(result, study, blocks, trainings, keep):
    """Spread of the linear share over blocks of retrainings that share nothing, for the three designs."""
    study = study()
    spread = {}
    for name, (estimator, rho) in {
        "published, rho 0, 0.2, 0.4": ("published", (0, 0.2, 0.4)),
        "pairs, rho 0.3, 0.6, 0.9, 1": ("pairs", (0.3, 0.6, 0.9, 1)),
        "overlap, independent masks": ("overlap", None),
    }.items():
        if rho is None:
            subsets = whence.Subsets.bernoulli(study.n, keep)
        else:
            subsets = whence.Subsets.correlated(study.n, keep, rho)
        bank = whence.retrain(
            study,
            blocks * trainings,
            to=RUNS / f"harmonic-{study.fingerprint[:8]}-{estimator}.zarr",
            subsets=subsets,
            validation=0,
            held_out=0,
        )
        everything = bank.select()
        shares = [
            simulated.linear_share(_rows(everything, start, start + trainings), subsets, estimator)
            for start in range(0, blocks * trainings, trainings)
        ]
        pooled, each = np.array([share for share, _ in shares]), np.stack([targets for _, targets in shares])
        spread[name] = pooled.std(ddof=1), np.sqrt(each.var(0, ddof=1).mean())
        result.row(
            design=name,
            n=study.n,
            trainings=trainings,
            blocks=blocks,
            linear_share=pooled.mean(),
            spread_pooled=spread[name][0],
            spread_one_target=spread[name][1],
        )
    published, _, ours = spread.values()
    for what, a, b in zip(("pooled over targets", "of one target"), ours, published, strict=True):
        result.claim(
            f"MNIST, n={study.n:,}: spread of ours over the published design's, {what}, {trainings} "
            f"trainings",
            a / b,
            at_most=0.5,
            interval=_ratio_interval(a / b, blocks),
        )


def _rows(sample, start, stop):
    """Rows `start` to `stop` of a sample; an even number keeps pairs whole."""
    return replace(
        sample, **{field.name: getattr(sample, field.name)[start:stop] for field in fields(sample)}
    )


def _ratio_interval(ratio, runs, draws=20_000):
    """95 % interval of a ratio of two standard deviations, each over `runs` independent normal values."""
    rng = np.random.default_rng(0)
    f = np.sqrt(rng.chisquare(runs - 1, draws) / rng.chisquare(runs - 1, draws))
    return float(ratio * np.quantile(f, 0.025)), float(ratio * np.quantile(f, 0.975))


def _said(settings):
    small = {name: how["models"] for name, how in settings["small"].items()}
    designs = {key: value for key, value in settings["designs"].items() if key != "study"}
    return settings | {"small": small, "designs": designs}
