"""Similarity of features: the baseline that looks at examples instead of training on them.

Hanawa et al. 2021 (arXiv 2006.04528) compare such measures; signing them by class makes them guesses of
helpfulness. Exemplar SVM and conditioning on the class: Singla et al. 2023 (arXiv 2311.03386), section 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from torch import nn

from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods.base import Method, first_output, lacking, provenance, signed_by_class

Features = str | tuple[np.ndarray, np.ndarray] | Callable[[Any], Any]
METRICS = ("cosine", "dot", "l2", "svm")
LAYER = "layer:"


class Similarity(Method):
    """Scores by likeness of training example and target.

    Parameters
    ----------
    features : "pixels" (the inputs, flattened), "penultimate" or "layer:NAME" (of one network trained on
        everything, NAME as in its named_modules), an encoder (a torch.nn.Module, given what the study's
        network is given), a pair of arrays (train (n, d), targets (t, d)), or a function study -> such a
        pair, as in `whence.methods.encoders`
    metric : "cosine", "dot", "l2" (minus the distance; 1/(1 + distance) where signed) or "svm" (the decision
        value of a linear SVM that tells the target from all training examples; needs scikit-learn)
    signed : True scores examples of the target's class positively and all others negatively, the likest most;
        None does so where the study has labels
    class_conditioned : score examples of the target's class only, all others 0; an SVM then tells the target
        from its own class
    seed : of the network whose features are taken

    Scores are right at most up to scale. For outputs where lower is better (loss) the sign is turned.
    """

    needs = ("ids",)

    def __init__(
        self,
        features: Features = "pixels",
        metric: Literal["cosine", "dot", "l2", "svm"] = "cosine",
        *,
        signed: bool | None = None,
        class_conditioned: bool = False,
        seed: int = 0,
    ) -> None:
        if metric not in METRICS:
            raise InputError(f"metric is {metric!r}, but it must be one of {', '.join(METRICS)}.")
        known = ("pixels", "penultimate")
        if isinstance(features, str) and features not in known and not features.startswith(LAYER):
            raise InputError(
                f'features is {features!r}, but it must be "pixels", "penultimate", "layer:NAME", an '
                "encoder, arrays or a function."
            )
        if signed and class_conditioned:
            raise InputError(
                "signed and class_conditioned are both True, but one scores other classes negatively and the "
                "other not at all; choose one."
            )
        self.features = features
        self.metric = metric
        self.signed = signed
        self.class_conditioned = class_conditioned
        self.seed = seed

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        lacks = super().missing(source, output)
        also: tuple[str, ...] = ()
        if isinstance(self.features, str):
            also = ("inputs",) if self.features == "pixels" else ("training",)
        elif isinstance(self.features, nn.Module):
            also = ("inputs",)
        if self.signed or self.class_conditioned:
            also = (*also, "labels")
        return lacks + lacking(source, also)

    def attribute(self, source: Any, output: str | None = None) -> Attribution:
        """Scores (target, train) for a Study (a Bank will do if features are arrays)."""
        self.require(source, output)
        output = first_output(source, output)
        train, targets = feature_pair(source, self.features, self.seed)
        same = None
        if self.class_conditioned:
            same = np.asarray(source.target_labels)[:, None] == np.asarray(source.train_labels)[None]
        if self.metric == "svm":
            scores = exemplar_svm(train, targets, same)
        else:
            scores = similarity(train, targets, self.metric)
        how = ""
        if same is not None:
            scores, how = np.where(same, _nonnegative(scores, self.metric, same), 0), ", own class"
        elif self.signed is not False:
            # Likeness is made non-negative first, so that the class decides the sign.
            likeness, signed = signed_by_class(_nonnegative(scores, self.metric), source, self.signed)
            if signed:
                scores, how = likeness, ", signed by class"
        kind = self.features if isinstance(self.features, str) else "given features"
        attribution = Attribution(
            np.asarray(scores, np.float32),
            target_ids=source.target_ids,
            train_ids=source.train_ids,
            output=output,
            units="decision value" if self.metric == "svm" else f"{self.metric} similarity",
            method=f"similarity ({kind}, {self.metric}{how})",
            provenance=provenance(source, self, features=kind),
        )
        if attribution.lower_is_better:
            attribution.data["weight"] = -attribution.data["weight"]
        return attribution

    def __repr__(self) -> str:
        kind = self.features if isinstance(self.features, str) else "..."
        return (
            f"Similarity(features={kind!r}, metric={self.metric!r}, signed={self.signed}, "
            f"class_conditioned={self.class_conditioned}, seed={self.seed})"
        )


def feature_pair(source: Any, features: Features, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) of the training examples and (t, d) of the targets, float32.

    features, seed : as in `Similarity`.

    Raises
    ------
    InputError : features of another number of examples, in two spaces, or not finite.
    """
    if isinstance(features, str) and features == "pixels":
        pair: Any = (source.train_inputs, source.target_inputs)
    elif isinstance(features, str):
        from whence.training import features as of_network

        layer = features.removeprefix(LAYER) if features.startswith(LAYER) else None
        pair = of_network(source, seed=seed, layer=layer)
    elif isinstance(features, nn.Module):
        from whence.training.single import encode

        pair = encode(source, features)
    elif callable(features):
        pair = features(source)
    else:
        pair = features
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise InputError(
            "features must give a pair of arrays, of the training examples and of the targets, received "
            f"{type(pair).__name__}."
        )
    train, targets = (_rows(array) for array in pair)
    expected = len(source.train_ids), len(source.target_ids)
    if (len(train), len(targets)) != expected or train.shape[1] != targets.shape[1]:
        raise InputError(
            f"features have shapes {train.shape} and {targets.shape}, but there are {expected[0]} "
            f"training examples and {expected[1]} targets, in one feature space."
        )
    if not (np.isfinite(train).all() and np.isfinite(targets).all()):
        raise InputError("features hold NaN or infinite values; look at what the encoder is given.")
    return train, targets


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


def exemplar_svm(
    train: np.ndarray, targets: np.ndarray, against: np.ndarray | None = None, cost: float = 0.1
) -> np.ndarray:
    """(t, n) decision values, float32: for each target a linear SVM with that target as its one positive.

    against (t, n) bool says which training examples are its negatives (default all). The two sides weigh the
    same; settings are those of Singla et al.: squared hinge, tolerance 1e-6. One fit per target, O(n d) each.
    """
    try:
        from sklearn.svm import LinearSVC
    except ImportError:
        raise InputError("metric \"svm\" needs scikit-learn; pip install 'whence[sklearn]'.") from None
    scores = np.empty((len(targets), len(train)), np.float32)
    for i, target in enumerate(targets):
        negatives = train if against is None else train[against[i]]
        if not len(negatives):
            scores[i] = 0
            continue
        svm = LinearSVC(
            C=cost, class_weight="balanced", tol=1e-6, max_iter=10_000, dual="auto", random_state=0
        )
        svm.fit(np.vstack([target[None], negatives]), np.arange(len(negatives) + 1) == 0)
        scores[i] = svm.decision_function(train)
    return scores


def _nonnegative(scores: np.ndarray, metric: str, among: np.ndarray | None = None) -> np.ndarray:
    """Scores made 0 or more in each row; `among` (t, n) bool says which entries will be used."""
    if metric == "l2":
        return 1 / (1 - scores)
    lowest = scores if among is None else np.where(among, scores, scores.max(axis=1, keepdims=True))
    return np.maximum(scores - lowest.min(axis=1, keepdims=True), 0)


def _rows(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    array = np.asarray(array)
    return array.reshape(len(array), -1).astype(np.float32)
