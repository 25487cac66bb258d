"""What the unlearning benchmark stands on: retrainings on halves, attributions of them, and forget sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import whence
from benchmarks import studies
from benchmarks.harness import Result
from benchmarks.kept import Kept
from whence.applications import unlearning as ways
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate import lds
from whence.evaluate.learning_curve import first_models
from whence.methods import TRAK, Datamodel, DifferenceOfMeans, GuidedDatamodel, Random

DEVICE = "cuda" if torch.cuda.is_available() else None


def bank_of(study: whence.Study, folder: Path, settings: dict[str, Any]) -> whence.Bank:
    return studies.judged(
        study,
        folder / "half.zarr",
        settings["retrainings"],
        settings["held_out_masks"],
        settings["held_out_seeds"],
        keep=0.5,
    )


def attributions(
    result: Result, study: whence.Study, bank: whence.Bank, kept: Kept, settings: dict[str, Any]
) -> dict[str, Attribution]:
    """Attributions of the margin, which for two classes tells the logits, with their LDS; scaled on the
    validation part where they need it."""
    most, checkpoints = settings["retrainings"], settings["checkpoints"]
    trak = f"TRAK, {checkpoints}"
    makers: dict[str, Callable[[], Attribution]] = {
        trak: lambda: TRAK(checkpoints, ridge=3e-4, device=DEVICE).attribute(study, "margin")
    }
    fits: dict[str, Callable[[Any], Attribution]] = {
        "ridge": lambda of: Datamodel("ridge").attribute(of, "margin"),
        "difference of means": lambda of: DifferenceOfMeans().attribute(of, "margin"),
        "LASSO": lambda of: Datamodel("lasso").attribute(of, "margin"),
        "guided": lambda of: GuidedDatamodel(kept.one(trak, makers[trak])[0]).attribute(of, "margin"),
    }
    for count in (*settings["fewer"], most):
        early = bank if count == most else first_models(bank, count, "margin")
        for name, fit in fits.items():
            if name != "LASSO" or count == most:
                makers[f"{name}, {count}"] = partial(fit, early)
    makers["random"] = lambda: Random().attribute(study, "margin")
    found = {}
    for name, make in makers.items():
        scores, seconds = kept.one(name, make)
        judged = lds(scores, bank, output="margin", bootstrap=200)
        scale = None
        try:
            if not scores.calibrated:
                scores = ways.fit_scale(scores, bank)
                scale = scores.provenance["scale"]["value"]
            found[name] = ways.two_class_logits(scores, study)
        except InputError:  # random scores have no scale
            pass
        low, high = judged.interval or (None, None)
        result.row(
            attribution=name, lds=judged.mean, low=low, high=high, ceiling=judged.ceiling, scale=scale,
            refused=name not in found, seconds=seconds,
        )  # fmt: skip
    return found


def forget_sets(
    study: whence.Study,
    subclasses: np.ndarray,
    wrong: np.ndarray,
    scores: Attribution,
    sizes: tuple[int, int, int],
) -> dict[str, np.ndarray]:
    """The recipes of the paper, lists of one's own (labels found to be wrong), and a random set to tune
    on."""
    n = study.n
    found_wrong = {
        f"wrong labels {size}": np.random.default_rng([2, size]).choice(np.flatnonzero(wrong), size, False)
        for size in sizes
    }
    sign = np.where(np.asarray(study.train_labels) == 1, 1, -1)[:, None]
    margin = (scores.weight[:n, 1] - scores.weight[:n, 0]) * sign
    own = Attribution(
        margin, target_ids=study.train_ids, train_ids=study.train_ids, provenance=scores.provenance
    )
    pixels = np.asarray(study.train_inputs, np.float32).reshape(n, 8, 4, 8, 4, 3).mean((2, 4)).reshape(n, -1)
    found = ways.forget_sets(
        study,
        own,
        features=pixels - pixels.mean(0),
        around=study.train_ids[6],
        subclasses=subclasses,
        own={name: study.train_ids[at] for name, at in found_wrong.items()},
        sizes=sizes,
    )
    tuning = np.random.default_rng([1, sizes[1]]).choice(n, sizes[2], replace=False)
    return {"tuning": study.train_ids[np.sort(tuning)], **found}
