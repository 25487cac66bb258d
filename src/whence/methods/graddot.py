"""Gradient dot product, gradient cosine and TracIn: first-order attributions without any inverse.

Charpiat et al. 2019 (arXiv 2102.05262); Pruthi, Liu, Sundararajan, Kale 2020 (arXiv 2002.08484), equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, provenance
from whence.methods.gradients.check import check
from whence.methods.gradients.checkpoints import Checkpoint, Given, checkpoints, trajectory
from whence.methods.gradients.kernel import dots, pieces_of, squares
from whence.methods.gradients.network import Network


class GradDot(Method):
    """-<gradient of the target's output, gradient of the training loss>: what a step on the example does to
    the output.

    Parameters
    ----------
    checkpoints : a Bank that kept some, state dicts or safetensors files, or a number of models to train
    first : use only so many; scores are means over checkpoints
    device : "cpu", "cuda", ...; default the CPU

    Exact dot products of whole gradients. Right up to scale.
    """

    needs = ("ids", "inputs", "answers", "training")

    def __init__(
        self,
        checkpoints: Given = 1,
        *,
        first: int | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        self._checkpoints = checkpoints
        self.first = first
        self.seed = seed
        self.device = device

    def attribute(self, study: Any, output: str | None = None) -> Attribution:
        """Scores (target, train)."""
        self.require(study, output)
        output = first_output(study, output)
        network = Network(study, output, self.device)
        given, steps = self._given(study)
        total = torch.zeros(len(study.target_ids), study.n)
        for step, checkpoint in zip(steps, given, strict=True):
            check(network.load(checkpoint), network.loss)
            train = pieces_of(network, network.train, network.loss)
            targets = pieces_of(network, network.targets, network.output)
            total -= step * self._product(targets, train).cpu()
        return Attribution(
            total.numpy(),
            target_ids=study.target_ids,
            train_ids=study.train_ids,
            output=output,
            units=f"{output}, up to scale",
            method=f"{self._words} ({len(given)} checkpoint{'s' if len(given) > 1 else ''})",
            provenance=provenance(study, self, checkpoints=[c.name for c in given]),
        )

    _words = "gradient dot product"

    def _given(self, study: Any) -> tuple[list[Checkpoint], Sequence[float]]:
        """Checkpoints, and the factor of each."""
        found = checkpoints(study, self._checkpoints, first=self.first, seed=self.seed, device=self.device)
        return found, [1 / len(found)] * len(found)

    def _product(self, targets: Any, train: Any) -> torch.Tensor:
        return dots(targets, train)


class GradCos(GradDot):
    """The cosine of the two gradients: dot products without the pull of examples with large gradients."""

    _words = "gradient cosine"

    def _product(self, targets: Any, train: Any) -> torch.Tensor:
        sizes = squares(targets).sqrt()[:, None] * squares(train).sqrt()[None]
        return dots(targets, train) / sizes.clamp_min(1e-12)


class TracIn(GradDot):
    """TracInCP: gradient dot products summed over checkpoints of a run, each times its learning rate.

    Parameters
    ----------
    checkpoints : a number of moments, evenly spaced, of one run on everything that is trained here: each
        counts by the recipe's learning rates over the stretch it stands for. Or, as in `GradDot`, a Bank,
        state dicts or files
    rates : learning rate at each checkpoint that is given. Without, all count alike: a bank's checkpoints are
        ends of runs, not moments of one, and rank as `GradDot` ranks them
    seed : of the run trained here
    """

    _words = "TracIn"

    def __init__(
        self,
        checkpoints: Given = 5,
        *,
        rates: Sequence[float] | None = None,
        first: int | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        super().__init__(checkpoints, first=first, seed=seed, device=device)
        self.rates = rates

    def _given(self, study: Any) -> tuple[list[Checkpoint], Sequence[float]]:
        if isinstance(self._checkpoints, int) and self.rates is None:
            found, rates = trajectory(study, self._checkpoints, self.seed, self.device)
            if self.first is not None and not 1 <= self.first <= len(found):
                raise InputError(f"{self.first} checkpoints were asked for, but there are {len(found)}.")
            return found[: self.first], rates[: self.first]
        found, _ = super()._given(study)
        if self.rates is None:
            return found, [1.0] * len(found)
        if len(self.rates) != len(found):
            raise InputError(f"rates has {len(self.rates)} numbers, but there are {len(found)} checkpoints.")
        return found, [float(rate) for rate in self.rates]
