"""TRAK by streaming: peak memory against its cap, forecast against measured, scores against those in memory.

The images are made up: what they show changes neither memory, disk nor time. Memory is what the resident
memory of a fresh process grows by, at its peak, beyond what it holds when whence is imported and the study is
made.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import whence
from benchmarks.harness import Result, measured
from whence.methods import TRAK
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.plan import bytes_of, forecast
from whence.training import mlp

PROJECTION = 1024
CHECKPOINTS = 2
RIDGE = 1e-3
CLASSES = 10
# training examples, targets, cap, whether the scores are compared with those made in memory
FULL = ((100_000, 1_000, "1GiB", False), (100_000, 1_000, "192MiB", False), (10_000, 200, "160MiB", True))
QUICK = ((4_000, 100, "160MiB", True),)


def run(quick: bool = False) -> Result:
    result = Result(
        "memory",
        {
            "images": "32 x 32 x 3",
            "network": "mlp 3072-128-64-10",
            "projection": PROJECTION,
            "checkpoints": CHECKPOINTS,
            "memory": "above a process that holds the study",
        },
    )
    for n, targets, cap, compared in QUICK if quick else FULL:
        with tempfile.TemporaryDirectory() as folder:
            _one(result, n, targets, cap, Path(folder), compared)
    return result


def _one(result: Result, n: int, targets: int, cap: str, folder: Path, compared: bool) -> None:
    _weights(folder)
    peak, told = measured(_streamed, n, targets, cap, str(folder), prepare=_prepared)
    disk = sum(
        f.stat().st_size for name in ("store", "scores") for f in (folder / name).rglob("*") if f.is_file()
    )
    sizes = f"{n:,} x {targets:,}, cap {cap}"
    result.row(
        train=n,
        targets=targets,
        cap_mib=bytes_of(cap) / 2**20,
        peak_mib=peak / 2**20,
        memory_forecast_over_measured=told["memory"] / peak,
        disk_mib=disk / 2**20,
        disk_forecast_over_measured=told["disk"] / disk,
        seconds=told["took"],
        time_forecast_over_measured=told["seconds"] / told["took"],
    )
    result.claim(f"{sizes}: peak memory over the cap", peak / bytes_of(cap), at_most=1.0)
    if not compared:
        return
    inside, difference = measured(_in_memory, n, targets, cap, str(folder), prepare=_prepared)
    result.row(train=n, targets=targets, in_memory_peak_mib=inside / 2**20, largest_difference=difference)
    result.claim(f"{sizes}: largest difference to the scores made in memory", difference, at_most=1e-3)


def _study(n: int, targets: int) -> whence.Study:
    """Ten blurred patterns in noise."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 128, (CLASSES, 32, 32, 3), dtype=np.uint8)
    pictures, labels = [], []
    for count in (n, targets):
        y = random.integers(0, CLASSES, count)
        x = np.empty((count, 32, 32, 3), dtype=np.uint8)
        for start in range(0, count, 1000):  # no copy of all of it is ever made
            part = slice(start, start + 1000)
            x[part] = patterns[y[part]] + random.integers(0, 128, x[part].shape, dtype=np.uint8)
        pictures.append(x)
        labels.append(y)
    recipe = whence.Recipe(partial(mlp, 3072, CLASSES), 1, 64, whence.SGD(0.02, momentum=0.9))
    return whence.Study((pictures[0], labels[0]), (pictures[1], labels[1]), recipe, name="made up")


def _weights(folder: Path) -> None:
    from safetensors.torch import save_file

    for i, checkpoint in enumerate(checkpoints(_study(2_000, 2), CHECKPOINTS)):
        save_file({k: v.contiguous() for k, v in checkpoint.load().items()}, folder / f"{i}.safetensors")


def _prepared(n: int, targets: int, cap: str, folder: str) -> tuple[whence.Study, str, Path]:
    return _study(n, targets), cap, Path(folder)


def _trak(folder: Path, **more: Any) -> TRAK:
    files = [folder / f"{i}.safetensors" for i in range(CHECKPOINTS)]
    return TRAK(files, projection=PROJECTION, ridge=RIDGE, **more)


def _streamed(prepared: tuple[whence.Study, str, Path]) -> dict[str, float]:
    from whence.methods.gradients import stored

    study, cap, folder = prepared
    plans = []
    stored.forecast = lambda *given, **more: plans.append(forecast(*given, **more)) or plans[-1]
    start = time.perf_counter()
    _trak(folder, store=folder / "store", memory=cap).attribute(study, to=folder / "scores")
    took = time.perf_counter() - start
    return {"took": took, **{key: getattr(plans[0], key) for key in ("memory", "disk", "seconds")}}


def _in_memory(prepared: tuple[whence.Study, str, Path]) -> float:
    study, _, folder = prepared
    scores = _trak(folder).attribute(study).weight
    written = whence.Attribution.load(folder / "scores").weight
    return float(np.abs(written - scores).max() / np.abs(scores).max())
