"""The same checkpoints and retrainings given to four other libraries: their LDS, their speed and ours.

Peers receive the inputs that our methods see and the same weights (`benchmarks.peer_scores`). traker runs
twice: as it comes, and with the ridge that ours uses; kronfluence's damping is ours. Differences of LDS are
paired over masks and targets. Times are of one checkpoint, ours and theirs in turn within a round. A peer
that cannot be imported or fails is a row that says why, and nothing is claimed of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

import whence
from benchmarks.harness import Result, alternate, spread
from benchmarks.peer_scores import Given, captum, dattri, given, kronfluence, traker
from benchmarks.studies import BENCHES, Bench, mnist_mlp
from whence.evaluate import compare
from whence.methods import TRAK, GradDot, Influence
from whence.methods.trak import RIDGE

FULL = {"checkpoints": 10, "projection": 2048, "batch": 1000, "rounds": 3, "bootstrap": 1000}
QUICK = FULL | {"checkpoints": 2, "projection": 128, "batch": 100, "rounds": 1, "bootstrap": 200}
SMALL = Bench(
    "peers-quick",
    partial(mnist_mlp, 300, 50),
    train=20,
    validation=4,
    held_out=20,
    held_out_seeds=2,
    checkpoints=20,
)


@dataclass(frozen=True)
class Pair:
    """One peer and our method for the same thing.

    Attributes
    ----------
    theirs : its scores; a pair that is `alike` is called with the study too
    times : how many times the peer's speed is promised; None promises nothing
    alike : the peer regularises as we do, so that the difference is not one of defaults; not timed again
    """

    peer: str
    theirs: Callable[..., np.ndarray]
    ours: str
    times: float | None = None
    alike: bool = False

    def scores(self, of: Given, study: whence.Study) -> np.ndarray:
        return self.theirs(of, study) if self.alike else self.theirs(of)


def _same_ridge(of: Given, study: whence.Study) -> np.ndarray:
    return traker(of, RIDGE)


PAIRS = (
    Pair("traker TRAK", traker, "whence TRAK", times=10),
    Pair("traker TRAK, our ridge", _same_ridge, "whence TRAK", alike=True),
    Pair("captum TracInCP", captum, "whence GradDot"),
    Pair("dattri Grad-Dot", dattri, "whence GradDot"),
    Pair("kronfluence EK-FAC", kronfluence, "whence EK-FAC", times=1),
)
# Our methods, from where their checkpoints come (a bank, or state dicts) and how many of them to take.
OURS: dict[str, Callable[[Any, int], Any]] = {
    "whence TRAK": lambda source, first: TRAK(source, first=first),
    "whence GradDot": lambda source, first: GradDot(source, first=first),
    "whence EK-FAC": lambda source, first: Influence("ekfac", checkpoints=source, first=first),
}


def run(quick: bool = False) -> Result:
    settings = dict(QUICK if quick else FULL)
    bench = SMALL if quick else BENCHES["mnist-mlp"]
    if not quick:
        torch.set_num_threads(os.cpu_count() or 1)
    study, bank = bench.study(), bench.bank()
    all_of = given(study, bank, settings)
    result = Result(
        "peers",
        settings
        | {
            "study": study.name,
            "n": study.n,
            "targets": len(study.target_ids),
            "threads": torch.get_num_threads(),
            "peers": {name: _version(name) for name in ("traker", "captum", "dattri", "kronfluence")},
        },
    )
    scores = {
        name: make(bank, settings["checkpoints"]).attribute(study, "margin") for name, make in OURS.items()
    }
    failed = {}
    for pair in PAIRS:
        try:
            scores[pair.peer] = _attribution(study, pair.peer, pair.scores(all_of, study))
        except Exception as error:  # whatever stops a peer is what is to be reported
            failed[pair.peer] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    compared = compare(scores, bank, output="margin", bootstrap=settings["bootstrap"])
    for name, score in compared.scores.items():
        low, high = score.interval
        result.row(method=name, lds=score.mean, low=low, high=high, of_ceiling=score.of_ceiling)
    for name, reason in failed.items():
        result.row(method=name, not_run=reason)
    for pair in PAIRS:
        if pair.peer not in failed:
            _differences(result, pair, compared)
    for pair in PAIRS:
        if pair.peer not in failed and not pair.alike:
            _speed(result, pair, study, all_of.one(), settings["rounds"])
    return result


def _differences(result: Result, pair: Pair, compared: Any) -> None:
    found = compared.difference(pair.ours, pair.peer)
    ours, theirs = compared.scores[pair.ours], compared.scores[pair.peer]
    low, high = found.interval
    result.row(
        ours=pair.ours,
        theirs=pair.peer,
        lds_ours=ours.mean,
        lds_theirs=theirs.mean,
        difference=found.difference,
        low=low,
        high=high,
    )
    result.claim(
        f"LDS of {pair.ours} minus {pair.peer}: upper end of the paired 95 % interval",
        high,
        at_least=0,
        interval=found.interval,
    )


def _speed(result: Result, pair: Pair, study: whence.Study, one: Given, rounds: int) -> None:
    """Seconds for one checkpoint, all training examples and targets, from weights in memory to scores."""
    ours = OURS[pair.ours](one.weights, 1)
    seconds = alternate(
        {"ours": lambda: ours.attribute(study, "margin"), "theirs": lambda: pair.theirs(one)}, rounds
    )
    middle, low, high = spread(seconds["theirs"] / seconds["ours"])
    result.row(
        one_checkpoint=pair.ours,
        against=pair.peer,
        seconds_ours=float(np.median(seconds["ours"])),
        seconds_theirs=float(np.median(seconds["theirs"])),
        times_as_fast=middle,
        lowest=low,
        highest=high,
    )
    if pair.times is not None:
        result.claim(
            f"throughput of {pair.ours} over {pair.peer}, one checkpoint",
            middle,
            at_least=pair.times,
            interval=(low, high),
        )


def _attribution(study: whence.Study, name: str, scores: np.ndarray) -> whence.Attribution:
    return whence.Attribution(
        np.asarray(scores, np.float32),
        target_ids=study.target_ids,
        train_ids=study.train_ids,
        output="margin",
        units="margin, up to scale",
        method=name,
    )


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
