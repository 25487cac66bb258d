"""What is being studied: a training set, a set of targets, a way to train, an output to explain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whence.errors import InputError
from whence.provenance import fingerprint
from whence.study._examples import Examples, make_ids
from whence.study.outputs import check_outputs

if TYPE_CHECKING:
    from whence.study.recipe import Recipe
    from whence.study.trainer import Trainer


class Study:
    """A training set, targets, a recipe and the outputs to explain.

    Parameters
    ----------
    train, targets : pairs ``(inputs, labels)``. Inputs are uint8 images ``(n, H, W)`` or ``(n, H, W, C)``,
        float features ``(n, ...)`` (images channel-first), or integer tokens ``(n, length)``; labels are
        integers ``(n,)``, or with a loss of the recipe's own the answers that it takes: finite numbers ``(n,
        ...)``, integers or floats.
    recipe : `Recipe`, how one model is trained.
    outputs : names of what to record for every target: "margin", "margin_max", "loss", "probability",
        "logits" (default: the margin); "loss" alone with a loss of the recipe's own.
    train_ids, target_ids : unique names (int or str) of the examples; by default ``0..n-1`` and ``0..t-1``.
    classes : names of the classes, by label.
    name : a title for reports.
    texts : pair (training texts, targets' texts) of strings that were made into the inputs, for methods that
        read words; the training never sees them.

    See Also
    --------
    from_function, from_estimator, from_training_function : studies of anything else that can be trained.
    """

    def __init__(
        self,
        train: tuple[Any, Any],
        targets: tuple[Any, Any],
        recipe: Recipe,
        outputs: Sequence[str] | None = None,
        *,
        train_ids: Sequence[Any] | None = None,
        target_ids: Sequence[Any] | None = None,
        classes: Sequence[str] | None = None,
        name: str = "study",
        texts: tuple[Sequence[str], Sequence[str]] | None = None,
    ) -> None:
        from whence.study.recipe import Recipe as RecipeClass

        if not isinstance(recipe, RecipeClass):
            raise InputError(
                f"recipe must be a whence.Recipe, received {type(recipe).__name__}; for another way to "
                "train see Study.from_function, from_estimator and from_training_function."
            )
        kind: Literal["labels", "answers"] = "labels" if recipe.loss is None else "answers"
        self._setup(
            Examples.of(train, "train", kind),
            Examples.of(targets, "targets", kind),
            train_ids,
            target_ids,
            classes,
            name,
        )
        self.train_texts, self.target_texts = self._check_texts(texts)
        self.recipe: Recipe | None = recipe
        self.outputs = check_outputs(outputs, recipe.loss)
        self._make_trainer: Callable[..., Trainer] | None = None
        self._method = {"kind": "recipe", **recipe.describe()}

    def _setup(
        self,
        train: Examples,
        targets: Examples,
        train_ids: Sequence[Any] | None,
        target_ids: Sequence[Any] | None,
        classes: Sequence[str] | None,
        name: str,
    ) -> None:
        self.train, self.targets, self.name = train, targets, name
        self.n = len(train)
        if self.n < 2:
            raise InputError(f"train must have at least 2 examples, received {self.n}.")
        if len(targets) < 1:
            raise InputError(
                "targets is empty; pass at least one example whose prediction is to be explained."
            )
        targets.check_like(train)
        self.train_ids = make_ids(train_ids, self.n, "train_ids")
        self.target_ids = make_ids(target_ids, len(targets), "target_ids")
        self.classes = None if classes is None else [str(c) for c in classes]
        self.class_count = self._count_classes()

    # The texts that were made into inputs, where there were any: str (n,) and (targets,).
    train_texts: np.ndarray | None = None
    target_texts: np.ndarray | None = None

    def _check_texts(self, texts: tuple[Sequence[str], Sequence[str]] | None) -> Any:
        if texts is None:
            return None, None
        train, targets = (np.asarray(part) for part in texts)
        if (train.shape, targets.shape) != ((self.n,), (len(self.targets),)) or "U" != train.dtype.kind:
            raise InputError(
                f"texts must be {self.n} strings for train and {len(self.targets)} for targets, received "
                f"arrays of shape {train.shape} and {targets.shape}, dtype {train.dtype}."
            )
        return train, targets

    def _count_classes(self) -> int | None:
        if self.train.labels is None:
            return None
        count = len(self.classes) if self.classes else int(self.train.labels.max()) + 1
        for examples, argument in ((self.train, "train"), (self.targets, "targets")):
            labels = examples.labels
            if labels is not None and (labels.min() < 0 or labels.max() >= count):
                wrong = int(labels.min() if labels.min() < 0 else labels.max())
                raise InputError(
                    f"{argument} has label {wrong}, but labels must lie in 0..{count - 1} for {count} "
                    f"classes{' (' + ', '.join(self.classes[:4]) + ', ...)' if self.classes else ''}."
                )
        if count < 2:
            raise InputError(
                "train has one class only, so there is nothing to predict; pass at least two classes, or "
                "name them all in `classes`."
            )
        return count

    @classmethod
    def from_function(
        cls,
        function: Callable[[np.ndarray, int], Any],
        *,
        n: int,
        targets: int | Sequence[Any],
        outputs: Sequence[str] = ("output",),
        train_ids: Sequence[Any] | None = None,
        name: str = "study",
    ) -> Study:
        """A study of anything: ``function(mask, seed)`` trains on the examples where the boolean ``mask``
        ``(n,)`` is True and returns one number per target, or a dict of such arrays with the names in
        `outputs`.

        Parameters
        ----------
        n : number of training examples.
        targets : number of targets, or their ids.
        """
        from whence.study.adapters import FunctionTrainer

        ids = None if isinstance(targets, int) else list(targets)
        count = targets if isinstance(targets, int) else len(targets)
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        return cls._adapted(
            function,
            lambda study, device: FunctionTrainer(study, function),
            Examples.blank(n),
            Examples.blank(count),
            names,
            "function",
            train_ids=train_ids,
            target_ids=ids,
            name=name,
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        train: tuple[Any, Any],
        targets: tuple[Any, Any],
        outputs: Sequence[str] | None = None,
        **names: Any,
    ) -> Study:
        """A study of a scikit-learn estimator, cloned and fitted on each subset.

        Classifiers with ``predict_proba`` offer the outputs of `Study`, with logits read as
        log-probabilities; regressors offer "prediction" and "squared_error". Every ``random_state``
        parameter, also of nested estimators, is set from the training seed.
        """
        from whence.study._describe import describe_value
        from whence.study.adapters import EstimatorTrainer, estimator_outputs

        classifier = hasattr(estimator, "predict_proba")
        chosen = estimator_outputs(estimator, classifier, outputs)
        examples = (
            Examples.of(train, "train", kind="labels" if classifier else "values"),
            Examples.of(targets, "targets", kind="labels" if classifier else "values"),
        )
        method = {
            "estimator": f"{type(estimator).__module__}.{type(estimator).__qualname__}",
            "parameters": describe_value(estimator.get_params(deep=False)),
        }
        return cls._adapted(
            method,
            lambda study, device: EstimatorTrainer(study, estimator),
            *examples,
            chosen,
            "estimator",
            **names,
        )

    @classmethod
    def from_training_function(
        cls,
        function: Callable[..., Any],
        train: tuple[Any, Any],
        targets: tuple[Any, Any],
        outputs: Sequence[str] = ("margin",),
        **names: Any,
    ) -> Study:
        """A study of your own PyTorch loop: ``function(inputs, labels, seed)`` gets the kept examples as
        tensors, trains and returns the network (or any function from inputs to logits); whence computes the
        outputs from it. float64 inputs, NumPy's default, arrive in torch's default dtype; others as they
        are."""
        from whence.study.adapters import LoopTrainer

        return cls._adapted(
            function,
            lambda study, device: LoopTrainer(study, function, device),
            Examples.of(train, "train"),
            Examples.of(targets, "targets"),
            check_outputs(tuple(outputs)),
            "training function",
            **names,
        )

    @classmethod
    def _adapted(
        cls,
        method: Any,
        make_trainer: Callable[[Study, Any], Trainer],
        train: Examples,
        targets: Examples,
        outputs: tuple[str, ...],
        kind: str,
        *,
        train_ids: Sequence[Any] | None = None,
        target_ids: Sequence[Any] | None = None,
        classes: Sequence[str] | None = None,
        name: str = "study",
    ) -> Study:
        from whence.study._describe import describe_callable

        study = cls.__new__(cls)
        study._setup(train, targets, train_ids, target_ids, classes, name)
        study.recipe, study.outputs = None, outputs
        study._make_trainer = make_trainer
        study._method = {"kind": kind, "detail": describe_callable(method) if callable(method) else method}
        return study

    def trainer(self, device: str | None = None, engine: Mapping[str, Any] | None = None) -> Trainer:
        """The object that trains this study; `engine` is what an earlier `Trainer.choose` found."""
        if self._make_trainer is not None:
            return self._make_trainer(self, device)
        from whence.training.trainer import RecipeTrainer  # the one import upwards: nouns know no verbs

        return RecipeTrainer(self, device, engine)

    def output_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each output beyond the target axis: ``()``, or ``(classes,)`` for logits."""
        return {
            name: ((self.class_count or 0,) if name == "logits" and self.class_count else ())
            for name in self.outputs
        }

    def check_masks(self, masks: np.ndarray) -> np.ndarray:
        """`masks` as a boolean ``(m, n)``, or an `InputError` about its shape, or an empty subset."""
        array = np.atleast_2d(np.asarray(masks))
        if array.ndim != 2 or array.shape[1] != self.n:
            raise InputError(
                f"masks must have shape (m, {self.n}), one column for each training example, received "
                f"{np.shape(masks)}."
            )
        if array.dtype != bool and not np.isin(array, (0, 1)).all():
            raise InputError(
                "masks must hold 0 and 1 only (False leaves an example out), received other numbers; for "
                "weights see whence.training.train."
            )
        array = array.astype(bool)
        if not array.any(axis=1).all():
            row = int(np.flatnonzero(~array.any(axis=1))[0])
            raise InputError(f"mask {row} keeps no training example at all; every subset needs at least one.")
        return array

    @property
    def train_labels(self) -> np.ndarray | None:
        """Training labels int64 ``(n,)``, None where there are none."""
        return self.train.labels

    @property
    def target_labels(self) -> np.ndarray | None:
        """Target labels int64 ``(targets,)``, None where there are none."""
        return self.targets.labels

    @property
    def train_answers(self) -> np.ndarray | None:
        """What is trained on: labels, or the answers ``(n, ...)`` of a recipe's own loss."""
        return self.train.answers

    @property
    def target_answers(self) -> np.ndarray | None:
        """The targets' labels, or answers ``(targets, ...)``."""
        return self.targets.answers

    @property
    def texts(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Training texts str ``(n,)`` and targets' texts str ``(targets,)``, None where there are none."""
        if self.train_texts is None or self.target_texts is None:
            return None
        return self.train_texts, self.target_texts

    @property
    def train_inputs(self) -> Any:
        """Training inputs as they were passed (array or tensor), None for a study of a function."""
        return self.train.inputs

    @property
    def target_inputs(self) -> Any:
        """Target inputs as they were passed (array or tensor), None for a study of a function."""
        return self.targets.inputs

    @property
    def is_image(self) -> bool:
        """True when `image` returns pictures."""
        return self.train.is_image

    def image(self, kind: str, index: int) -> np.ndarray | None:
        """Training example (``kind="train"``) or target (``"target"``) number `index` as uint8 ``(H, W)`` or
        ``(H, W, 3)``; None when the study is not about images."""
        return (self.train if kind == "train" else self.targets).image(index)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over data, ids, outputs and the way of training; banks are tied to it."""
        return fingerprint(
            {
                "train": self.train.content(),
                "targets": self.targets.content(),
                "train_ids": self.train_ids,
                "target_ids": self.target_ids,
                "outputs": list(self.outputs),
                "method": self._method,
            }
        )

    def describe(self) -> dict[str, Any]:
        """A JSON-able summary for banks and reports."""
        return {
            "name": self.name,
            "n": self.n,
            "targets": len(self.targets),
            "outputs": list(self.outputs),
            "classes": self.classes,
            "method": self._method,
            "fingerprint": self.fingerprint,
        }

    def __repr__(self) -> str:
        return (
            f"<Study {self.name!r}: {self.n} training examples, {len(self.targets)} targets, outputs "
            f"{', '.join(self.outputs)}, by {self._method['kind']}>"
        )
