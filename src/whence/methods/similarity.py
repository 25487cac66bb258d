"""Similarity of features: the baseline that looks at examples instead of training on them.

Hanawa et al. 2021 (arXiv 2006.04528) compare such measures; signing them by class makes them guesses of
helpfulness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, lacking, provenance

Features = Literal["pixels", "penultimate"] | tuple[np.ndarray, np.ndarray] | Callable[[Any], tuple[Any, Any]]
METRICS = ("cosine", "dot", "l2")


class Similarity(Method):
    """Scores by likeness of training example and target.

    Parameters
    ----------
    features : "pixels" (the inputs, flattened), "penultimate" (of one network trained on everything), a pair
        of arrays (train (n, d), targets (t, d)), or a function study -> such a pair
    metric : "cosine", "dot" or "l2" (minus the distance; 1/(1 + distance) where signed)
    signed : True scores examples of the target's class positively and all others negatively, the likest most;
        None does so where the study has labels
    seed : of the network whose penultimate features are taken

    Scores are right at most up to scale. For outputs where lower is better (loss) the sign is turned.
    """

    needs = ("ids",)

    def __init__(
        self,
        features: Features = "pixels",
        metric: Literal["cosine", "dot", "l2"] = "cosine",
        *,
        signed: bool | None = None,
        seed: int = 0,
    ) -> None:
        if metric not in METRICS:
            raise InputError(f"metric is {metric!r}, but it must be one of {', '.join(METRICS)}.")
        if isinstance(features, str) and features not in ("pixels", "penultimate"):
            raise InputError(
                f'features is {features!r}, but it must be "pixels", "penultimate", arrays or a function.'
            )
        self.features = features
        self.metric = metric
        self.signed = signed
        self.seed = seed

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        lacks = super().missing(source, output)
        also = {"pixels": ("inputs",), "penultimate": ("training",)}.get(str(self.features), ())
        if self.signed:
            also = (*also, "labels")
        return lacks + lacking(source, also)

    def attribute(self, source: Any, output: str | None = None) -> Attribution:
        """Scores (target, train) for a Study (a Bank will do if features are arrays)."""
        self.require(source, output)
        output = first_output(source, output)
        train, targets = self._features(source)
        scores = similarity(train, targets, self.metric)
        signed = self.signed
        if signed is None:
            signed = all(
                getattr(source, name, None) is not None for name in ("train_labels", "target_labels")
            )
        if signed:
            same = np.asarray(source.target_labels)[:, None] == np.asarray(source.train_labels)[None]
            # Likeness is made non-negative first, so that the class decides the sign.
            scores = np.where(same, 1, -1) * _nonnegative(scores, self.metric)
        kind = self.features if isinstance(self.features, str) else "given features"
        attribution = Attribution(
            scores,
            target_ids=source.target_ids,
            train_ids=source.train_ids,
            output=output,
            units=f"{self.metric} similarity",
            method=f"similarity ({kind}, {self.metric}{', signed by class' if signed else ''})",
            provenance=provenance(source, self, features=kind),
        )
        if attribution.lower_is_better:
            attribution.data["weight"] = -attribution.data["weight"]
        return attribution

    def _features(self, source: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.features == "pixels":
            pair = source.train_inputs, source.target_inputs
        elif self.features == "penultimate":
            from whence.training import features

            pair = features(source, seed=self.seed)
        elif callable(self.features):
            pair = self.features(source)
        else:
            pair = self.features
        train, targets = (_rows(array) for array in pair)
        expected = len(source.train_ids), len(source.target_ids)
        if (len(train), len(targets)) != expected or train.shape[1] != targets.shape[1]:
            raise InputError(
                f"features have shapes {train.shape} and {targets.shape}, but there are {expected[0]} "
                f"training examples and {expected[1]} targets, in one feature space."
            )
        return train, targets

    def __repr__(self) -> str:
        kind = self.features if isinstance(self.features, str) else "..."
        return (
            f"Similarity(features={kind!r}, metric={self.metric!r}, signed={self.signed}, seed={self.seed})"
        )


def similarity(train: np.ndarray, targets: np.ndarray, metric: str = "cosine") -> np.ndarray:
    """(t, n) likeness of rows of `targets` (t, d) to rows of `train` (n, d), float32."""
    if metric == "cosine":
        train, targets = (
            x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (train, targets)
        )
    products = targets @ train.T
    if metric != "l2":
        return products
    squares = np.square(targets).sum(1)[:, None] + np.square(train).sum(1)[None] - 2 * products
    return -np.sqrt(np.maximum(squares, 0))


def _nonnegative(scores: np.ndarray, metric: str) -> np.ndarray:
    if metric == "l2":
        return 1 / (1 - scores)
    return scores - scores.min(axis=1, keepdims=True)


def _rows(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    array = np.asarray(array)
    return array.reshape(len(array), -1).astype(np.float32)
