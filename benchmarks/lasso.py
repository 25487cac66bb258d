"""LASSO paths of all targets at once against scikit-learn's lasso_path, one target at a time.

What is compared. Both get the Gram matrix ready made (scikit-learn is several times slower without), the same
penalties and one core, in alternating rounds; then both get all cores, scikit-learn by threads over targets.
scikit-learn's tolerance is the loosest of 1, 2, 5 times powers of ten that still reaches the minimum of the
objective to 1e-6 on every target checked, and ours is held to the same. With the Gram matrix included, each
side makes its own, as fast as it can.

Outputs are made up, since only their statistics matter: per target 40 examples with Laplace effects, small
effects of all examples, and noise, such that the datamodel explains a third of the variance of one retraining
(as it does for small image classifiers).
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from benchmarks.harness import Result, alternate, peak_memory, spread
from whence.methods.regression import lasso, lasso_path, moments
from whence.methods.regression.path import Design
from whence.provenance import usable_cores

SETTINGS = {
    "n": 2000,
    "m": 8000,
    "targets": 200,
    "penalties": 50,
    "ratio": 1e-2,
    "keep": 0.5,
    "validation": 1000,
    "seed": 0,
}
ACCURACY = 1e-6  # relative, of the objective
PLANNED = {"n": 50_000, "m": 300_000, "targets": 10_000}


def made_up(n, m, targets, keep, validation, seed, **_):
    """Masks (m + validation, n) of fixed size and outputs (m + validation, targets) float32."""
    generator = np.random.default_rng(seed)
    masks = np.argsort(generator.random((m + validation, n)), axis=1) < round(keep * n)
    effects = 0.015 * generator.standard_normal((n, targets))
    for target in range(targets):
        effects[generator.choice(n, 40, replace=False), target] += generator.laplace(0, 0.15, 40)
    noise = generator.standard_normal((m + validation, targets))
    outputs = (
        masks.astype(np.float32) @ effects.astype(np.float32) + 2 * generator.standard_normal(targets) + noise
    )
    return masks[:m], outputs[:m].astype(np.float32), masks[m:], outputs[m:].astype(np.float32)


class ScikitLearn:
    """lasso_path on centred data with a shared Gram matrix: as good as scikit-learn gets at many targets."""

    def __init__(self, masks, outputs, penalties):
        self.x = np.asfortranarray(masks - masks.mean(0))
        self.y = np.asfortranarray(outputs.astype(np.float64) - outputs.mean(0, dtype=np.float64))
        self.gram = self.x.T @ self.x
        self.xy = np.asfortranarray(self.x.T @ self.y)
        self.penalties = penalties  # (t, k)

    def path(self, target, tol, precompute=True, count=None):
        """(k, n) weights of one target."""
        from sklearn.linear_model import lasso_path

        shared = {"precompute": self.gram, "Xy": self.xy[:, target]} if precompute else {"precompute": False}
        alphas = self.penalties[target, :count]
        _, weight, _ = lasso_path(
            self.x,
            self.y[:, target],
            alphas=alphas,
            copy_X=False,
            check_input=False,
            tol=tol,
            max_iter=10_000,
            **shared,
        )
        return weight.T

    def objective(self, target, weight):
        """(k,) of (k, n) weights, in float64."""
        m = len(self.x)
        q, gram = self.xy[:, target] / m, self.gram / m
        smooth = (
            self.y[:, target] @ self.y[:, target] / m / 2 - weight @ q + ((weight @ gram) * weight).sum(1) / 2
        )
        return smooth + self.penalties[target] * np.abs(weight).sum(1)


def run(quick: bool = False) -> Result:
    settings = SETTINGS  # also when quick: smaller problems fit in cache, which is another race
    cores = usable_cores()
    masks, outputs, v_masks, v_outputs = made_up(**settings)
    targets, count, ratio = settings["targets"], settings["penalties"], settings["ratio"]
    result = Result("lasso", dict(settings, accuracy=ACCURACY))

    torch.set_num_threads(1)
    train = moments(masks, outputs)
    path = {"penalties": count, "ratio": ratio}
    penalties, weights, _ = lasso_path(train, **path)
    theirs = ScikitLearn(masks, outputs, penalties)

    # 1. Accuracy, and the tolerance at which scikit-learn has the same.
    checked = np.unique(np.linspace(0, targets - 1, 8 if quick else targets).astype(int))
    best = {t: theirs.objective(t, theirs.path(t, 1e-9)) for t in checked}
    ours_off = max(_excess(theirs.objective(t, weights[t].astype(np.float64)), best[t]) for t in checked)
    few = checked[:: max(len(checked) // 40, 1)]
    for tol in (1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 1e-5, 1e-6):
        theirs_off = max(_excess(theirs.objective(t, theirs.path(t, tol)), best[t]) for t in few)
        if theirs_off <= ACCURACY:
            break
    result.row(solver="whence", objective_above_minimum=ours_off, targets_checked=len(checked), tol=None)
    result.row(solver="scikit-learn", objective_above_minimum=theirs_off, targets_checked=len(few), tol=tol)
    result.claim("objective as scikit-learn's, relative", ours_off, at_most=ACCURACY)

    # 2. Time per target, alternating, on one core and on all.
    rounds = 3 if quick else 7
    some = checked[:: max(len(checked) // (4 * cores), 1)][: 4 * cores]
    start = time.perf_counter()
    theirs.path(0, tol, precompute=False)
    without = time.perf_counter() - start
    tasks = {
        "whence": lambda: lasso_path(train, **path),
        "scikit-learn": lambda: [theirs.path(t, tol) for t in some],
    }
    one = _per_target(tasks, rounds, targets, len(some), 1)
    with ThreadPoolExecutor(cores) as pool:
        tasks["scikit-learn"] = lambda: list(pool.map(lambda t: theirs.path(t, tol), some))
        every = _per_target(tasks, rounds, targets, len(some), cores)
    for name, seconds in (("1 core", one), (f"{cores} cores", every)):
        ratios = seconds["scikit-learn"] / seconds["whence"]
        for solver, values in seconds.items():
            middle, low, high = (1e3 * value for value in spread(values))
            result.row(
                what="path, Gram given", cores=name, solver=solver, ms_per_target=middle, low=low, high=high
            )
        middle, low, high = spread(ratios)
        result.claim(
            f"times faster than lasso_path per target, {name}", middle, at_least=20, interval=(low, high)
        )
    result.row(
        what="path, no Gram (once)",
        cores="1 core",
        solver="scikit-learn",
        ms_per_target=1e3 * without,
        low=0.0,
        high=0.0,
    )

    # 3. The same with the Gram matrix, which each side makes for all targets.
    torch.set_num_threads(1)
    grams = alternate(
        {
            "whence": lambda: moments(masks, outputs),
            "scikit-learn": lambda: ScikitLearn(masks, outputs, penalties),
        },
        2 if quick else 3,
    )
    totals = {name: one[name] + np.median(grams[name]) / targets for name in one}
    for solver, values in totals.items():
        middle, low, high = (1e3 * value for value in spread(values))
        result.row(
            what="path and Gram", cores="1 core", solver=solver, ms_per_target=middle, low=low, high=high
        )
    middle, low, high = spread(totals["scikit-learn"] / totals["whence"])
    result.claim(
        "times faster with making the Gram matrix, 1 core", middle, at_least=20, interval=(low, high)
    )

    # 4. All that a datamodel needs: choosing on validation, early stopping, refit on both parts.
    fits = {}
    for name, stop in (("early stopping", True), ("no early stopping", False)):
        start = time.perf_counter()
        fits[name] = lasso(masks, outputs, v_masks, v_outputs, early_stopping=stop, **path)
        taken = time.perf_counter() - start
        result.row(
            whole_fit=name,
            cores=1,
            ms_per_target=1e3 * taken / targets,
            nonzeros=float(fits[name].diagnostics["nonzeros"].mean()),
            validation_error=float(fits[name].diagnostics["validation_error"].mean()),
            largest_gap=float(fits[name].diagnostics["gap"].max()),
        )
    stops = np.argmin(np.abs(penalties - fits["early stopping"].diagnostics["penalty"][:, None]), axis=1) + 6
    start = time.perf_counter()
    for t in some:
        theirs.path(t, tol, count=int(stops[t]))
    result.row(
        truncated="scikit-learn, path only, told where to stop",
        ms_per_target=1e3 * (time.perf_counter() - start) / len(some),
    )

    # 5. Memory, and what a datamodel study of the published size would take.
    memory = peak_memory(_task, masks, outputs, v_masks, v_outputs, path)
    result.row(peak_memory_mb=memory / 2**20, of="whole fit, above masks and outputs")
    result.rows += planned(one["whence"], grams["whence"], settings, train)
    return result


def planned(seconds: np.ndarray, gram: np.ndarray, settings: dict, train) -> list[dict]:
    """Memory and hours of a large study, from the rates measured here (planned, not run)."""
    n, m, t = PLANNED["n"], PLANNED["m"], PLANNED["targets"]
    gram_flops = 2.0 * m * n * n
    gram_rate = 2.0 * settings["m"] * settings["n"] ** 2 / float(np.median(gram))
    # A sweep costs at most a product with G: 2 n^2 a target. Measured time over measured rate gives the
    # number of products a path is worth; the same number is assumed for the large one, though its paths stop
    # while sparse.
    design = Design(train)
    x = torch.randn(256, settings["n"])
    rate = 2.0 * 256 * settings["n"] ** 2 / _seconds(lambda: x @ design.gram)
    products = float(np.median(seconds)) * rate / (2.0 * settings["n"] ** 2)
    path_flops = products * 2.0 * n * n * t
    return [
        _plan("Gram matrix, float64 then float32", n * n * 8, gram_flops, gram_rate),
        _plan(f"paths, {products:.0f} products a target", n * n * 4, path_flops, rate),
        _plan("state of 256 targets at a time", 8 * 256 * n * 4, 0.0, 1.0),
    ]


def _plan(what: str, memory: float, flops: float, rate: float) -> dict:
    return {"planned": what, "memory_gb": memory / 1e9, "flops": flops, "hours_1_core": flops / rate / 3600}


def _excess(objective: np.ndarray, minimum: np.ndarray) -> float:
    """How far above the minimum, relative, at the worst penalty."""
    return float(((objective - minimum) / minimum).max())


def _per_target(tasks, rounds, targets, some, threads):
    torch.set_num_threads(threads)
    seconds = alternate(tasks, rounds)
    return {"whence": seconds["whence"] / targets, "scikit-learn": seconds["scikit-learn"] / some}


def _seconds(task, repeats=5):
    task()
    start = time.perf_counter()
    for _ in range(repeats):
        task()
    return (time.perf_counter() - start) / repeats


def _task(masks, outputs, v_masks, v_outputs, path):
    lasso(masks, outputs, v_masks, v_outputs, **path)
