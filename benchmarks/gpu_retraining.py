"""On a GPU: models per second of stacks against a plain loop, and the ResNet-9 on halves of CIFAR-10.

One process on the same GPU on all sides, in turns. The plain loop is ordinary eager PyTorch in float32, with
or without pinned memory, whichever is faster here; a loop that keeps the data on the GPU and gathers its
batches there stands beside it. The engine runs in the precision that it would choose ("auto") and in float32.

The ResNet-9 has the recipe of Ilyas et al. 2022, whose 24 epochs take about 17 s on an A100 by their account.
How many epochs the reported models have is chosen on the training images that a half leaves out; the test
images are looked at afterwards.
"""

from __future__ import annotations

import itertools
import time
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from benchmarks.harness import Result, alternate, need_cuda, spread
from benchmarks.retraining import TARGETS, TASKS, Task
from whence.errors import InputError
from whence.provenance import usable_cores
from whence.study import SGD, Augment, Recipe, Study, Triangle, datasets
from whence.subsets import Subsets
from whence.training import RecipeTrainer, loop, resnet9
from whence.training.data import Resident

DEVICE = "cuda"
MARK = 10.0  # times the plain loop
PLAIN = 2  # models a round of a plain loop
EPOCHS = (24, 32, 48)  # of the ResNet-9: the fewest that reach ENOUGH on training images left out
ENOUGH = 0.905
MODELS, SECONDS = 10, 40.0  # ResNet-9s reported: so many, or at least three within so many seconds


def run(quick: bool = False) -> Result:
    """Race the two small tasks, then train the ResNet-9."""
    name, rounds = need_cuda(), 2 if quick else 3
    result = Result(
        "gpu/retraining",
        {"gpu": name, "cores": usable_cores(), "rounds": rounds, "targets": TARGETS, "keep": 0.5},
    )
    for task in TASKS[:2]:
        _race(result, replace(task, epochs=max(1, task.epochs // 5)) if quick else task, rounds)
    _resnet(result, (1, 2) if quick else EPOCHS, 3 if quick else MODELS)
    return result


def _race(result: Result, task: Task, rounds: int) -> None:
    studies = {kind: task.study(kind) for kind in ("auto", "float32")}
    halves, seeds = Subsets.uniform(task.n, 0.5), itertools.count()
    trainer = studies["auto"].trainer(DEVICE)
    assert isinstance(trainer, RecipeTrainer)
    engine = trainer.choose(halves.masks([0, 1]), np.arange(2))
    trainers = {kind: study.trainer(DEVICE, engine) for kind, study in studies.items()}
    plain = _Plain(task, studies["float32"])
    right: dict[str, list[float]] = {"auto": [], "float32": [], "loader": [], "resident": []}
    many = max(PLAIN, engine["stack"])

    def stacked(kind: str) -> None:
        chosen = list(itertools.islice(seeds, many))
        runs = trainers[kind].train(halves.masks(chosen), np.array(chosen))
        right[kind] += [_share_right(run) for run in runs]

    def one_by_one(way: str) -> None:
        for seed in itertools.islice(seeds, PLAIN):
            right[way].append(plain(halves.masks([seed])[0], seed, way == "resident"))

    ways = {
        "auto": lambda: stacked("auto"),
        "float32": lambda: stacked("float32"),
        "loader": lambda: one_by_one("loader"),
        "resident": lambda: one_by_one("resident"),
    }
    plain.choose_pinning(halves.masks([0])[0])
    for warm in ways.values():
        warm()
    seconds = alternate(ways, rounds)
    each = {way: seconds[way] / (many if way in trainers else PLAIN) for way in ways}
    result.details[task.name] = engine
    driver = f"{engine['stack']} stacked" if engine["stack"] > 1 else "one at a time"
    words = {
        "auto": f"engine, {'bfloat16' if engine['mixed'] else 'float32'} ({driver})",
        "float32": f"engine, float32 ({driver})",
        "loader": f"DataLoader loop{', pinned' if plain.pinned else ''}",
        "resident": "loop with the data on the GPU",
    }
    for way, name in words.items():
        ratio, found = spread(each["loader"] / each[way]), np.array(right[way])
        result.row(
            task=task.name,
            way=name,
            models_per_second=1 / float(np.median(each[way])),
            ratio=ratio[0],
            ratio_low=ratio[1],
            ratio_high=ratio[2],
            accuracy=found.mean(),
            accuracy_95=1.96 * found.std(ddof=1) / len(found) ** 0.5,
            models=len(found),
        )
    ratio = spread(each["loader"] / each["auto"])
    result.claim(
        f"{task.name}: engine against the DataLoader loop", ratio[0], at_least=MARK, interval=ratio[1:]
    )
    gap = float(np.mean(right["auto"]) - np.mean(right["loader"]))
    result.claim(f"{task.name}: difference of mean accuracy, points", abs(gap) * 100, at_most=1.0)


def _share_right(run: Any) -> float:
    return float((run.outputs["margin_max"] > 0).mean())


class _Plain:
    """What one would write without whence: one model at a time."""

    def __init__(self, task: Task, study: Study) -> None:
        self.task, self.recipe, self.pinned = task, study.recipe, False
        data, here = Resident(study.train, study.train, torch.device("cpu")), torch.device(DEVICE)
        self.data = TensorDataset(data.inputs(torch.arange(study.n)).contiguous(), data.y)
        self.on_device = [tensor.to(here) for tensor in self.data.tensors]
        queries = Resident(study.targets, study.train, here)
        self.queries, self.answers = queries.inputs(slice(None)), queries.y

    def choose_pinning(self, mask: np.ndarray) -> None:
        """Keep the faster of the two ways to hand batches over."""
        took = {}
        for self.pinned in (False, True, False, True):  # the first of each warms up
            start = time.perf_counter()
            self(mask, 0, False)
            took[self.pinned] = time.perf_counter() - start
        self.pinned = took[True] < took[False]

    def __call__(self, mask: np.ndarray, seed: int, resident: bool) -> float:
        task, recipe = self.task, self.recipe
        assert recipe is not None
        torch.manual_seed(seed)
        model, kept = task.model().to(DEVICE), np.flatnonzero(mask)
        optimizer = torch.optim.SGD(model.parameters(), lr=task.lr, momentum=0.9)
        total = task.epochs * -(-len(kept) // task.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: recipe.schedule.factor(min(step, total - 1), total)
        )
        batches = self._gathered(kept) if resident else self._loaded(kept)
        for _ in range(task.epochs):
            for x, y in batches():
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                schedule.step()
        model.eval()
        with torch.no_grad():
            return float((model(self.queries).argmax(1) == self.answers).float().mean())

    def _loaded(self, kept: np.ndarray) -> Any:
        subset = Subset(self.data, kept.tolist())
        loader = DataLoader(subset, self.task.batch, shuffle=True, pin_memory=self.pinned)

        def batches() -> Any:
            for x, y in loader:
                yield x.to(DEVICE, non_blocking=True), y.to(DEVICE, non_blocking=True)

        return batches

    def _gathered(self, kept: np.ndarray) -> Any:
        places = torch.as_tensor(kept, device=DEVICE)
        x, y = self.on_device

        def batches() -> Any:
            order = places[torch.randperm(len(places), device=DEVICE)]
            for part in order.split(self.task.batch):
                yield x[part], y[part]

        return batches


# The ResNet-9 ---------------------------------------------------------------------------------------------


def _resnet(result: Result, choices: tuple[int, ...], models: int) -> None:
    try:
        data = datasets.cifar10()
    except InputError as problem:
        result.row(task="ResNet-9, CIFAR-10 halves", not_run=str(problem))
        return
    halves = Subsets.uniform(len(data.train_y), 0.5)
    for number, epochs in enumerate(choices):
        trainer, seed = _cifar(data, epochs), 10_000 + number  # no reported model has this half or seed
        mask = halves.masks([seed])
        (pilot,) = _trained(trainer, mask, [seed], keep=True)
        left_out = _accuracy_on(trainer, pilot.state, ~mask[0])
        result.row(
            pilot="ResNet-9", epochs=epochs, seconds=pilot.seconds, accuracy_on_images_left_out=left_out
        )
        if left_out >= ENOUGH:
            break
    torch.cuda.reset_peak_memory_stats()  # the pilots have warmed up
    runs: list[Any] = []
    while len(runs) < models and (len(runs) < 3 or sum(run.seconds for run in runs) < SECONDS):
        seed = len(runs)
        runs += _trained(trainer, halves.masks([seed]), [seed])
    memory = torch.cuda.max_memory_allocated() / 2**30
    (again,) = _trained(trainer, halves.masks([0]), [0])
    free = _without_promises(trainer, halves.masks([0]))
    right, seconds = np.array([_share_right(run) for run in runs]), spread([run.seconds for run in runs])
    half = 1.96 * float(right.std(ddof=1)) / len(right) ** 0.5
    result.row(
        task="ResNet-9, CIFAR-10 halves",
        epochs=epochs,
        precision="bfloat16" if trainer.mixed else "float32",
        seconds_per_model=seconds[0],
        fastest=seconds[1],
        slowest=seconds[2],
        seconds_without_bits_promised=free,
        memory_gib=memory,
        accuracy=right.mean(),
        accuracy_95=half,
        models=len(right),
    )
    result.claim(
        "ResNet-9 on CIFAR-10 halves: mean accuracy on the test images",
        float(right.mean()),
        at_least=0.9,
        interval=(right.mean() - half, right.mean() + half),
    )
    result.claim(
        "ResNet-9: largest difference of an output between two runs on the same half and seed",
        float(np.abs(again.outputs["margin_max"] - runs[0].outputs["margin_max"]).max()),
        at_most=0.0,
    )


def _cifar(data: datasets.Dataset, epochs: int) -> RecipeTrainer:
    recipe = Recipe(
        resnet9,
        epochs,
        512,
        SGD(0.5, 0.9, weight_decay=5e-4),
        Triangle(peak=5 / 24),
        label_smoothing=0.1,
        augment=Augment(flip=True, translate=2, cutout=4),
        drop_last=True,
        precision="auto",
    )
    study = Study((data.train_x, data.train_y), (data.test_x, data.test_y), recipe, ["margin_max"])
    trainer = study.trainer(DEVICE)
    assert isinstance(trainer, RecipeTrainer)
    return trainer


def _trained(trainer: RecipeTrainer, masks: np.ndarray, seeds: list[int], keep: bool = False) -> list[Any]:
    return list(trainer.train(masks, np.array(seeds), keep_states=keep))


def _accuracy_on(trainer: RecipeTrainer, state: dict[str, torch.Tensor], chosen: np.ndarray) -> float:
    on_device = {name: tensor.to(trainer.device) for name, tensor in state.items()}
    right = trainer.logits(on_device, trainer.data).argmax(1) == trainer.data.y
    return float(right[torch.as_tensor(chosen, device=right.device)].float().mean())


def _without_promises(trainer: RecipeTrainer, mask: np.ndarray) -> float:
    """Seconds of a model when cuDNN may take algorithms that do not repeat."""
    kept, loop.reproducible = loop.reproducible, lambda device: nullcontext()  # type: ignore[assignment]
    try:
        return _trained(trainer, mask, [0])[0].seconds
    finally:
        loop.reproducible = kept
