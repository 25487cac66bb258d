"""DsDm: choosing training rows of a small language model for five target tasks, against seven other rules.

Rows of 18 text domains, two of them junk, are chosen for LAMBADA, Jeopardy, CS algorithms, SQuAD and GSM8K:
by TRAK on small proxy models with the targets' gradients averaged first (Engstrom, Feldmann, Madry 2024), and
by the usual rules. Every choice is trained on, by the proxy and by a larger model, and judged by other
examples of the task. Random choices of up to ten times the size give compute multipliers; random subsets tell
whether the predicted target loss is what training gives.

Settings (learning rates, batch, epochs, ridge) were chosen on another draw of the pool and on two halves of
the half that is selected for (`material(pilot=True)`); what is reported was not looked at. Scores,
checkpoints and trainings lie under runs/, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import whence
from benchmarks.dsdm_checks import Remembered, composition, predicted
from benchmarks.dsdm_pool import FORMAT_SHIFTED, JUNK, Material, material
from benchmarks.harness import RUNS, Result
from benchmarks.kept import Kept
from whence.applications.selection import (
    BM25,
    DSIR,
    Attributed,
    Classifier,
    Less,
    Perplexity,
    SelectionFinding,
    SemanticDeduplication,
    Similarity,
    compare_selections,
)
from whence.evaluate.intervals import welch
from whence.methods import TRAK
from whence.study.text import language_study
from whence.training import gpt

FULL: dict[str, Any] = {
    "rows": 10_000,
    "length": 128,
    "vocabulary": 512,
    "targets": 200,  # examples of each task in each half
    "tasks": ("lambada", "jeopardy", "cs_algorithms", "squad", "gsm8k"),
    "proxy": {"width": 64, "depth": 2, "heads": 2},
    "final": {"width": 128, "depth": 3, "heads": 4},
    "epochs": 3,
    "batch": 4,  # with twice as many rows, some seeds learn nothing but frequencies in so few steps
    "lr": {"proxy": 3e-3, "final": 1.5e-3},  # goes with the inverse of the width
    "checkpoints": 4,
    "projection": 1024,
    "ridge": 0.1,
    "warm_up": 0.1,
    "fractions": (0.05, 0.1),
    "multiples": (1, 2, 4, 10),
    "final_multiples": (1, 2, 4),  # a model four times as large, at the smallest fraction
    "seeds": 3,
    "subsets": 60,
    "subset_seeds": 2,
    "keep": 0.05,
    "seed": 0,
    "workers": None,
}
QUICK = FULL | {
    "rows": 300,
    "length": 64,
    "vocabulary": 320,
    "targets": 12,
    "tasks": ("cs_algorithms", "gsm8k"),
    "proxy": {"width": 16, "depth": 1, "heads": 2},
    "final": {"width": 24, "depth": 1, "heads": 2},
    "checkpoints": 2,
    "projection": 256,
    "fractions": (0.1,),
    "multiples": (1, 2, 4),
    "final_multiples": (1, 2),
    "seeds": 2,
    "subsets": 12,
    "keep": 0.2,
    "workers": 0,
}
OURS, DSIR_, CLASSIFIER = "DsDm", "DSIR", "classifier"


def recipe_of(settings: dict[str, Any], size: str, vocabulary: int) -> whence.Recipe:
    return whence.Recipe(
        partial(gpt, vocabulary, settings["length"], **settings[size]),
        epochs=settings["epochs"],
        batch_size=settings["batch"],
        optimizer=whence.AdamW(settings["lr"][size], betas=(0.9, 0.95), weight_decay=0.1),
        schedule=whence.Cosine(warmup=0.1),
    )


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    return measure("dsdm", settings, RUNS / f"dsdm-n{settings['rows']}")


def measure(name: str, settings: dict[str, Any], folder: Path, device: str | None = None) -> Result:
    data = material(
        settings["rows"],
        settings["length"],
        settings["vocabulary"],
        settings["targets"],
        settings["tasks"],
        settings["seed"],
    )
    recipes = {size: recipe_of(settings, size, data.tokenizer.vocabulary) for size in ("proxy", "final")}

    def study(targets, size):
        title = f"text of {len(data.raw_bytes)} domains, {size} model"
        return language_study(data.candidates, targets, recipes[size], data.tokenizer, name=title)

    chosen_for = study(data.selected_for, "proxy")
    reported = {size: study(data.reported, size) for size in recipes}
    tasks = {task: (ids, data.reported.groups[task]) for task, ids in data.selected_for.groups.items()}

    scores = estimate(chosen_for, data, settings, folder, device)
    ours = Attributed.given(scores, name=OURS)
    rules = [
        ours,
        DSIR(),
        Classifier(),
        BM25(),
        Similarity(),
        Less(share=settings["warm_up"], projection=settings["projection"], device=device),
        SemanticDeduplication(),
        Perplexity(device=device),
    ]
    rules = [ours, *(Remembered(rule, folder / "scores") for rule in rules[1:])]
    how = {
        "tasks": tasks,
        "seeds": settings["seeds"],
        "seed": settings["seed"],
        "workers": settings["workers"],
        "device": device,
    }
    found = {
        "proxy": compare_selections(
            chosen_for,
            reported["proxy"],
            rules,
            settings["fractions"],
            multiples=settings["multiples"],
            to=folder / "proxy",
            **how,
        ),
        "final": compare_selections(
            chosen_for,
            reported["final"],
            [ours],
            settings["fractions"][:1],
            multiples=settings["final_multiples"],
            worst=False,
            to=folder / "final",
            **how,
        ),
    }
    result = Result(name, described(settings, data, recipes))
    for size, finding in found.items():
        rows(result, finding, size)
    prediction = predicted(result, scores, reported["proxy"], tasks, settings, folder, device)
    result.details["composition"] = composition(found["proxy"], data, settings)
    result.details["seconds"] = {size: finding.provenance["seconds"] for size, finding in found.items()}
    claims(result, found, prediction, settings, data)
    return result


def estimate(study: whence.Study, data: Material, settings: dict[str, Any], folder: Path, device: str | None):
    """What each candidate does to the mean loss of each task's selection half, by TRAK on models trained on
    random halves of the candidates."""
    bank = whence.retrain(
        study,
        settings["checkpoints"],
        keep=0.5,
        to=folder / "proxies.zarr",
        seed=settings["seed"],
        validation=0.0,
        held_out=0.0,
        checkpoints=settings["checkpoints"],
        workers=settings["workers"],
        device=device,
        progress=False,
    )
    method = TRAK(
        bank,
        projection=settings["projection"],
        ridge=settings["ridge"],
        groups=data.selected_for.groups,
        device=device,
    )
    return Kept(folder / "attributions").one("trak", lambda: method.attribute(study))[0]


def described(settings: dict[str, Any], data: Material, recipes: dict[str, whence.Recipe]) -> dict[str, Any]:
    plain = {k: v for k, v in settings.items() if k not in ("proxy", "final", "workers")}
    for size, recipe in recipes.items():
        plain[f"{size}_parameters"] = sum(p.numel() for p in recipe.model().parameters())
    raw = sum(data.raw_bytes.values())
    return plain | {
        "domains": len(data.raw_bytes),
        "raw_megabytes": round(raw / 1e6, 1),
        "tokens": int(data.candidates.tokens.size),
        "bytes_per_token": round(
            sum(len(str(t).encode()) for t in data.candidates.texts) / data.candidates.tokens.size, 2
        ),
    }


def rows(result: Result, finding: SelectionFinding, size: str) -> None:
    each = result.details.setdefault("losses", [])
    for row in finding.rows:
        if row.loss is None:
            continue
        multiplier = row.multiplier
        each.append({"model": size, "task": row.task, "rule": row.selector, "fraction": row.fraction})
        each[-1] |= {"losses": row.losses}
        if multiplier is not None:
            each[-1] |= {"multiplier": multiplier.value, "interval": multiplier.interval}
        result.row(
            model=size,
            task=row.task,
            rule=row.selector,
            fraction=row.fraction,
            loss=row.loss,
            low=row.interval[0] if row.interval else None,
            high=row.interval[1] if row.interval else None,
            ahead=row.ahead,
            multiplier=None if multiplier is None else str(multiplier),
            duplicates=row.duplicates,
        )


def claims(result, found, prediction, settings, data) -> None:
    least = min(settings["fractions"])
    tasks = found["proxy"].tasks
    for size, finding in found.items():
        values = [finding.row(OURS, least, task).multiplier for task in tasks]
        result.claim(
            f"targets of {len(tasks)} with a compute multiplier of 2 or more, {size} model",
            sum(multiplier is not None and multiplier.value >= 2 for multiplier in values),
            at_least=3,
        )
    for task in (task for task in tasks if task in FORMAT_SHIFTED):
        ours = np.array(found["proxy"].row(OURS, least, task).losses)
        for rule in (DSIR_, CLASSIFIER):
            other = np.array(found["proxy"].row(rule, least, task).losses)
            lead, ends = welch(other, ours)
            result.claim(f"lead over {rule} on {task}", lead, at_least=0, interval=ends)
    worse = [found["proxy"].row(f"{OURS}, worst", least, task).ahead_interval for task in tasks]
    result.claim(
        "loss by which the worst-ranked rows are behind random ones: smallest lower end over targets",
        min(-ends[1] for ends in worse),
        at_least=0,
    )
    for fraction in settings["fractions"]:
        clear = [found["proxy"].row(f"{OURS}, worst", fraction, task).ahead_interval[1] < 0 for task in tasks]
        result.claim(
            f"targets of {len(tasks)} where the worst-ranked {fraction:.0%} are clearly behind random ones",
            sum(clear),
            at_least=len(tasks),
        )
    mean, ends = prediction
    result.claim(
        f"LDS of the mean target loss over {settings['subsets']} random subsets (its lower end above 0: "
        f"{ends[0] > 0})",
        mean,
        at_least=0,
        interval=ends,
    )
    composition = result.details["composition"]
    junk = [sum(composition[f"{OURS} for {task}"].get(name, 0.0) for name in JUNK) for task in tasks]
    pool = float(np.isin(data.candidates.names, JUNK).mean())
    result.claim(f"share of junk in the choices, {pool:.1%} in the pool", np.mean(junk), at_most=pool)
