"""A set of examples: inputs, labels and ids, checked once when a study is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from whence.errors import InputError


@dataclass(frozen=True)
class Examples:
    """Inputs ``(n, ...)`` (array or tensor, None for a study of a function) and what is to be said of each:
    classes, or values, or nothing.

    Attributes
    ----------
    labels : classes, int64 ``(n,)``.
    values : numbers to predict, float64 ``(n,)``; with a loss of the recipe's own the answers that it takes,
        int64 or float32 ``(n, ...)``.
    """

    count: int
    inputs: Any = None
    labels: np.ndarray | None = None
    values: np.ndarray | None = None

    def __len__(self) -> int:
        return self.count

    @classmethod
    def blank(cls, count: int) -> Examples:
        """Examples of which only the number is known."""
        if count < 1:
            raise InputError(f"a study needs at least one example and one target, received {count}.")
        return cls(count)

    @classmethod
    def of(
        cls, pair: tuple[Any, Any], argument: str, kind: Literal["labels", "values", "answers"] = "labels"
    ) -> Examples:
        """Check a pair ``(inputs, labels)``, or one of inputs and values or answers."""
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise InputError(f"{argument} must be a pair (inputs, labels), received {type(pair).__name__}.")
        inputs, labels = pair
        if hasattr(inputs, "detach"):
            inputs = inputs.detach().cpu()
        elif not isinstance(inputs, np.ndarray):  # lists, data frames
            inputs = np.asarray(inputs)
        if not inputs.shape:
            raise InputError(
                f"{argument} inputs must be an array with one row for each example, received "
                f"{type(pair[0]).__name__}."
            )
        raw = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
        if kind == "answers":
            return cls(len(inputs), _finite(inputs, argument), None, _answers(raw, len(inputs), argument))
        if raw.ndim != 1 or len(raw) != len(inputs):
            raise InputError(
                f"{argument} has {len(inputs)} inputs but labels of shape {raw.shape}; one label for each "
                "input is needed."
            )
        _finite(inputs, argument)
        if kind == "values":
            if raw.dtype.kind not in "iufb" or not np.isfinite(raw.astype(np.float64)).all():
                raise InputError(
                    f"{argument} values to predict must be finite numbers, received dtype {raw.dtype}"
                    f"{' with NaN or infinite values' if raw.dtype.kind == 'f' else ''}."
                )
            return cls(len(raw), inputs, None, raw.astype(np.float64))
        if raw.dtype.kind not in "iub":
            raise InputError(
                f"{argument} labels must be integers 0..classes-1, received dtype {raw.dtype}; encode them "
                "first, for example with numpy.unique(labels, return_inverse=True)."
            )
        return cls(len(raw), inputs, raw.astype(np.int64))

    @property
    def answers(self) -> np.ndarray | None:
        """What a network is trained to say: labels or values; None where there are neither."""
        return self.labels if self.labels is not None else self.values

    def check_like(self, train: Examples) -> None:
        """Targets must look like training examples, or a network (and the scaling of uint8 images) would
        misread them."""
        if self.inputs is None or train.inputs is None:
            return
        mine, theirs = tuple(self.inputs.shape[1:]), tuple(train.inputs.shape[1:])
        if mine != theirs:
            raise InputError(
                f"targets must have the shape of training examples, {theirs}, received {mine} each."
            )
        if ("uint8" in str(self.inputs.dtype)) != ("uint8" in str(train.inputs.dtype)):
            raise InputError(
                f"train inputs are {train.inputs.dtype} and targets {self.inputs.dtype}, but uint8 is scaled "
                "and other numbers are taken as they are; pass both in one form."
            )
        if self.values is not None and _unlike(self.values, train.values):
            assert train.values is not None
            raise InputError(
                f"targets must have answers like those of training examples, {train.values.dtype} of shape "
                f"{train.values.shape[1:]}, received {self.values.dtype} of shape {self.values.shape[1:]}."
            )

    @property
    def is_image(self) -> bool:
        """uint8 ``(n, H, W[, 1 or 3])``, or float channel-first ``(n, 1 or 3, H, W)``."""
        if self.inputs is None:
            return False
        shape, dtype = tuple(self.inputs.shape), str(self.inputs.dtype)
        if "uint8" in dtype:
            return len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, 3))
        return len(shape) == 4 and shape[1] in (1, 3)

    def image(self, index: int) -> np.ndarray | None:
        """One example as uint8 ``(H, W)`` or ``(H, W, 3)``; float images are stretched to their own range."""
        if not self.is_image:
            return None
        picture = np.asarray(self.inputs[index])
        if picture.dtype != np.uint8:
            low, high = float(picture.min()), float(picture.max())
            picture = (
                ((picture - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8).transpose(1, 2, 0)
            )
        return picture[..., 0] if picture.ndim == 3 and picture.shape[-1] == 1 else picture

    def content(self) -> dict[str, Any]:
        """What a fingerprint is taken of."""
        inputs = "none" if self.inputs is None else np.asarray(self.inputs)
        return {
            "count": self.count,
            "inputs": inputs,
            "labels": "none" if self.labels is None else self.labels,
            "values": "none" if self.values is None else self.values,
        }


def _finite(inputs: Any, argument: str) -> Any:
    if np.asarray(inputs).dtype.kind == "f" and not np.isfinite(np.asarray(inputs)).all():
        raise InputError(f"{argument} inputs hold NaN or infinite values; clean or impute them first.")
    return inputs


def _answers(raw: np.ndarray, count: int, argument: str) -> np.ndarray:
    if raw.ndim < 1 or len(raw) != count:
        raise InputError(
            f"{argument} has {count} inputs but answers of shape {raw.shape}; one row of answers for each "
            "input is needed."
        )
    if raw.dtype.kind not in "iufb" or not np.isfinite(raw).all():
        raise InputError(
            f"{argument} answers must be finite numbers, received dtype {raw.dtype}"
            f"{' with NaN or infinite values' if raw.dtype.kind == 'f' else ''}."
        )
    return raw.astype(np.float32 if raw.dtype.kind == "f" else np.int64)


def _unlike(values: np.ndarray, others: np.ndarray | None) -> bool:
    return others is not None and (
        values.shape[1:] != others.shape[1:] or values.dtype.kind != others.dtype.kind
    )


def make_ids(ids: Sequence[Any] | None, count: int, argument: str) -> np.ndarray:
    """Ids as an int64 or str array ``(count,)``, unique, or an `InputError`."""
    if ids is None:
        return np.arange(count)
    array = np.asarray(ids)
    array = array.astype(np.int64) if array.dtype.kind in "iu" else array.astype(str)
    if array.shape != (count,):
        raise InputError(
            f"{argument} must have one id for each of {count} examples, received shape {array.shape}."
        )
    values, counts = np.unique(array, return_counts=True)
    if len(values) < count:
        raise InputError(
            f"{argument} must be unique, but {values[counts > 1][0]!r} appears {counts.max()} times."
        )
    return array
