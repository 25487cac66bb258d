"""Unlearning: every method against retraining, on images learned by heart; and where the answer is known.

CIFAR-10 in two classes with long tails, under labels that people gave, a fifth of them wrong. For each forget
set, models trained on everything are made to forget by every method and compared with as many models
retrained without it; a second set of retrained models gives the floor, which is what retraining itself
reaches. Settings are chosen from each method's grid on one random forget set, by what comes nearest to the
marks in its worst part, and reported on the others. Datamodel matching is repeated with other attributions,
to set its quality beside theirs.

All models lie in banks under runs/, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks import studies, unlearning_convex
from benchmarks.harness import RUNS, Result
from benchmarks.kept import Kept
from benchmarks.unlearning_study import DEVICE, attributions, bank_of, forget_sets
from whence.applications import unlearning as ways
from whence.applications.unlearning import Experiment, Unlearn, examined
from whence.applications.unlearning.base import Edit
from whence.applications.unlearning.klom import klom_values
from whence.applications.unlearning.measures import measure
from whence.applications.unlearning.request import Request
from whence.attribution import Attribution
from whence.retraining.errors import RetrainingError

FULL: dict[str, Any] = {
    "sizes": (820, 170, 30),
    "targets": 400,
    "epochs": 20,
    "width": 16,
    "models": 100,
    "spare": 100,
    "retrainings": 2000,
    "held_out_masks": 60,
    "held_out_seeds": 3,
    "forget": (10, 20, 30),
    "fewer": (100, 500),
    "staying": (0.0, 0.25, 0.5, 1.0),
    "checkpoints": 20,
    "grid": None,
    "convex": {"n": 400, "d": 20, "forgotten": 10, "rare": 0.05},
    "sets": (
        "random 10",
        "random 20",
        "random 30",
        "component 1 top 20",
        "component 1 ends 30",
        "component 2 top 20",
        "component 2 ends 30",
        "nearest 20 to 6",
        "sub-class frog",
        "wrong labels 10",
        "wrong labels 20",
        "wrong labels 30",
    ),
    "compared": ("random 30", "component 1 ends 30", "sub-class frog"),  # by every attribution
}
QUICK = FULL | {
    "sizes": (60, 20, 10),
    "targets": 60,
    "epochs": 8,
    "width": 8,
    "models": 20,
    "spare": 20,
    "retrainings": 200,
    "held_out_masks": 20,
    "held_out_seeds": 2,
    "forget": (5, 6, 8),
    "fewer": (60,),
    "checkpoints": 4,
    "grid": 2,
    "convex": {"n": 120, "d": 8, "forgotten": 6, "rare": 0.1},
    "sets": ("random 5", "sub-class frog"),
    "compared": ("sub-class frog",),
}
BEFORE, FLOOR = "nothing", "floor"
TUNED, OURS = "datamodel matching", "kernel matching"  # the same targets, by Adam and by a Gauss-Newton step
SHARE, ABOVE = 0.25, 0.2  # of the P95 forget KLoM before; above the floor of the others: what is aimed at
MEMORISED = 5  # P95 forget KLoM before, from which on a quarter of it lies clear of the floor


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    result = Result("unlearning", {k: v for k, v in settings.items() if k not in ("grid", "sets")})
    unlearning_convex.measured(result, settings["convex"])
    study, subclasses, wrong = studies.cifar_tails(
        settings["sizes"], settings["targets"], settings["epochs"], settings["width"]
    )
    study = examined(study)
    result.settings["wrong_labels"] = float(wrong.mean())
    folder = RUNS / f"unlearning-{study.fingerprint[:8]}"
    bank = bank_of(study, folder, settings)
    scores = attributions(result, study, bank, Kept(folder / "scores"), settings)
    experiment = Experiment(
        study,
        settings["models"],
        spare=settings["spare"],
        to=folder / "models",
        together=100 if DEVICE else 25,
        device=DEVICE,
    )
    most = settings["retrainings"]
    sets = forget_sets(study, subclasses, wrong, scores[f"ridge, {most}"], settings["forget"])
    tuning, sets = sets["tuning"], {name: sets[name] for name in settings["sets"]}
    most_scores = {name: found for name, found in scores.items() if name.endswith(f", {most}")}
    best = _best(result, experiment, tuning, most_scores, settings["staying"])
    chosen = _choose(result, experiment, tuning, best, settings["grid"])
    _report(result, experiment, sets, chosen)
    _timed(result, experiment, tuning, {name: chosen[name] for name in (OURS, TUNED)})
    compared = {name: sets[name] for name in settings["compared"]}
    _by_attribution(result, experiment, compared, scores, chosen[OURS])
    _claims(result, sets)
    return result


def _best(
    result: Result,
    experiment: Experiment,
    forget: np.ndarray,
    scores: dict[str, Attribution],
    staying: tuple[float, ...],
) -> ways.DatamodelDirect:
    """The attribution, and its share at examples that stay, that corrects outputs best on the tuning set,
    which takes no fine-tuning to see."""
    worst: dict[float, ways.DatamodelDirect] = {}
    for name, attribution in scores.items():
        for share in staying:
            method = ways.DatamodelDirect(attribution=attribution, staying=share)
            tails = _tails(experiment, method, forget)
            far = _far(experiment, forget, tails)
            result.row(
                direct_with=name, staying=share, **{f"{part}_p95": value for part, value in tails.items()},
                from_marks=far,
            )  # fmt: skip
            worst.setdefault(far, method)
    return worst[min(worst)]


def _grids(
    experiment: Experiment, forget: np.ndarray, direct: ways.DatamodelDirect
) -> dict[str, list[Unlearn]]:
    kinds = (
        ways.Descent, ways.Ascent, ways.AscentDescent, ways.Scrub, ways.SSD, ways.RandomLabels,
        ways.Distillation,
    )  # fmt: skip
    grids: dict[str, list[Unlearn]] = {kind.name: list(kind.grid()) for kind in kinds}
    oracles, rows = experiment.oracles(forget), experiment.spare_rows
    targets = {"attribution": direct.attribution, "staying": direct.staying}
    grids[TUNED] = list(ways.DatamodelMatching.grid(**targets))
    grids[OURS] = list(ways.KernelMatching.grid(**targets))
    grids["oracle matching"] = list(ways.OracleMatching.grid(oracles=oracles, rows=rows))
    grids["datamodel direct"] = [direct]
    return grids


def _choose(
    result: Result,
    experiment: Experiment,
    forget: np.ndarray,
    direct: ways.DatamodelDirect,
    most: int | None,
) -> dict[str, Unlearn]:
    """The setting of each method that comes nearest to the marks on the tuning set."""
    chosen = {}
    for name, grid in _grids(experiment, forget, direct).items():
        best = np.inf
        for method in grid[:most]:
            tails = _tails(experiment, method, forget)
            far = _far(experiment, forget, tails)
            cost = method.cost(experiment.study, forget)
            if far < best or name not in chosen:
                best, chosen[name] = far, method
            result.row(
                tuned=name, setting=_setting(method), cost=cost.share,
                **{f"{part}_p95": value if value < np.inf else None for part, value in tails.items()},
                from_marks=far if far < np.inf else None,
            )  # fmt: skip
    return chosen


def _far(experiment: Experiment, forget: np.ndarray, tails: dict[str, float]) -> float:
    """How far the worst part is: 0 at its floor, 1 at what is aimed at."""
    oracles = experiment.oracles(forget).select(None, "margin").outputs
    before = experiment.bases().select(None, "margin").outputs
    bins = ways.suggest_bins(experiment.models)
    judging, again = oracles[: experiment.models], oracles[experiment.models :]

    def p95(models: np.ndarray, at: np.ndarray) -> float:
        return float(np.percentile(klom_values(models[:, at], judging[:, at], bins), 95))

    far = []
    for part, at in experiment.points(Request.of(experiment.study, forget)).items():
        floor = p95(again, at)
        aim = max(SHARE * p95(before, at), floor + ABOVE) if part == "forget" else floor + ABOVE
        far.append((tails[part] - floor) / (aim - floor))
    return max(far)


def _tails(experiment: Experiment, method: Unlearn, forget: np.ndarray) -> dict[str, float]:
    """95th percentile of KLoM of each part; infinite where models diverged."""
    try:
        parts = experiment.parts(method, forget)
    except RetrainingError:
        return dict.fromkeys(("forget", "retain", "validation"), np.inf)
    if len(parts["forget"].unlearned.margin) < 0.9 * experiment.models:
        return dict.fromkeys(parts, np.inf)
    bins = ways.suggest_bins(experiment.models)
    return {
        name: float(np.percentile(klom_values(part.unlearned.margin, part.oracles.margin, bins), 95))
        for name, part in parts.items()
    }


def _setting(method: Unlearn) -> str:
    hidden = ("name", "attribution", "oracles", "rows", "momentum", "batch_size", "forget_batch")
    return ", ".join(f"{k}={v:g}" for k, v in method.describe().items() if k not in hidden)


def _report(
    result: Result, experiment: Experiment, sets: dict[str, np.ndarray], chosen: dict[str, Unlearn]
) -> None:
    """All measures of every method on every forget set: one table of distances, one of all else."""
    others = []
    for name, forget in sets.items():
        done = False
        for label, method in chosen.items():
            if isinstance(method, ways.OracleMatching):
                oracles = experiment.oracles(forget)
                method = replace(method, oracles=oracles, rows=experiment.spare_rows)
            cost = method.cost(experiment.study, forget)
            try:
                found = measure(experiment.parts(method, forget), cost.share, cost.before, None, 0)
            except RetrainingError:  # all models diverged
                result.row(set=name, method=label, forget_p95=None, retain_p95=None, validation_p95=None,
                           compute=cost.share)  # fmt: skip
                continue
            if not done:
                floors = {part: distance.floor for part, distance in found.klom.items()}
                before = {part: distance.forward for part, distance in found.before.items()}
                assert found.ulira_before is not None
                result.row(set=name, method=FLOOR, **_p95(floors), compute=None)
                result.row(set=name, method=BEFORE, **_p95(before), compute=0.0)
                oracle = {f"{part}_accuracy": pair[1] for part, pair in found.accuracy.items()}
                quality = found.challenge.oracle_quality
                others.append(_other(name, FLOOR, "", floors, found.ulira.floor, quality, oracle))
                others.append(_other(name, BEFORE, "", before, found.ulira_before.accuracy, None, {}))
                done = True
            distances = {part: distance.forward for part, distance in found.klom.items()}
            result.row(set=name, method=label, **_p95(distances), compute=cost.share)
            own = {f"{part}_accuracy": pair[0] for part, pair in found.accuracy.items()}
            score = found.challenge.score
            others.append(_other(name, label, _setting(method), distances, found.ulira.accuracy, score, own))
    for row in others:
        result.row(**row)


def _p95(distances: dict[str, Any]) -> dict[str, float]:
    return {f"{part}_p95": distance.p95 for part, distance in distances.items()}


def _other(name, label, setting, distances, ulira, score, accuracy) -> dict[str, Any]:
    low, high = distances["forget"].p95_interval or (None, None)
    known = dict.fromkeys(("forget_accuracy", "retain_accuracy", "validation_accuracy"))
    return {
        "also": name, "method": label, "setting": setting, "forget_low": low, "forget_high": high,
        "forget_mean": distances["forget"].mean, "ulira": ulira, "challenge": score, **(known | accuracy),
    }  # fmt: skip


def _timed(result: Result, experiment: Experiment, forget: np.ndarray, methods: dict[str, Unlearn]) -> None:
    """Seconds of unlearning as a share of those of retraining, side by side: examples and multiplications
    are what compute counts elsewhere, and a small network spends its time otherwise."""
    tuner, request = experiment.tuner, Request.of(experiment.study, forget)
    seeds, bases = list(range(experiment.together)), experiment.bases()
    state = tuner.load([bases.checkpoint(row) for row in seeds])
    shares: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(4):  # the first is to warm up
        start = perf_counter()
        tuner.retrain(torch.as_tensor(request.mask), seeds)
        retraining = perf_counter() - start
        for name, method in methods.items():
            assert isinstance(method, Edit)
            start = perf_counter()
            method.edit(tuner, state, request, seeds)
            if turn:
                shares[name].append((perf_counter() - start) / retraining)
    for name, found in shares.items():
        result.row(
            timed=name, models=len(seeds), time_share=float(np.median(found)), low=min(found), high=max(found)
        )


def _by_attribution(result, experiment, sets, scores, ours) -> None:
    """Matching with other attributions, at the settings chosen with the best one."""
    quality = {row["attribution"]: row["lds"] for row in result.rows if "attribution" in row}
    points = []
    for label, attribution in scores.items():
        method = replace(ours, attribution=attribution)
        tails = [_tails(experiment, method, forget) for forget in sets.values()]
        mean = {part: float(np.mean([tail[part] for tail in tails])) for part in tails[0]}
        points.append({"matched_with": label, "lds": quality[label], **mean, "sets": len(sets)})
    for point in points:
        result.row(**point)
    result.details["quality"] = points


def _claims(result: Result, sets: dict[str, np.ndarray]) -> None:
    """The forget part is claimed of the sets that were learned by heart: elsewhere the floor is more than a
    quarter of what there is to forget. The other parts are claimed of all sets."""
    rows = {(row["set"], row["method"]): row for row in result.rows if "set" in row}
    floors = [rows[name, FLOOR] for name in sets]
    hard = [name for name in sets if rows[name, BEFORE]["forget_p95"] >= MEMORISED]
    result.claim(
        f"gate: of {len(sets)} forget sets, those with a P95 forget KLoM of {MEMORISED} or more before",
        len(hard),
        at_least=6,
    )
    result.claim("models a side", result.settings["models"], at_least=100)
    result.claim(
        "gate: floor of the P95 retain KLoM, median of the sets",
        float(np.median([row["retain_p95"] for row in floors])),
        at_most=0.7,
    )
    for label in (OURS, TUNED):
        mine = [rows[name, label] for name in sets]
        shares = {name: rows[name, label]["forget_p95"] / rows[name, BEFORE]["forget_p95"] for name in sets}
        result.claim(
            f"{label}: P95 forget KLoM over that before, worst of the {len(hard)} sets of the gate",
            max((shares[name] for name in hard), default=np.inf),
            at_most=SHARE,
        )
        result.claim(f"{label}: the same, worst of all sets", max(shares.values()), at_most=SHARE)
        compute = max(row["compute"] for row in mine)
        result.claim(f"{label}: compute in retrainings, worst set", compute, at_most=0.05)
        for part in ("retain", "validation"):
            result.claim(
                f"{label}: P95 {part} KLoM above its floor, worst set",
                max(a[f"{part}_p95"] - b[f"{part}_p95"] for a, b in zip(mine, floors, strict=True)),
                at_most=ABOVE,
            )
