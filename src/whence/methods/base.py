"""Method: one way to estimate attribution, with what it needs said before anything runs."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError

# need -> (does the source have it, what to pass)
_NEEDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "retrainings": (
        lambda source: hasattr(source, "select"),
        "retrainings (pass a Bank, made by whence.retrain)",
    ),
    "ids": (
        lambda source: _has(source, "train_ids") and _has(source, "target_ids"),
        "ids of training examples and targets (pass a Study or a Bank)",
    ),
    "inputs": (
        lambda source: _has(source, "train_inputs") and _has(source, "target_inputs"),
        "the examples themselves (pass a Study made with train and targets arrays)",
    ),
    "labels": (
        lambda source: _has(source, "train_labels") and _has(source, "target_labels"),
        "class labels (pass a Study made with labelled train and targets)",
    ),
    "answers": (
        lambda source: _has(source, "train_answers") and _has(source, "target_answers"),
        "labels (pass a Study made with labelled train and targets)",
    ),
    "texts": (
        lambda source: _has(source, "train_texts") and _has(source, "target_texts"),
        "texts (pass a Study made with texts=(training texts, targets' texts))",
    ),
    "training": (
        lambda source: hasattr(source, "trainer"),
        "a way to train (pass a Study)",
    ),
}


class Method(abc.ABC):
    """An estimator of attributions: hyper-parameters in the constructor, data in `attribute`.

    `needs` names what `attribute` reads from its argument, of: retrainings, ids, inputs, labels (classes),
    answers (what is trained on, labels or not), texts, training.
    """

    needs: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def attribute(self, source: Any, output: str | None = None) -> Attribution:
        """Estimate effects on `output` (default: the first recorded): (target[, output], train)."""

    def missing(self, source: Any, output: str | None = None) -> list[str]:
        """Everything this method needs that `source` lacks, in words; empty if it can run."""
        lacks = lacking(source, self.needs)
        outputs = getattr(source, "outputs", None)
        if output is not None and outputs is not None and output not in outputs:
            lacks.append(f"the output {output!r} (recorded: {', '.join(outputs)})")
        return lacks

    def require(self, source: Any, output: str | None = None) -> None:
        """Raise InputError, one sentence with everything missing, if this method cannot run on `source`."""
        lacks = self.missing(source, output)
        if lacks:
            received = type(source).__name__
            raise InputError(f"{type(self).__name__} received a {received}, which lacks {'; '.join(lacks)}.")

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_"))
        return f"{type(self).__name__}({settings})"


def lacking(source: Any, needs: tuple[str, ...]) -> list[str]:
    """Which of these needs `source` does not have, in words."""
    return [words for has, words in map(_NEEDS.__getitem__, needs) if not has(source)]


def _has(source: Any, name: str) -> bool:
    return getattr(source, name, None) is not None


def first_output(source: Any, output: str | None) -> str:
    """The output asked for, or the first that the source records."""
    if output is not None:
        return output
    outputs = getattr(source, "outputs", None)
    return outputs[0] if outputs else "margin"


def check_groups(groups: Mapping[str, Sequence[Any]] | None) -> dict[str, list[Any]] | None:
    """Named groups of target ids as a dict, or an InputError where there is none or one is empty."""
    if groups is None:
        return None
    if not groups or not all(len(ids) for ids in groups.values()):
        raise InputError("groups must name at least one group, and each at least one target id.")
    return {name: list(ids) for name, ids in groups.items()}


def group_rows(groups: Mapping[str, Sequence[Any]], source: Any) -> list[list[int]]:
    """Positions of the targets in each group; InputError for an id that is no target's."""
    at = {identity: i for i, identity in enumerate(source.target_ids.tolist())}
    for name, ids in groups.items():
        unknown = [identity for identity in ids if identity not in at]
        if unknown:
            raise InputError(
                f"groups[{name!r}] has {unknown[0]!r}, which is no target of the study; its ids are like "
                f"{source.target_ids[0]!r}."
            )
    return [[at[identity] for identity in ids] for ids in groups.values()]


def flat_outputs(outputs: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """(m, targets[, classes]) as (m, columns), and the trailing shape to restore with `unflatten`."""
    return outputs.reshape(len(outputs), -1), outputs.shape[1:]


def unflatten(array: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """(columns, ...) back to (targets[, classes], ...)."""
    return None if array is None else array.reshape(*shape, *array.shape[1:])


def retrainings(
    bank: Any, part: str, output: str, models: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (m, n) and outputs (m, targets[, classes]) of a part, the first `models` rows of it if given."""
    sample = bank.select(part, output)
    if models is None:
        return sample.masks, sample.outputs
    if not 2 <= models <= len(sample.masks):
        raise InputError(
            f"models is {models}, but the {part} part has {len(sample.masks)} retrainings to choose from."
        )
    return sample.masks[:models], sample.outputs[:models]


def keep_of(bank: Any, masks: np.ndarray) -> float:
    subsets = getattr(getattr(bank, "plan", None), "subsets", None)
    return float(subsets.keep) if subsets is not None else float(masks.mean())


def output_ids(source: Any, shape: tuple[int, ...]) -> Any:
    """Names of the classes of a vector output, where the source knows them."""
    if len(shape) < 2:
        return None
    for holder in (source, getattr(source, "study_description", None)):
        classes = holder.get("classes") if isinstance(holder, dict) else getattr(holder, "classes", None)
        if isinstance(classes, list | tuple) and len(classes) == shape[1]:
            return [str(name) for name in classes]
    return None


def signed_by_class(scores: np.ndarray, source: Any, signed: bool | None) -> tuple[np.ndarray, bool]:
    """Non-negative likeness (t, n), negated where the classes differ; None does so where there are labels."""
    if signed is None:
        signed = _has(source, "train_labels") and _has(source, "target_labels")
    if not signed:
        return scores, False
    same = np.asarray(source.target_labels)[:, None] == np.asarray(source.train_labels)[None]
    return np.where(same, scores, -scores), True


def provenance(source: Any, method: Method, **more: Any) -> dict[str, Any]:
    """What an attribution records about where it came from."""
    from whence.provenance import versions

    fingerprint = getattr(source, "study_fingerprint", None) or getattr(source, "fingerprint", None)
    return {"study": fingerprint, "method": repr(method), "versions": versions(), **more}
