"""Every method on the same retrainings: LDS, interval, ceiling and what it cost.

Ridges and penalties are chosen on the validation part, everything is reported on the held-out part. The cost
is counted in trainings: models trained, plus the attribution's processor time over that of one training.
Studies are run in turn as far as their banks reach; attributions are kept beside the banks, so a stopped run
goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable

import whence
from benchmarks.harness import Result
from benchmarks.kept import Kept
from benchmarks.studies import BENCHES, QUICK, Bench
from whence.attribution import Attribution
from whence.evaluate import compare
from whence.evaluate.learning_curve import first_models
from whence.methods import (
    BM25,
    MAGIC,
    TRAK,
    Banzhaf,
    Datamodel,
    DifferenceOfMeans,
    GradCos,
    GradDot,
    GuidedDatamodel,
    Influence,
    LeaveOneOut,
    Random,
    Similarity,
    TracIn,
    encoders,
)

MODELS = (50, 250, 1000, 2000)
COUNTS = (1, 10, 50)
MOMENTS = 5  # of one run, for TracIn
RIDGES = (1e-5, 1e-4, 3e-4, 1e-3)
BOOTSTRAP = 500
# What the field's benchmark reaches at hyper-parameters chosen on the metric itself
MARKS = {"mnist-lr": {"influence": 0.80, "TRAK": 0.68}, "mnist-mlp": {"influence": 0.26, "TRAK": 0.45}}


def run(quick: bool = False) -> Result:
    result = Result(
        "methods",
        {
            "keep": 0.5,
            "models": MODELS,
            "checkpoints": COUNTS,
            "moments": MOMENTS,
            "ridges": RIDGES,
            "bootstrap": BOOTSTRAP,
        },
    )
    if quick:
        _study(result, QUICK, COUNTS[:2], MODELS[:2])
    else:
        for bench in BENCHES.values():
            _study(result, bench, COUNTS, MODELS)
    return result


def _study(result: Result, bench: Bench, counts: tuple[int, ...], models: tuple[int, ...]) -> None:
    study, bank = bench.study(), bench.bank()
    kept = Kept(bench)
    found: dict[str, tuple[Attribution, float, int]] = {}  # name -> scores, processor seconds, models trained

    def add(name: str, trained: int, make: Callable[[], Attribution]) -> None:
        found[name] = (*kept.one(name, make), trained)

    add("random", 0, lambda: Random().attribute(study))
    add("pixel similarity", 0, lambda: Similarity("pixels").attribute(study))
    add("penultimate similarity", 1, lambda: Similarity("penultimate").attribute(study))
    if bench.self_supervised:
        features = encoders.contrastive()
        add("self-supervised similarity", 0, lambda: Similarity(features).attribute(study))
        add("self-supervised exemplar SVM", 0, lambda: _svm(features).attribute(study))
    if study.texts is not None:
        add("BM25", 0, lambda: BM25().attribute(study))
    for count in counts[:2]:
        add(f"gradient dot, {count}", count, lambda: GradDot(bank, first=count).attribute(study))
        add(f"gradient cosine, {count}", count, lambda: GradCos(bank, first=count).attribute(study))
    add("TracIn, 1", 1, lambda: TracIn(MOMENTS).attribute(study))
    for kind in bench.hessians:
        for count in counts[: 1 if kind == "cg" else 2]:
            add(
                f"influence ({kind}), {count}",
                count,
                lambda: Influence(kind, checkpoints=bank, first=count).attribute(study),
            )
    if bench.metagradients:
        add("MAGIC, 1", 2, lambda: MAGIC().attribute(study))
    if bench.leave_one_out:
        add("leave-one-out, 1 seed", study.n + 1, lambda: LeaveOneOut().attribute(bench.leaving_one_out()))
    trak = TRAK(bank, projection=bench.projection)
    path = kept.several("TRAK", lambda: trak.path(study, RIDGES, counts=counts))
    # one pass over all checkpoints made them all; a count takes its share of it
    spent = {count: sum(seconds for _, seconds in path) * count / counts[-1] for count in counts}
    for i, count in enumerate(counts):
        choices = path[i * len(RIDGES) : (i + 1) * len(RIDGES)]
        chosen = _best([scores for scores, _ in choices], bank)
        found[f"TRAK, {count}"] = (choices[chosen][0], spent[count], count)
    for count in models:
        early = first_models(bank, count, "margin")
        for name, method in {
            "difference of means": DifferenceOfMeans(),
            "Banzhaf": Banzhaf(),
            "ridge": Datamodel("ridge"),
            "LASSO": Datamodel("lasso"),
        }.items():
            add(f"{name}, {count}", count, lambda: method.attribute(early))
        # only checkpoints of these same models: nearly nine in ten of them belong to the training part
        own = max(i for i, c in enumerate(counts) if c <= 0.8 * count)
        priors = path[own * len(RIDGES) : (own + 1) * len(RIDGES)]
        add(f"guided, {count}", count, lambda: GuidedDatamodel([p for p, _ in priors]).attribute(early))
        scores, seconds, trained = found[f"guided, {count}"]
        found[f"guided, {count}"] = (scores, seconds + spent[counts[own]], trained)
        found |= {
            f"prior {r:g}, {count}": (p, spent[counts[own]], counts[own])
            for r, (p, _) in zip(RIDGES, priors, strict=True)
        }
    scores = compare({name: scores for name, (scores, _, _) in found.items()}, bank, bootstrap=BOOTSTRAP)
    per_training = float(bank.info()["seconds_per_model"])
    for name, score in scores.scores.items():
        _, seconds, trained = found[name]
        low, high = score.interval or (None, None)
        result.row(
            study=bench.name,
            method=name,
            lds=score.mean,
            low=low,
            high=high,
            pearson=score.pearson,
            ceiling=score.ceiling,
            trained=trained,
            trainings_worth=trained + seconds / per_training,
        )
    _claims(result, bench, scores, models, counts)


def _claims(result: Result, bench: Bench, scores, models, counts) -> None:
    for kind, mark in MARKS.get(bench.name, {}).items():
        names = [
            n for n in scores.scores if n.startswith(kind) and (kind != "TRAK" or n == f"TRAK, {counts[-1]}")
        ]
        best = max(names, key=lambda n: scores.scores[n].mean)
        score = scores.scores[best]
        result.claim(f"{bench.name}: LDS of {best}", score.mean, at_least=mark, interval=score.interval)
    ahead = 0
    for count in models:
        rivals = [f"ridge, {count}", f"LASSO, {count}"] + [f"prior {r:g}, {count}" for r in RIDGES]
        nearest = min(rivals, key=lambda n: scores.difference(f"guided, {count}", n).difference)
        gap = scores.difference(f"guided, {count}", nearest)
        ahead += gap.interval[0] > 0
        result.row(
            study=bench.name,
            models=count,
            guided=scores.scores[f"guided, {count}"].mean,
            best_rival=nearest,
            ahead_by=gap.difference,
            low=gap.interval[0],
            high=gap.interval[1],
        )
    result.claim(
        f"{bench.name}: model counts of {len(models)} where guided datamodels are ahead",
        ahead,
        at_least=len(models) - 1,
    )


def _svm(features) -> Similarity:
    return Similarity(features, metric="svm", class_conditioned=True)


def _best(candidates: list[Attribution], bank: whence.Bank) -> int:
    named = {str(i): scores for i, scores in enumerate(candidates)}
    return int(next(iter(compare(named, bank, part="validation", bootstrap=0).scores)))
