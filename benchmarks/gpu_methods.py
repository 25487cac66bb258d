"""On a GPU: gradient methods and solvers against the same code on this machine's processors, and traker.

Seconds are of whole calls, from weights or retrainings in memory to scores in memory, in turns. Where the
processors would take minutes they get fewer examples and the ratio is per example; the scores of both are
compared on the same small problem. traker gets the examples that ours gets on the GPU, and our ridge; it runs
with its CUDA projector where fast_jl can be imported, else with its BasicProjector.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import whence
from benchmarks.harness import Result, alternate, need_cuda, spread
from benchmarks.peer_scores import given_weights, traker
from benchmarks.studies import mnist_mlp
from whence.methods import TRAK, GradDot, Influence
from whence.methods.regression import lasso, ridge
from whence.methods.trak import RIDGE
from whence.provenance import usable_cores
from whence.study import SGD, Augment, Recipe, Study, datasets
from whence.training import resnet9

DEVICE = "cuda"
PROJECTION = 2048
GRADIENTS: dict[str, Callable[..., Any]] = {
    "TRAK through the kernel": TRAK,
    "TRAK, 2,048 dimensions": partial(TRAK, projection=PROJECTION),
    "GradDot": GradDot,
    "EK-FAC": partial(Influence, "ekfac"),
}


def run(quick: bool = False) -> Result:
    """Perceptron, ResNet-9, solvers."""
    name = need_cuda()
    torch.set_num_threads(usable_cores())
    result = Result(
        "gpu/methods",
        {
            "gpu": name,
            "cores": usable_cores(),
            "projection": PROJECTION,
            "traker_with_fast_jl": _fast_jl_works(),
        },
    )
    _perceptron(result, *((500, 50) if quick else (5000, 500)))
    _resnet(result, *((400, 50, 100) if quick else (10_000, 500, 500)))
    _solvers(result, *((200, 800, 40) if quick else (2000, 8000, 2000)))
    return result


def _fast_jl_works() -> bool:
    """Whether traker will take its CUDA projector: it asks in the same way."""
    try:
        import fast_jl

        count = torch.cuda.get_device_properties(DEVICE).multi_processor_count
        fast_jl.project_rademacher_8(torch.ones(1, 4096, device=DEVICE), PROJECTION, 0, count)
    except (ImportError, RuntimeError, AttributeError):
        return False
    return True


def _perceptron(result: Result, n: int, targets: int) -> None:
    study = mnist_mlp(n, targets)
    states = [_weights(study)]
    for name, method in GRADIENTS.items():
        here, there = (method(checkpoints=states, device=device) for device in ("cpu", DEVICE))
        _turns(
            result,
            f"{name}, MNIST perceptron",
            {"n": n, "targets": targets},
            lambda here=here: here.attribute(study, "margin").to_numpy(),
            lambda there=there: there.attribute(study, "margin").to_numpy(),
        )


def _turns(
    result: Result, what: str, size: dict[str, int], here: Callable[[], Any], there: Callable[[], Any]
) -> None:
    """Seconds on both sides, and how far their results are from each other."""
    found = [np.asarray(task()) for task in (here, there)]  # warms up
    seconds = alternate({"cpu": here, "gpu": there}, 2)
    ratio = spread(seconds["cpu"] / seconds["gpu"])
    result.row(
        what=what,
        **size,
        seconds_cpu=float(np.median(seconds["cpu"])),
        seconds_gpu=float(np.median(seconds["gpu"])),
        ratio=ratio[0],
        ratio_low=ratio[1],
        ratio_high=ratio[2],
        largest_difference=_apart(*found),
    )


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(one).max())


def _resnet(result: Result, n: int, targets: int, few: int) -> None:
    """TRAK of a ResNet-9: `n` examples on the GPU, `few` on the processors and by traker."""
    data = datasets.cifar10(batches=(1,))
    large, small = (_cifar(data, count, targets if count > few else few // 5) for count in (n, few))
    states = [_weights(large)]
    method = partial(TRAK, states, projection=PROJECTION)
    examples = {study: study.n + len(study.target_ids) for study in (large, small)}
    scores: dict[str, np.ndarray] = {}

    def ours(study: Study, device: str) -> np.ndarray:
        return method(device=device).attribute(study, "margin").to_numpy()

    peers = [given_weights(study, states, PROJECTION, 100) for study in (large, small)]
    ways: dict[str, tuple[Study, Callable[[], np.ndarray], int]] = {
        "whence, GPU": (large, lambda: ours(large, DEVICE), 3),
        "whence, GPU, few examples": (small, lambda: ours(small, DEVICE), 3),
        "whence, processors": (small, lambda: ours(small, "cpu"), 1),
        "traker, GPU": (large, lambda: traker(peers[0], RIDGE, DEVICE), 2),
        "traker, GPU, few examples": (small, lambda: traker(peers[1], RIDGE, DEVICE), 3),
    }
    rates: dict[str, float] = {}
    for way, (study, task, rounds) in ways.items():
        size = {"n": study.n, "targets": len(study.target_ids)}
        try:
            scores[way] = np.asarray(task())  # warms up
            seconds = min(_seconds(task) for _ in range(rounds))
        except Exception as problem:  # what stops a peer is what is to be reported
            words = " ".join(str(problem).split())[:200]
            result.row(what=f"TRAK, ResNet-9: {way}", **size, not_run=f"{type(problem).__name__}: {words}")
            continue
        rates[way] = examples[study] / seconds
        result.row(what=f"TRAK, ResNet-9: {way}", **size, seconds=seconds, examples_per_second=rates[way])
    result.row(
        what="TRAK, ResNet-9: largest difference between the GPU and the processors",
        relative=_apart(scores["whence, processors"], scores["whence, GPU, few examples"]),
    )
    for way, ours_then in (
        ("whence, processors", "whence, GPU, few examples"),
        ("whence, processors", "whence, GPU"),
        ("traker, GPU", "whence, GPU"),
        ("traker, GPU, few examples", "whence, GPU, few examples"),
    ):
        if way in rates:
            result.row(
                what=f"TRAK, ResNet-9: {ours_then}, against {way}",
                times_as_fast_per_example=rates[ours_then] / rates[way],
            )


def _cifar(data: datasets.Dataset, n: int, targets: int) -> Study:
    recipe = Recipe(
        resnet9,
        6,
        min(512, n // 4),
        SGD(0.5, 0.9, weight_decay=5e-4),
        label_smoothing=0.1,
        augment=Augment(flip=True, translate=2),
        drop_last=True,
        precision="auto",
    )
    return Study((data.train_x[:n], data.train_y[:n]), (data.test_x[:targets], data.test_y[:targets]), recipe)


def _weights(study: Study) -> dict[str, torch.Tensor]:
    (run,) = study.trainer(DEVICE).train(np.ones((1, study.n), bool), np.array([0]), keep_states=True)
    assert run.state is not None
    return run.state


def _seconds(task: Callable[[], Any]) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def _solvers(result: Result, n: int, m: int, targets: int) -> None:
    """Halves of n examples, linear outputs with few large and many small effects, and noise."""
    rng = np.random.default_rng(0)
    masks = whence.Subsets.uniform(n, 0.5).masks(range(m + m // 10))
    effects = 0.02 * rng.standard_normal((n, targets))
    effects[rng.integers(0, n, 20)] += rng.laplace(0, 0.3, (20, targets))
    outputs = (masks @ effects + 0.5 * rng.standard_normal((len(masks), targets))).astype(np.float32)
    parts = masks[:m], outputs[:m], masks[m:], outputs[m:]
    for name, solve, few in (("ridge", ridge, 1), ("LASSO", lasso, 10), ("LASSO", lasso, 1)):
        some = tuple(part if part.dtype == bool else part[:, : targets // few] for part in parts)
        _turns(
            result,
            f"{name}, {m:,} retrainings",
            {"n": n, "m": m, "targets": targets // few},
            lambda solve=solve, some=some: solve(*some).weight,
            lambda solve=solve, some=some: solve(*some, device=DEVICE).weight,
        )
