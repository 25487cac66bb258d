"""Unlearning where the answer is known: ridge and logistic regression with exact datamodels.

The retain set has a direction that only the examples to forget have much of. Gradient descent on the retain
set is slow along it, by the condition number of its Hessian; the matching loss sees the forget set, so its
condition number is another. Both go from the same weights by plain gradient descent with the step 1/L, until
predictions at all examples are within 1e-6 (relative) of the retrained model's. How many steps that takes
follows from the spectra of both Hessians, exactly for ridge regression, whose loss is a quadratic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

import whence
from benchmarks.harness import Result
from whence.applications.unlearning import DatamodelMatching, Request, examined
from whence.applications.unlearning.objectives import CentredSquares
from whence.training.finetune import Finetuner

GOAL = 1e-6


@dataclass(frozen=True)
class Problem:
    """A convex study with its optimum on everything and on the retain set, float64 ``(2, d)`` each.

    `hessian` is that of the training loss on the retain set, at its optimum, along centred weights; `decay`
    the weight decay of the training loss, `answers` what training holds the retain set against (None:
    labels).
    """

    name: str
    study: whence.Study
    forget: list[int]
    whole: np.ndarray
    oracle: np.ndarray
    hessian: np.ndarray
    decay: float
    answers: np.ndarray | None

    @property
    def x(self) -> np.ndarray:
        return np.asarray(self.study.train_inputs, np.float64)

    def attribution(self) -> whence.Attribution:
        """The exact effect of the forget set, shared out evenly among its members."""
        effect = self.x @ (self.whole - self.oracle).T
        weight = np.zeros((self.study.n, 2, self.study.n))
        weight[:, :, self.forget] = effect[:, :, None] / len(self.forget)
        return whence.Attribution(
            weight,
            target_ids=self.study.train_ids,
            train_ids=self.study.train_ids,
            output_ids=[0, 1],
            output="logits",
            calibrated=True,
            method="exact",
        )


def data(n: int = 400, d: int = 20, forgotten: int = 10, rare: float = 0.03, seed: int = 0):
    """Features ``(n, d)``, labels and the examples to forget, which alone are long in the last direction."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    x[:, -1] *= rare
    forget = list(range(forgotten))
    x[forget, -1] = rng.choice([-1.0, 1.0], forgotten) * (2 + rng.random(forgotten))
    y = (x @ rng.normal(size=d) + rng.normal(size=n) > 0).astype(np.int64)
    return x.astype(np.float32), y, forget


def study_of(x: np.ndarray, y: np.ndarray, name: str) -> whence.Study:
    recipe = whence.Recipe(
        partial(linear, x.shape[1]), epochs=1, batch_size=len(x), optimizer=whence.SGD(0.1)
    )
    return examined(whence.Study((x, y), (x[:2], y[:2]), recipe, name=name))


def linear(features: int) -> nn.Module:
    return nn.Linear(features, 2, bias=False)


def ridge(decay: float = 1e-3, **options: Any) -> Problem:
    """Squared error of both logits from centred one-hot labels, with weight decay; solved in closed form."""
    x, y, forget = data(**options)
    wide, answers = x.astype(np.float64), np.where(y[:, None] == np.arange(2), 0.5, -0.5)
    kept = np.setdiff1d(np.arange(len(x)), forget)

    def hessian(rows: np.ndarray) -> np.ndarray:
        return wide[rows].T @ wide[rows] / len(rows) + decay * np.eye(wide.shape[1])

    def solve(rows: np.ndarray) -> np.ndarray:
        return np.linalg.solve(hessian(rows), wide[rows].T @ answers[rows] / len(rows)).T

    study = study_of(x, y, "ridge regression")
    return Problem(
        "ridge", study, forget, solve(np.arange(len(x))), solve(kept), hessian(kept), decay, answers[kept]
    )


def logistic(decay: float = 3e-3, **options: Any) -> Problem:
    """Cross-entropy with weight decay, solved by Newton's method."""
    x, y, forget = data(**options)
    wide, sign = x.astype(np.float64), 2.0 * y - 1
    kept = np.setdiff1d(np.arange(len(x)), forget)

    def derivatives(w: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the loss by w, where the logits are -x w / 2 and x w / 2."""
        p = 1 / (1 + np.exp(-sign[rows] * (wide[rows] @ w)))
        gradient = -(wide[rows].T @ (sign[rows] * (1 - p))) / len(rows) + decay / 2 * w
        curved = (wide[rows] * (p * (1 - p))[:, None]).T @ wide[rows] / len(rows)
        return gradient, curved + decay / 2 * np.eye(len(w))

    def solve(rows: np.ndarray) -> np.ndarray:
        w = np.zeros(wide.shape[1])
        for _ in range(100):
            gradient, curved = derivatives(w, rows)
            w = w - np.linalg.solve(curved, gradient)
        return w

    whole, oracle = solve(np.arange(len(x))), solve(kept)

    def both(w: np.ndarray) -> np.ndarray:
        return np.stack([-w / 2, w / 2])

    study = study_of(x, y, "logistic regression")
    # a step along w moves both rows of the weights by half of it: twice the curvature
    return Problem(
        "logistic", study, forget, both(whole), both(oracle), 2 * derivatives(oracle, kept)[1], decay, None
    )


@dataclass(frozen=True)
class Race:
    """Steps to the goal of descent on the retain set and of matching; those that the spectra of the Hessians
    predict; condition numbers of both losses."""

    name: str
    descent: int
    matching: int
    descent_predicted: int
    matching_predicted: int
    descent_condition: float
    matching_condition: float

    @property
    def faster(self) -> float:
        """How many times fewer steps matching takes."""
        return self.descent / self.matching

    @property
    def predicted(self) -> float:
        """The same as predicted."""
        return self.descent_predicted / self.matching_predicted


def race(problem: Problem, forgetting: int = 5, keeping: int = 20, most: int = 200_000) -> Race:
    """Both from the weights trained on everything."""
    request = Request.of(problem.study, problem.forget)
    tuner = Finetuner(problem.study, dtype=torch.float64)
    start = {"weight": torch.as_tensor(problem.whole)}
    method = DatamodelMatching(attribution=problem.attribution(), forgetting=forgetting, keeping=keeping)
    state = tuner.load([start])
    drawn = request.drawn([0], forgetting, keeping * len(problem.forget))
    q = problem.x[drawn[0].numpy()]
    goals = method.targets(tuner, state, request, [0], drawn)
    squares = CentredSquares()
    curved = q.T @ q / len(q)
    kept = request.everywhere(request.retain, 1)
    if problem.answers is None:
        usual: tuple[Any, Any] = (None, None)
    else:
        usual = (torch.as_tensor(problem.answers)[None], squares)
    spectra = [np.linalg.eigvalsh(matrix) for matrix in (problem.hessian, curved)]
    predicted = [predicted_steps(problem, matrix, most) for matrix in (problem.hessian, curved)]

    def run(points, answers, objective, largest, decay):
        def go(state, steps):
            return tuner.teach(
                state, points, answers, objective, [0], epochs=steps, batch_size=points.shape[1],
                optimizer=whence.SGD(1 / largest, weight_decay=decay),
            )  # fmt: skip

        return _steps(problem, tuner, tuner.load([start]), go, most)

    return Race(
        problem.name,
        run(kept, *usual, spectra[0][-1], problem.decay),
        run(drawn, goals, squares, spectra[1][-1], 0.0),
        *predicted,
        float(spectra[0][-1] / spectra[0][0]),
        float(spectra[1][-1] / spectra[1][0]),
    )


def predicted_steps(problem: Problem, hessian: np.ndarray, most: int) -> int:
    """Steps of size 1/L on a quadratic with this Hessian whose minimum is the oracle."""
    values, vectors = np.linalg.eigh(hessian)
    shrink = 1 - values / values[-1]
    error = (problem.whole - problem.oracle) @ vectors

    def left(steps: int) -> float:
        return distance(problem, problem.oracle + (error * shrink**steps) @ vectors.T)

    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if left(middle) < GOAL else (middle + 1, high)
    return low


def distance(problem: Problem, weight: np.ndarray) -> float:
    """Of predictions at all examples from the oracle's, relative to the distance before unlearning."""
    reference = problem.x @ (problem.whole - problem.oracle).T
    return float(np.linalg.norm(problem.x @ (weight - problem.oracle).T) / np.linalg.norm(reference))


def _steps(problem: Problem, tuner: Finetuner, state, go: Callable, most: int) -> int:
    """Steps until the goal, to within 2 %."""
    done = 0
    while done < most:
        chunk = max(1, done // 50)
        state = go(state, chunk)
        done += chunk
        if distance(problem, state.parameters["weight"][0].numpy()) < GOAL:
            return done
    raise RuntimeError(f"{problem.name}: not within {GOAL:g} after {most} steps")


def matched(problem: Problem, **settings: Any) -> float:
    """How far from the oracle `DatamodelMatching` itself ends."""
    method = DatamodelMatching(attribution=problem.attribution(), **settings)
    weights = {"weight": torch.as_tensor(problem.whole)}
    found = method.unlearn([weights], problem.study, problem.forget)
    return distance(problem, found[0]["weight"].numpy())


def measured(result: Result, options: dict[str, Any]) -> None:
    """Both problems: how near matching comes to the exact oracle, and in how many steps."""
    for make in (ridge, logistic):
        problem = make(**options)
        found = race(problem)
        reached = matched(problem, lr=0.1, epochs=2000, decay=0.99, keeping=10)
        result.row(
            convex=found.name, reached=reached,
            descent_steps=found.descent, predicted=found.descent_predicted,
            matching_steps=found.matching, matching_predicted=found.matching_predicted,
            condition_descent=found.descent_condition, condition_matching=found.matching_condition,
        )  # fmt: skip
        result.claim(f"{found.name}: distance of matching from the exact oracle", reached, at_most=1e-6)
        result.claim(
            f"{found.name}: steps of descent over those of matching, as a share of what curvature predicts",
            found.faster / found.predicted,
            at_least=0.8,
        )
