"""Datamodels estimated at keep 0.1, 0.2, 0.5 and 0.75, judged at every other fraction, at equal cost.

A retraining on a tenth of the data takes a tenth of the steps when the recipe counts epochs, so each fraction
gets as many retrainings as the same number of training steps buys. Beside each fraction stands how linear the
model is there.

MNIST with a perceptron and CIFAR-2 with a conv net. The retrainings lie in banks under runs/, so a run that
was stopped goes on where it was.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks import studies
from benchmarks.harness import RUNS, Result
from whence.evaluate import keep_fractions, variance_split
from whence.methods import Datamodel

FULL = {
    "studies": {
        "mnist-mlp": {"study": partial(studies.mnist_mlp, 1000, 300, epochs=20), "halves": 1200},
        "cifar2": {"study": partial(studies.cifar2, 600, 300, epochs=16), "halves": 400},
    },
    "keeps": (0.1, 0.2, 0.5, 0.75),
    "held_out_masks": 60,
    "held_out_seeds": 4,
    "bootstrap": 1000,
}
QUICK = FULL | {
    "studies": {"mnist-mlp": {"study": partial(studies.mnist_mlp, 100, 50), "halves": 200}},
    "keeps": (0.2, 0.5, 0.75),
    "held_out_masks": 25,
    "held_out_seeds": 2,
    "bootstrap": 200,
}


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    said = {name: how["halves"] for name, how in settings["studies"].items()}
    result = Result("keep", settings | {"studies": said, "method": "ridge"})
    for name, how in settings["studies"].items():
        study = how["study"]()
        banks = [retrained(study, keep, how["halves"], **settings) for keep in settings["keeps"]]
        splits = {bank.keep: variance_split(bank) for bank in banks}
        found = keep_fractions(Datamodel("ridge"), banks, bootstrap=settings["bootstrap"])
        for keep in found.fractions:
            split, cell = splits[keep], found.cell(keep, keep)
            result.row(
                study=f"{name}, n={study.n:,}",
                keep=keep,
                linear=split.linear.value,
                nonlinear=split.nonlinear.value,
                seed=split.seed.value,
                linear_of_determined=split.of_determined.value,
                low=split.of_determined.interval[0],
                high=split.of_determined.interval[1],
                seconds_per_model=found.seconds[keep],
                models=cell.models,
                seconds=cell.cost,
            )
        excess = []
        for cell in found.cells:
            top = splits[cell.judged_at].best_lds()
            low, high = cell.score.interval
            excess.append(cell.score.mean - top.value - np.hypot((high - low) / 2, 1.96 * top.standard_error))
            result.row(
                study=name,
                estimated_at=cell.estimated_at,
                judged_at=cell.judged_at,
                lds=cell.score.mean,
                low=low,
                high=high,
                linear_ceiling=top.value,
                noise_ceiling=cell.score.ceiling,
                behind_best=cell.behind,
                behind_low=None if cell.behind_interval is None else cell.behind_interval[0],
                behind_high=None if cell.behind_interval is None else cell.behind_interval[1],
            )
        result.claim(
            f"{name}: LDS above its linear ceiling by no more than chance (worst of {len(excess)} cells)",
            max(excess),
            at_most=0,
        )
    return result


def retrained(study, keep, halves, keeps, held_out_masks, held_out_seeds, **_):
    """The bank of one fraction: as many retrainings as cost what `halves` of them cost at 0.5, in training
    steps."""
    to = RUNS / f"keep-{study.fingerprint[:8]}-{keep:g}.zarr"
    return studies.judged(study, to, round(halves * 0.5 / keep), held_out_masks, held_out_seeds, keep)
