"""Models per second of the engine against a plain one-model DataLoader loop of the same recipe.

Whole machine against whole machine: as many one-thread processes as cores on both sides, in turns; the plain
loop is also run in one process with all threads, and its better way counts. The plain loop is ordinary eager
PyTorch in float32; the engine runs in float32 and in the precision that it would choose ("auto").
"""

from __future__ import annotations

import functools
import math
import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Result, alternate, spread
from whence.provenance import usable_cores
from whence.study import SGD, Recipe, Study, datasets
from whence.subsets import Subsets
from whence.training import RecipeTrainer, conv_net, logistic_regression, mlp
from whence.training.data import Resident

TARGETS = 500


@dataclass(frozen=True)
class Task:
    """One recipe to race: `models` retrainings a round and process for the engine, `plain` for the loop."""

    name: str
    data: Callable[[], datasets.Dataset]
    n: int
    model: Callable[[], nn.Module]
    epochs: int
    batch: int
    lr: float
    models: int
    plain: int
    mark: float | None = None  # what the ratio has to reach; None: reported only

    def study(self, precision: str) -> Study:
        data = self.data()
        recipe = Recipe(self.model, self.epochs, self.batch, SGD(self.lr, momentum=0.9), precision=precision)
        return Study(
            (data.train_x[: self.n], data.train_y[: self.n]),
            (data.test_x[:TARGETS], data.test_y[:TARGETS]),
            recipe,
            ["margin_max"],
            name=self.name,
        )


def _plain_conv_net() -> nn.Module:
    """The conv net of the tutorials: twice 3x3 convolution, ReLU and max pooling, then a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 64, 2),
    )


TASKS = (
    Task(
        "logistic regression, MNIST",
        datasets.mnist,
        5_000,
        functools.partial(logistic_regression, 784, 10),
        epochs=20,
        batch=32,
        lr=0.02,
        models=64,
        plain=4,
        mark=8.0,
    ),
    Task(
        "MLP 784-128-64-10, MNIST",
        datasets.mnist,
        5_000,
        functools.partial(mlp, 784, 10),
        epochs=10,
        batch=64,
        lr=0.05,
        models=64,
        plain=8,
        mark=2.0,
    ),
    Task(
        "conv net, CIFAR-2",
        functools.partial(datasets.cifar10, classes=("cat", "dog")),
        4_000,
        _plain_conv_net,
        epochs=8,
        batch=64,
        lr=0.05,
        models=2,
        plain=2,
        mark=2.0,
    ),
    Task(
        "whence's conv_net, CIFAR-2",
        functools.partial(datasets.cifar10, classes=("cat", "dog")),
        4_000,
        functools.partial(conv_net, (3, 32, 32), 2),
        epochs=4,
        batch=64,
        lr=0.05,
        models=6,
        plain=6,
        mark=2.0,
    ),
)


def run(quick: bool = False) -> Result:
    """Race every task on the processors of this machine; `gpu_retraining` does so on a GPU."""
    cores, rounds = usable_cores(), 2 if quick else 5
    result = Result(
        "retraining",
        {"cores": cores, "rounds": rounds, "targets": TARGETS, "keep": 0.5, "optimizer": "SGD, momentum 0.9"},
    )
    for task in TASKS:
        _race(result, replace(task, epochs=max(1, task.epochs // 5)) if quick else task, cores, rounds)
    return result


def _race(result: Result, task: Task, cores: int, rounds: int) -> None:
    plain = task.plain
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores, _start, (task,)) as pool:
        engines = pool.map(_choose, [None] * cores, chunksize=1)
        rates = {
            kind: float(np.sum(pool.map(_matmul_rate, [kind] * cores, chunksize=1)))
            for kind in ("float32", "bfloat16")
        }
        engine = engines[0]
        models = (
            math.ceil(task.models / engine["stack"]) * engine["stack"]
        )  # a part of a stack costs a whole one
        accuracies: dict[str, list[float]] = {"auto": [], "float32": [], "plain": [], "threads": []}
        seed = iter(range(10**9))

        def spread_out(way: str, count: int) -> None:
            jobs = [(way, engine, [next(seed) for _ in range(count)]) for _ in range(cores)]
            accuracies[way] += [a for part in pool.map(_train, jobs, chunksize=1) for a in part]

        def threaded() -> None:
            torch.set_num_threads(cores)
            _start(task, cores)
            accuracies["threads"] += _train(("plain", engine, [next(seed) for _ in range(plain)]))

        ways = {
            "auto": lambda: spread_out("auto", models),
            "float32": lambda: spread_out("float32", models),
            "plain": lambda: spread_out("plain", plain),
            "threads": threaded,
        }
        for warm in ways.values():
            warm()
        seconds = alternate(ways, rounds)
    per_model = {
        "auto": seconds["auto"] / (cores * models),
        "float32": seconds["float32"] / (cores * models),
        "plain": seconds["plain"] / (cores * plain),
        "threads": seconds["threads"] / plain,
    }
    better = min(("plain", "threads"), key=lambda way: float(np.median(per_model[way])))
    flops = _flops(task)
    words = {
        "auto": f"engine, {'bfloat16' if engine['mixed'] else 'float32'} ({_driver(engine)})",
        "float32": f"engine, float32 ({_driver(engine)})",
        "plain": f"DataLoader loop, {cores} processes",
        "threads": f"DataLoader loop, {cores} threads",
    }
    for way, name in words.items():
        ratio = spread(per_model[better] / per_model[way])
        rate = rates["bfloat16" if way == "auto" and engine["mixed"] else "float32"]
        speed = 1 / float(np.median(per_model[way]))
        mean = float(np.mean(accuracies[way]))
        half = 1.96 * float(np.std(accuracies[way], ddof=1)) / len(accuracies[way]) ** 0.5
        result.row(
            task=task.name,
            way=name,
            models_per_second=speed,
            ratio=ratio[0],
            ratio_low=ratio[1],
            ratio_high=ratio[2],
            matmul_share=speed * flops / rate,
            accuracy=mean,
            accuracy_95=half,
            models=len(accuracies[way]),
        )
    ratio = spread(per_model[better] / per_model["auto"])
    if task.mark is not None:
        result.claim(
            f"{task.name}: engine against the better plain loop",
            ratio[0],
            at_least=task.mark,
            interval=ratio[1:],
        )
    _claim_equal(result, task, np.array(accuracies["auto"]), np.array(accuracies["plain"]))


def _claim_equal(result: Result, task: Task, ours: np.ndarray, plain: np.ndarray) -> None:
    """Equal mean accuracy: a difference of at most one point; its signed 95 % interval stands beside it."""
    gap = float(ours.mean() - plain.mean())
    half = 1.96 * float(np.hypot(ours.std(ddof=1) / len(ours) ** 0.5, plain.std(ddof=1) / len(plain) ** 0.5))
    result.claim(
        f"{task.name}: difference of mean accuracy, points",
        abs(gap) * 100,
        at_most=1.0,
        interval=((gap - half) * 100, (gap + half) * 100),
    )


def _driver(engine: dict[str, Any]) -> str:
    return f"{engine['stack']} stacked" if engine["stack"] > 1 else "one at a time"


# In the worker processes --------------------------------------------------------------------------------


class _Worker:
    task: Task
    studies: dict[str, Study]
    trainers: dict[str, RecipeTrainer]
    inputs: torch.Tensor
    labels: torch.Tensor
    queries: Resident


def _start(task: Task, threads: int = 1) -> None:
    torch.set_num_threads(threads)
    if getattr(_Worker, "task", None) is task:
        return
    _Worker.task = task
    _Worker.studies = {precision: task.study(precision) for precision in ("auto", "float32")}
    study = _Worker.studies["float32"]
    data = Resident(study.train, study.train, torch.device("cpu"))
    _Worker.inputs, _Worker.labels = data.inputs(torch.arange(study.n)).contiguous(), data.y
    _Worker.queries = Resident(study.targets, study.train, torch.device("cpu"))
    _Worker.trainers = {}


def _masks(seeds: list[int]) -> np.ndarray:
    return Subsets.uniform(_Worker.task.n, 0.5).masks(seeds)


def _choose(_: None) -> dict[str, Any]:
    trainer = _Worker.studies["auto"].trainer()
    assert isinstance(trainer, RecipeTrainer)
    return trainer.choose(_masks([0, 1]), np.arange(2))


def _train(job: tuple[str, dict[str, Any], list[int]]) -> list[float]:
    """Train on the halves and seeds of a job; the share of targets that each model got right."""
    way, engine, seeds = job
    if way == "plain":
        return [_plain(mask, seed) for mask, seed in zip(_masks(seeds), seeds, strict=True)]
    if way not in _Worker.trainers:
        trainer = _Worker.studies[way].trainer(engine=engine)
        assert isinstance(trainer, RecipeTrainer)
        _Worker.trainers[way] = trainer
    runs = _Worker.trainers[way].train(_masks(seeds), np.array(seeds))
    return [float((run.outputs["margin_max"] > 0).mean()) for run in runs]


def _plain(mask: np.ndarray, seed: int) -> float:
    """What one would write without whence."""
    task = _Worker.task
    recipe = _Worker.studies["float32"].recipe
    assert recipe is not None
    torch.manual_seed(seed)
    model = task.model()
    kept = np.flatnonzero(mask).tolist()
    loader = DataLoader(Subset(TensorDataset(_Worker.inputs, _Worker.labels), kept), task.batch, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=task.lr, momentum=0.9)
    total = task.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: recipe.schedule.factor(min(step, total - 1), total)
    )
    for _ in range(task.epochs):
        for x, y in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(_Worker.queries.inputs(slice(i, i + 250))) for i in range(0, TARGETS, 250)])
    return float((logits.argmax(1) == _Worker.queries.y).float().mean())


def _matmul_rate(kind: str) -> float:
    """Floating-point operations per second of this process on a 1,024 cube product."""
    a, b = (torch.randn(1024, 1024).to(getattr(torch, kind)) for _ in range(2))
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(4):
            a @ b
        best = max(best, 4 * 2 * 1024**3 / (time.perf_counter() - start))
    return best


def _flops(task: Task) -> float:
    """Operations of one retraining in matrix products and convolutions, forward and backward."""
    _start(task)
    counter = FlopCounterMode(display=False)
    model = task.model()
    with counter:
        nn.functional.cross_entropy(
            model(_Worker.inputs[: task.batch]), _Worker.labels[: task.batch]
        ).backward()
    return counter.get_total_flops() / task.batch * (task.n // 2) * task.epochs
