"""Metagradients: what they predict of retrainings with 5 % left out, when they can, and what they cost.

Cats against dogs of CIFAR-10, a smooth conv net beside an ordinary one (batch norm, ReLU, momentum). MAGIC is
held against retrainings with its own seed, which are deterministic, so that the ceiling is 1, and against
retrainings with fresh seeds, beside the expected metagradient: the mean of the derivatives of several runs,
over seeds alone or over random halves too. Cost is processor time in units of a retraining of the same study.

Retrainings and attributions lie under runs/, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

import whence
from benchmarks.harness import RUNS, Result
from whence.attribution import Attribution
from whence.evaluate import LDS, compare, metasmoothness
from whence.methods import MAGIC
from whence.training import conv_net, mlp
from whence.training.networks import smooth_conv_net
from whence.training.replay import differentiate, state_bytes
from whence.training.run import Run, Snapshot

FULL = {
    "n": 1000,
    "targets": 30,
    "left_out": 0.05,
    "masks": 100,
    "seeds": 5,  # of each mask, for the retrainings with fresh seeds
    "average": 8,  # runs of an expected metagradient
    "directions": 5,
    "width": 16,
    "epochs": 12,
    "batch_size": 250,
    "batch": 20,  # targets whose cost is measured
    "rounds": 3,
    "steps": (32, 128, 512),
    "fanouts": (2, 8, 512),
    "bootstrap": 1000,
}
QUICK = FULL | {
    "n": 250,
    "targets": 8,
    "masks": 14,
    "seeds": 2,
    "average": 2,
    "directions": 2,
    "width": 4,
    "epochs": 6,
    "batch_size": 125,
    "batch": 4,
    "rounds": 1,
    "steps": (16, 64),
    "fanouts": (2, 64),
    "bootstrap": 200,
}


def smooth(n, targets, width, epochs, batch_size, **_) -> whence.Study:
    """GELU, average pooling, small logits, large batches."""
    recipe = whence.Recipe(
        partial(smooth_conv_net, (3, 32, 32), 2, width),
        epochs=epochs,
        batch_size=batch_size,
        optimizer=whence.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        subset="weighted",
    )
    return _study(n, targets, recipe, "smooth")


def ordinary(n, targets, width, **_) -> whence.Study:
    """The conv net and the recipe of the other benchmarks."""
    recipe = whence.Recipe(
        partial(conv_net, (3, 32, 32), 2, width),
        epochs=8,
        batch_size=64,
        optimizer=whence.SGD(0.02, momentum=0.9, nesterov=True, weight_decay=5e-4),
        subset="weighted",
    )
    return _study(n, targets, recipe, "ordinary")


def _study(n: int, targets: int, recipe: whence.Recipe, name: str) -> whence.Study:
    data = whence.datasets.cifar10(classes=("cat", "dog"), batches=(1,)).sample(n, targets, seed=0)
    return whence.Study(
        train=(data.train_x, data.train_y),
        targets=(data.test_x, data.test_y),
        recipe=recipe,
        classes=data.classes,
        name=f"CIFAR-2, {name} conv net",
    )


def run(quick: bool = False) -> Result:
    settings = QUICK if quick else FULL
    result = Result("metagradients", settings)
    made = {"smooth": smooth(**settings), "ordinary": ordinary(**settings)}
    banks = {name: _own_seed(name, study, **settings) for name, study in made.items()}
    fresh = _fresh_seeds(made["smooth"], **settings)
    found = {name: _kept(f"{name}-{study.n}", partial(_magic, study)) for name, study in made.items()}
    for name, (scores, _) in found.items():
        score = compare({"MAGIC": scores}, banks[name], bootstrap=settings["bootstrap"]).scores["MAGIC"]
        _row(result, name, "MAGIC", "its own", score, ceiling=1.0)
        if name == "smooth":
            result.claim("same-seed LDS, 5 % left out", score.mean, at_least=0.9, interval=score.interval)
    average = settings["average"]
    candidates = {
        "MAGIC": found["smooth"][0],
        f"mean of {average} seeds": _expected(made["smooth"], average, 1.0),
        f"mean of {average} seeds and halves": _expected(made["smooth"], average, 0.5),
    }
    for method, score in compare(candidates, fresh, bootstrap=settings["bootstrap"]).scores.items():
        _row(result, "smooth", method, "fresh", score, ceiling=score.ceiling)
    for name, study in made.items():
        smoothness = metasmoothness(study, settings["directions"], settings["left_out"])
        low, high = smoothness.interval or (None, None)
        told = found[name][0].provenance
        result.row(
            recipe=name,
            metasmoothness=smoothness.score,
            low=low,
            high=high,
            verdict=smoothness.verdict,
            explained=told["explained"],
            adjoint_growth=told["adjoint_growth"],
            warned=found[name][1]["warned"],
            accuracy=float((banks[name].outputs_of("margin") > 0).mean()),
        )
    _costs(result, made["smooth"], **settings)
    _memory(result, **settings)
    return result


def _magic(study: whence.Study) -> Attribution:
    return MAGIC().attribute(study)


def _row(result: Result, recipe: str, method: str, seeds: str, score: LDS, ceiling: float | None) -> None:
    low, high = score.interval or (None, None)
    result.row(
        recipe=recipe,
        method=method,
        retrained_with=f"{seeds} seed{'s' if seeds == 'fresh' else ''}",
        lds=score.mean,
        low=low,
        high=high,
        ceiling=ceiling,
        masks=score.n_masks,
        seeds=score.seeds,
    )


# --- Retrainings ---


def _own_seed(name: str, study: whence.Study, masks: int, left_out: float, **_) -> whence.Bank:
    return _bank(study, f"metagradients-{name}-{study.n}.zarr", masks, left_out, training_seed=0)


def _fresh_seeds(study: whence.Study, masks: int, seeds: int, left_out: float, **_) -> whence.Bank:
    return _bank(study, f"metagradients-fresh-{study.n}.zarr", masks, left_out, held_out_seeds=seeds)


def _bank(study: whence.Study, name: str, masks: int, left_out: float, **seeds: int) -> whence.Bank:
    """At least so many held-out masks; a bank wants some others too."""
    share = {"held_out": 0.9, "validation": 0.0, "seed": 0}
    each = seeds.get("held_out_seeds", 1)
    plan = whence.Plan(whence.Subsets.uniform(study.n, 1 - left_out), 0.0, 0.9, held_out_seeds=each)
    judging = plan.rows(0, 3 * masks * each).part == 2
    rows = int(np.argmax(np.cumsum(judging) >= masks * each)) + 1
    return whence.retrain(study, rows, keep=1 - left_out, to=RUNS / name, **share, **seeds)


# --- Attributions ---


def _expected(study: whence.Study, average: int, keep: float) -> Attribution:
    """Mean of the derivatives of several runs, none with the seed of the single one."""
    method = MAGIC(1, average=average, keep=keep, check=False)
    return _kept(f"expected-{study.n}-{average}-{keep}", lambda: method.attribute(study))[0]


def _kept(name: str, make: Callable[[], Attribution]) -> tuple[Attribution, dict[str, bool]]:
    """An attribution on disk, and whether making it warned."""
    folder = RUNS / "metagradients-scores"
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{name}.json"
    if not note.exists():
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            make().save(folder / f"{name}.zarr")
        note.write_text(json.dumps({"warned": any("not smooth" in str(w.message) for w in said)}))
    return Attribution.load(folder / f"{name}.zarr"), json.loads(note.read_text())


# --- Cost ---


def _costs(result: Result, study: whence.Study, batch: int, rounds: int, left_out: float, **_) -> None:
    """In retrainings on 95 %, and in trainings on everything, where batch norm takes torch's faster way.

    With memory for the graphs of all steps, and for states only. Each is run once before it is timed, as a
    batch among others would be: a first call has the memory of its graphs to get from the system, which costs
    up to a retraining more and is a column of its own.
    """
    trainer = study.trainer(engine={"stack": 1})
    some = whence.Subsets.uniform(study.n, 1 - left_out, 1).masks([0])
    all_of_them, seed, ids = np.ones((1, study.n), dtype=bool), np.zeros(1, dtype=int), study.target_ids

    def metagradient(memory=2**33, **groups):
        return lambda: MAGIC(check=False, groups=groups, memory=memory).attribute(study)

    tasks = {
        "retraining": lambda: list(trainer.train(some, seed)),
        "training on everything": lambda: list(trainer.train(all_of_them, seed)),
        "one target": metagradient(one=ids[:1]),
        f"batch of {batch}, one by one": metagradient(**{str(i): [i] for i in ids[:batch]}),
        f"batch of {batch}, its mean": metagradient(mean=ids[:batch]),
        f"batch of {batch}, its mean, in 64 MB": metagradient(2**26, mean=ids[:batch]),
        f"four batches of {batch}, their means, in one pass": metagradient(
            **{str(i): np.roll(ids, i)[:batch] for i in range(4)}
        ),
    }
    seconds, before = {name: [] for name in tasks}, {name: [] for name in tasks}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(rounds):
            for name, task in tasks.items():
                for found in (before[name], seconds[name]):
                    start = time.process_time()
                    task()
                    found.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    unit, plain = seconds["retraining"], seconds["training on everything"]
    for name, mine in seconds.items():
        ratios = np.array(mine) / unit
        result.row(
            cost_of=name,
            processor_seconds=float(np.median(mine)),
            retrainings=float(np.median(ratios)),
            least=float(ratios.min()),
            most=float(ratios.max()),
            untimed_call_before=float(np.median(np.array(before[name]) / unit)),
            trainings_on_everything=float(np.median(np.array(mine) / plain)),
        )
    together = np.array(seconds[f"four batches of {batch}, their means, in one pass"]) / plain / 4
    result.claim(
        "cost of each of four batches in one pass, in trainings on everything",
        float(np.median(together)),
        at_most=3,
        interval=(together.min(), together.max()),
    )
    last = np.array(seconds[f"batch of {batch}, its mean"]) / unit
    result.claim(
        "cost of the metagradient of a batch of targets (its mean, graphs kept), in retrainings",
        float(np.median(last)),
        at_most=3,
        interval=(last.min(), last.max()),
    )


# --- Memory ---


def _memory(result: Result, steps: tuple[int, ...], fanouts: tuple[int, ...], **_) -> None:
    """States alive at the most and seconds against the number of steps; no graphs are kept."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for total in steps:
        for fanout in sorted({min(fanout, total) for fanout in fanouts}):
            counting = _Counting(total)
            start = time.process_time()
            differentiate(counting, "margin", [0], fanout=fanout, memory=1)
            depth = max(1, int(np.ceil(np.log(total) / np.log(fanout) - 1e-9)))
            with counting.fork():
                size = state_bytes(counting.start().state)
            result.row(
                steps=total,
                fanout=fanout,
                depth=depth,
                bound=(fanout - 1) * depth + 1,
                states=_Held.most,
                megabytes=_Held.most * size / 1e6,
                steps_trained=counting.advanced,
                processor_seconds=time.process_time() - start,
            )
    torch.set_num_threads(threads)


class _Held(Snapshot):
    """A snapshot that counts how many of its kind there are."""

    alive = most = 0

    def __del__(self) -> None:
        _Held.alive -= 1


class _Counting(Run):
    """A run of so many steps of a perceptron."""

    def __init__(self, steps: int) -> None:
        stream = np.random.default_rng(0)
        x, y = stream.normal(size=(20, 256)).astype(np.float32), np.arange(20) % 2
        optimizer = whence.SGD(0.01, momentum=0.9)
        recipe = whence.Recipe(partial(mlp, 256, 2, (64,)), epochs=steps, batch_size=20, optimizer=optimizer)
        super().__init__(whence.Study((x, y), (x[:1], y[:1]), recipe))
        _Held.alive = _Held.most = self.advanced = 0

    def start(self) -> Snapshot:
        return self._held(super().start())

    def advance(self, at: Snapshot, t: int, weights: torch.Tensor) -> Snapshot:
        self.advanced += 1
        return self._held(super().advance(at, t, weights))

    def _held(self, snapshot: Snapshot) -> Snapshot:
        _Held.alive += 1
        _Held.most = max(_Held.most, _Held.alive)
        return _Held(*snapshot)
