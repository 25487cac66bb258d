"""Studies that differ from a given one in a single respect, for questions that a mask alone cannot ask."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whence.errors import InputError
from whence.study._examples import Examples
from whence.study.outputs import check_outputs

if TYPE_CHECKING:
    from whence.study.study import Study
    from whence.study.trainer import Trainer


def with_outputs(study: Study, outputs: Sequence[str]) -> Study:
    """The same study with other outputs recorded, of `whence.study.outputs`.

    Raises
    ------
    InputError : a study without labelled inputs (of a plain function), whose outputs are its own.
    """
    _need_answers(study)
    changed = _copy(study)
    changed.outputs = check_outputs(tuple(outputs), _loss(study))
    return changed


def with_trainer(
    study: Study, make: Callable[[Study, str | None], Trainer], method: Mapping[str, Any]
) -> Study:
    """The same study with models made in another way.

    Parameters
    ----------
    make : gives the trainer, from the study and a device.
    method : a JSON-able description of that way, for the fingerprint.
    """
    changed = _copy(study)
    changed._make_trainer = lambda asked, device: make(asked, device)
    changed._method = dict(method)
    return changed


def with_copies(study: Study, index: Sequence[int] | np.ndarray, labels: Sequence[int] | np.ndarray) -> Study:
    """The same study with copies of the training examples at `index` (m,) appended, under `labels` (m,).

    A mask that leaves an example out and keeps its copy trains with the example relabelled. Statistics of the
    whole training set (the scaling of uint8 images) count the copies.
    """
    _need_labels(study)
    index, labels = np.asarray(index, np.int64), np.asarray(labels, np.int64)
    if index.shape != labels.shape or index.ndim != 1:
        raise InputError(
            f"index and labels must have one entry for each copy, received shapes {index.shape} and "
            f"{labels.shape}."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < (study.class_count or 0):
        raise InputError(
            f"labels must lie in 0..{(study.class_count or 1) - 1}, received {labels.min()} to "
            f"{labels.max()}."
        )
    inputs, old = study.train.inputs, study.train.labels
    more = inputs[index]
    joined = np.concatenate([inputs, more]) if isinstance(inputs, np.ndarray) else _cat(inputs, more)
    assert old is not None
    ids = study.train_ids
    if ids.dtype.kind in "iu":
        new_ids = int(ids.max()) + 1 + np.arange(len(index))
    else:
        new_ids = np.array(
            [f"{ids[i]} as {label}" for i, label in zip(index, labels, strict=True)], dtype=str
        )
    changed = _copy(study)
    changed.train = Examples(len(old) + len(index), joined, np.concatenate([old, labels]))
    changed.train_ids = np.concatenate([ids, new_ids.astype(ids.dtype if ids.dtype.kind in "iu" else str)])
    changed.n = len(changed.train)
    changed.train_texts = changed.target_texts = None
    return changed


def with_targets(study: Study, targets: tuple[Any, Any], ids: Sequence[Any] | None = None) -> Study:
    """The same study asking about other targets: a pair ``(inputs, labels)``, and their ids (default
    ``0..t-1``).

    Raises
    ------
    InputError : targets that do not look like the training examples, labels outside the classes, ids that
        are not unique.
    """
    _need_answers(study)
    asked = Examples.of(targets, "targets", _kind(study))
    return _checked(_copy(study), study.train, asked, study.train_ids, ids)


def with_train(study: Study, train: tuple[Any, Any]) -> Study:
    """The same study with each training example replaced: a pair ``(inputs, labels)`` of as many, under the
    same ids. For changed labels, poisoned images, another look of the same examples.

    Raises
    ------
    InputError : another number or shape of examples, labels outside the classes.
    """
    _need_answers(study)
    examples = Examples.of(train, "train", _kind(study))
    if len(examples) != study.n:
        raise InputError(
            f"train has {len(examples)} examples, but the study has {study.n} and each keeps its id; pass as "
            "many, or make a new Study."
        )
    return _checked(_copy(study), examples, study.targets, study.train_ids, study.target_ids)


def self_targets(study: Study) -> Study:
    """The same study with its training examples as targets, under their own ids: its attributions are
    train x train. Where an example is left out of a retraining, its output there is out of sample."""
    _need_answers(study)
    return _checked(_copy(study), study.train, study.train, study.train_ids, study.train_ids)


def joint_targets(study: Study) -> Study:
    """The same study asking about its training examples, under their own ids, and then about its targets.

    A target whose id is a training example's gets another: the next free numbers, or "target/ID" for names.
    """
    _need_labels(study)
    train, targets = study.train, study.targets
    if isinstance(train.inputs, np.ndarray):
        inputs: Any = np.concatenate([train.inputs, targets.inputs])
    else:
        inputs = _cat(train.inputs, targets.inputs)
    joined = Examples(
        len(train) + len(targets), inputs, np.concatenate([np.asarray(train.labels), targets.labels])
    )
    own, others = study.train_ids, study.target_ids
    if np.isin(others.astype(str), own.astype(str)).any() or own.dtype.kind != others.dtype.kind:
        if own.dtype.kind in "iu":
            others = int(own.max()) + 1 + np.arange(len(others))
        else:
            others = np.array([f"target/{identity}" for identity in others.tolist()])
    ids = np.concatenate([own, others])
    return _checked(_copy(study), train, joined, own, ids)


def _loss(study: Study) -> Any:
    return None if study.recipe is None else study.recipe.loss


def _kind(study: Study) -> Literal["labels", "answers"]:
    return "labels" if _loss(study) is None else "answers"


def _need_answers(study: Study) -> None:
    if _loss(study) is None:
        _need_labels(study)


def _need_labels(study: Study) -> None:
    if study.train.inputs is None or study.train.labels is None:
        raise InputError(
            f"{study!r} has no labelled inputs that could be changed; pass a study of a Recipe, a classifier "
            "or a training function."
        )


def _checked(changed: Study, train: Examples, targets: Examples, train_ids: Any, target_ids: Any) -> Study:
    named, count = changed.classes, changed.class_count or 0
    # as many classes as before, also where the new labels miss some
    changed._setup(
        train, targets, train_ids, target_ids, named or [str(i) for i in range(count)] or None, changed.name
    )
    changed.classes = named
    changed.train_texts = changed.target_texts = None
    return changed


def _copy(study: Study) -> Study:
    changed = copy.copy(study)
    changed.__dict__.pop("fingerprint", None)  # cached, and another study's
    return changed


def _cat(inputs, more):  # type: ignore[no-untyped-def]
    import torch

    return torch.cat([inputs, more])
