"""Metasmoothness: whether training is smooth enough in the weights of its examples for metagradients, told
from three trainings.

Engstrom et al. 2025 (arXiv 2503.13751), section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from whence.errors import InputError
from whence.evaluate.intervals import mean_interval
from whence.evaluate.result import Result, with_interval
from whence.methods.metagradient import REMEDY
from whence.training.run import Run

if TYPE_CHECKING:
    from whence.study import Study

GO, NO_GO = 0.9, 0.6


@dataclass(frozen=True)
class Metasmoothness(Result):
    """Whether the parameters keep moving the same way as example weights move on; 1 is perfectly smooth.

    Attributes
    ----------
    score : mean over directions. interval : 95 % interval of it (Student's t), None for one direction.
    per_direction : ``(directions,)`` scores, each in [-1, 1].
    left_out : the step is as long as leaving this share of the examples out.
    trainings : how many runs it took. n : training examples. seed : training seed of all runs.
    """

    score: float
    interval: tuple[float, float] | None
    per_direction: np.ndarray
    left_out: float
    trainings: int
    n: int
    seed: int

    @property
    def verdict(self) -> str:
        """ "go", "doubtful" or "no-go".

        Go from 0.9 on (the lower end of the interval), no-go below 0.6. The marks were set between 15 recipes
        on 1,000 images of CIFAR-10, one seed each, whose metagradients were held against 24 retrainings with
        5 % left out: scores above 0.96 went with same-seed LDS of 0.87 to 0.99 (seven recipes, all smooth),
        0.85 and 0.73 with 0.92 and 0.91; below 0.6 there were 0.48 with 0.86, 0.16 with 0.67 and four with
        0.31 and less, batch norm with ReLU and momentum among them.
        """
        low = self.score if self.interval is None else self.interval[0]
        return "go" if low >= GO else "no-go" if self.score < NO_GO else "doubtful"

    @property
    def reason(self) -> str:
        """The verdict's reason, and what to do about it."""
        if self.verdict == "go":
            return (
                "nearly all parameters go on in the direction in which a change of the examples' weights "
                "first moves them, so derivatives by weights say what larger changes do"
            )
        share = (1 - self.score) / 2
        why = (
            f"{share:.0%} of the movement of the parameters turns back when a change of the weights of "
            "examples is doubled, so derivatives by weights say little of larger changes"
        )
        if self.verdict == "no-go":
            return f"{why}; {REMEDY}, and set eps_root for Adam"
        return f"{why}; check MAGIC by whence.evaluate.lds on retrainings with its seed, or {REMEDY}"

    def __str__(self) -> str:
        count = len(self.per_direction)
        return (
            f"Metasmoothness {with_interval(self.score, self.interval)}: {self.verdict}. "
            f"{self.reason[0].upper()}{self.reason[1:]}.\n"
            f"n={self.n:,}, {count} direction{'s' if count > 1 else ''} as long as leaving "
            f"{self.left_out:.0%} out, {self.trainings} trainings with seed {self.seed}"
        )


def metasmoothness(
    study: Study,
    directions: int = 3,
    left_out: float = 0.05,
    seed: int = 0,
    device: str | None = None,
) -> Metasmoothness:
    """Test whether metagradients (`whence.methods.MAGIC`) can work on the recipe of `study`, without any.

    Three runs with the example weights 1, ``1 + h v`` and ``1 + 2 h v`` end in the parameters a, b and c,
    where v is normal. The score is the mean over parameters of ``sign(b - a) sign(c - b)``, each weighted by
    ``|c - a|``. The published score leaves h open; here ``2 h v`` is as long as leaving out `left_out` of the
    examples, for a recipe can be smooth for tiny changes and not for those that are asked about.

    Parameters
    ----------
    study : with a Recipe; its runs are those of ``subset="weighted"``.
    directions : number of random v; each takes two trainings, and the first one more.
    left_out : share of the examples whose leaving out sets the step.
    seed : training seed of all runs, and of the directions.
    device : "cpu", "cuda", ...; default the CPU.

    Raises
    ------
    InputError : no Recipe, fewer than 1 direction, a share outside (0, 1), parameters that are not finite.
    """
    if directions < 1:
        raise InputError(f"directions must be at least 1, received {directions}.")
    if not 0 < left_out < 1:
        raise InputError(f"left_out must lie in (0, 1), received {left_out}.")
    run = Run(study, seed, device=device)
    step = math.sqrt(left_out) / 2
    stream = np.random.default_rng(seed)
    start = _parameters(run, np.ones(run.n))
    scores = []
    for _ in range(directions):
        v = stream.normal(size=run.n)
        middle, end = (_parameters(run, 1 + times * step * v) for times in (1, 2))
        scores.append(_agreement(start, middle, end))
    mean, interval = float(np.mean(scores)), None
    if directions > 1:
        low, high = mean_interval(np.array(scores))[1]
        interval = (max(low, -1.0), min(high, 1.0))
    return Metasmoothness(mean, interval, np.array(scores), left_out, 2 * directions + 1, run.n, seed)


def _parameters(run: Run, weights: np.ndarray) -> torch.Tensor:
    found = torch.cat([p.flatten().double() for p in run.final(weights).parameters.values()])
    if not torch.isfinite(found).all():
        raise InputError(
            f"training with seed {run.seed} ends in parameters that are not finite; lower the learning rate."
        )
    return found


def _agreement(start: torch.Tensor, middle: torch.Tensor, end: torch.Tensor) -> float:
    """In [-1, 1]; 1 where nothing moves."""
    moved = (end - start).abs()
    if not moved.any():
        return 1.0
    return float((moved * torch.sign(middle - start) * torch.sign(end - middle)).sum() / moved.sum())
