"""Ways to train that are not a `Recipe`: a plain function, a scikit-learn estimator, a user's own PyTorch
loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from whence.errors import InputError
from whence.study._random import fork
from whence.study.outputs import OUTPUTS, check_outputs, compute
from whence.study.trainer import Retrained, Trainer

if TYPE_CHECKING:
    from whence.study.study import Study

_REGRESSION = ("prediction", "squared_error")
_LEAST_PROBABILITY = 1e-12  # log of a probability that a tree or a missing class reports as exactly 0


class _OneByOne(Trainer):
    """Trains rows in order; an exception in the user's code is recorded with the row, never lost or averaged
    in."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def train(self, masks: np.ndarray, seeds: np.ndarray, keep_states: bool = False) -> Iterator[Retrained]:
        """See `Trainer.train`; there are no states to keep."""
        for mask, seed in zip(self.study.check_masks(masks), seeds, strict=True):
            start, outputs, error = perf_counter(), {}, None
            try:
                outputs = self._outputs(mask, int(seed))
            except InputError:
                raise
            except Exception as problem:
                error = f"{type(problem).__name__}: {problem}"
            yield Retrained(outputs, perf_counter() - start, error=error)

    def _outputs(self, mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _from_logits(self, logits: torch.Tensor) -> dict[str, np.ndarray]:
        labels = torch.as_tensor(self.study.target_labels, device=logits.device)
        values = compute(self.study.outputs, logits.detach().float(), labels)
        return {name: value.cpu().numpy() for name, value in values.items()}


class FunctionTrainer(_OneByOne):
    """Calls ``function(mask, seed)``; see `Study.from_function`."""

    def __init__(self, study: Study, function: Callable[[np.ndarray, int], Any]) -> None:
        super().__init__(study)
        self.function = function

    def _outputs(self, mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        returned = self.function(mask.copy(), seed)
        names, count = self.study.outputs, len(self.study.targets)
        if not isinstance(returned, dict):
            if len(names) != 1:
                raise InputError(
                    f"the function returned one array but the study names outputs {', '.join(names)}; "
                    "return a dict with these keys."
                )
            returned = {names[0]: returned}
        if set(returned) != set(names):
            raise InputError(
                f"the function returned outputs {sorted(returned)}, but the study names {sorted(names)}."
            )
        arrays = {name: np.asarray(returned[name], dtype=np.float32) for name in names}
        for name, array in arrays.items():
            if array.shape != (count,):
                raise InputError(
                    f"output {name!r} must be one number for each of {count} targets, the function returned "
                    f"shape {array.shape}."
                )
        return arrays


class EstimatorTrainer(_OneByOne):
    """Fits a clone of a scikit-learn estimator; see `Study.from_estimator`."""

    def __init__(self, study: Study, estimator: Any) -> None:
        super().__init__(study)
        self.estimator = estimator

    def _outputs(self, mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        from sklearn.base import clone

        model = clone(self.estimator)
        random = [key for key in model.get_params() if key.rpartition("__")[2] == "random_state"]
        model.set_params(**dict.fromkeys(random, seed % 2**32))
        train, targets = self.study.train, self.study.targets
        inputs, queries = np.asarray(train.inputs), np.asarray(targets.inputs)
        if train.labels is None:
            assert train.values is not None and targets.values is not None
            prediction = np.asarray(
                model.fit(inputs[mask], train.values[mask]).predict(queries), dtype=np.float32
            )
            both = {
                "prediction": prediction,
                "squared_error": (prediction - targets.values.astype(np.float32)) ** 2,
            }
            return {name: both[name] for name in self.study.outputs}
        model.fit(inputs[mask], train.labels[mask])
        logits = np.full((len(targets), self.study.class_count or 0), np.log(_LEAST_PROBABILITY))
        found = np.maximum(model.predict_proba(queries), _LEAST_PROBABILITY)
        logits[:, model.classes_] = np.log(
            found
        )  # a class without a kept example stays at the least probability
        return self._from_logits(torch.as_tensor(logits))


class LoopTrainer(_OneByOne):
    """Calls a user's own PyTorch loop; see `Study.from_training_function`."""

    def __init__(self, study: Study, function: Callable[..., Any], device: str | None) -> None:
        super().__init__(study)
        self.function = function
        self.device = torch.device(device or "cpu")
        self.inputs = self._tensor(study.train_inputs)
        self.labels = torch.as_tensor(study.train_labels).to(self.device)
        self.queries = self._tensor(study.target_inputs)

    def _tensor(self, inputs: Any) -> torch.Tensor:
        tensor = torch.as_tensor(inputs)
        if tensor.dtype == torch.float64:  # NumPy's default, which a network of torch's default would refuse
            tensor = tensor.to(torch.get_default_dtype())
        return tensor.to(self.device)

    def _outputs(self, mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        kept = torch.as_tensor(np.flatnonzero(mask), device=self.device)
        with fork():
            torch.manual_seed(seed)
            model = self.function(self.inputs[kept], self.labels[kept], seed)
        if hasattr(model, "eval"):
            model.eval()
        with torch.no_grad():
            logits = torch.cat([model(chunk) for chunk in self.queries.split(512)])
        expected = (len(self.study.targets), self.study.class_count)
        if tuple(logits.shape) != expected:
            raise InputError(
                f"the trained network must return logits of shape {expected} for the targets, received "
                f"{tuple(logits.shape)}."
            )
        return self._from_logits(logits)


def estimator_outputs(estimator: Any, classifier: bool, outputs: Sequence[str] | None) -> tuple[str, ...]:
    """The outputs to record for a scikit-learn estimator, checked against what it can give."""
    from sklearn.base import is_classifier

    if not classifier and is_classifier(estimator):
        raise InputError(
            f"{type(estimator).__name__} has no predict_proba, which a classifier's outputs are computed "
            "from; switch it on (probability=True) or wrap it in sklearn.calibration.CalibratedClassifierCV."
        )
    if classifier:
        return check_outputs(tuple(outputs or ("margin",)))
    chosen = (outputs,) if isinstance(outputs, str) else tuple(outputs or ("prediction",))
    if not set(chosen) <= set(_REGRESSION):
        why = "needs predict_proba" if set(chosen) <= set(OUTPUTS) else "is unknown"
        raise InputError(
            f"outputs {list(chosen)} {why}; an estimator with only predict gives {', '.join(_REGRESSION)}."
        )
    return chosen
