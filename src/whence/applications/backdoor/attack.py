"""Poisoning a study: the trigger on some training images, under the label that it is to bring about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from whence.applications.backdoor.triggers import Trigger, checked_images
from whence.errors import InputError
from whence.study.variants import with_targets, with_train

if TYPE_CHECKING:
    from whence.study import Study

Harden = Callable[["Study", np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Poisoned:
    """A study whose training set was poisoned. Ids and targets are those of the clean one.

    Attributes
    ----------
    study : to be trained and searched. clean : the study before.
    positions : ``(p,)`` places of the poisoned training examples, ascending.
    part : ``(p,)`` which part of a split trigger each of them shows, 0 where there is one.
    trigger : what test images show to be taken for `target_class`.
    label : "dirty" where poisoned images came from other classes and their labels were changed, "clean" where
        they are of the target class.
    """

    positions: np.ndarray
    part: np.ndarray
    trigger: Trigger
    target_class: int
    label: str
    study: Study = field(repr=False)
    clean: Study = field(repr=False)

    @property
    def is_poisoned(self) -> np.ndarray:
        """bool ``(n,)``."""
        poisoned = np.zeros(self.study.n, bool)
        poisoned[self.positions] = True
        return poisoned

    def triggered(self) -> Study:
        """The poisoned study asked about the attack: its targets are the targets of other classes with the
        whole trigger on them, **under the target class as their label**. A positive ``margin_max`` is a
        success of the attack.

        Raises
        ------
        InputError : all targets are of the target class.
        """
        inputs, kept = self._triggered_inputs()
        ids = [f"{identity} with trigger" for identity in self.study.target_ids[kept]]
        return with_targets(self.study, (inputs, np.full(len(kept), self.target_class)), ids)

    def asked_both(self) -> tuple[Study, int]:
        """The poisoned study with the targets of `triggered` after its own, and how many are its own: one
        retraining then tells both success and accuracy."""
        inputs, kept = self._triggered_inputs()
        own = checked_images(self.study.target_inputs)
        labels = np.asarray(self.study.target_labels)
        both = np.concatenate([own, inputs]), np.r_[labels, np.full(len(kept), self.target_class)]
        ids = [str(identity) for identity in self.study.target_ids]
        ids += [f"{ids[i]} with trigger" for i in kept]
        return with_targets(self.study, both, ids), len(own)

    def _triggered_inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Triggered images of targets of other classes, and which targets these are."""
        kept = np.flatnonzero(np.asarray(self.study.target_labels) != self.target_class)
        if not len(kept):
            raise InputError(
                f"all targets are of class {self.target_class}, so none can be led there; pass a study with "
                "targets of other classes."
            )
        return self.trigger(checked_images(self.study.target_inputs)[kept]), kept


def poison(
    study: Study,
    trigger: Trigger,
    to: int | str,
    *,
    count: int | None = None,
    fraction: float | None = None,
    label: Literal["dirty", "clean"] = "dirty",
    harden: Harden | None = None,
    seed: int = 0,
) -> Poisoned:
    """Put a trigger on random training images of `study` and give them the label `to`.

    Parameters
    ----------
    study : of images, with labels. Its targets are left alone.
    trigger : of `whence.applications.backdoor.triggers`; the parts of a split one are shared out evenly.
    to : the target class, by label or by name.
    count, fraction : how many training examples are poisoned, as a number or as a share of all n of them;
        pass one of the two.
    label : "dirty" poisons images of other classes and relabels them (Gu et al. 2017); "clean" poisons images
        of the target class, whose labels stay true (Turner et al. 2019).
    harden : spoils the images of a clean-label attack before the trigger is put on, so that it has to be
        learnt; `Adversarial`, `Interpolated`, or a function (study, positions) -> images.
    seed : which images.

    Raises
    ------
    InputError : no images, an unknown class, a count out of range, more images than there are of the kind,
        hardening with dirty labels.
    """
    if study.train.inputs is None or study.train.labels is None:
        raise InputError(f"{study!r} has no labelled images to put a trigger on; pass a study of images.")
    images, labels = checked_images(study.train_inputs), np.asarray(study.train_labels)
    target = _class(study, to)
    if label not in ("dirty", "clean"):
        raise InputError(f'label is {label!r}, but it must be "dirty" or "clean".')
    if harden is not None and label == "dirty":
        raise InputError(
            'harden is for clean labels, where the images say their label already; pass label="clean" or '
            "harden=None."
        )
    eligible = np.flatnonzero(labels == target if label == "clean" else labels != target)
    wanted = _count(study.n, count, fraction, len(eligible), label)
    rng = np.random.default_rng(seed)
    drawn = rng.choice(eligible, wanted, replace=False)  # in random order: parts are shared out blindly
    parts = trigger.parts
    if wanted < len(parts):
        raise InputError(f"{wanted} poisoned images cannot show each of {len(parts)} parts; poison more.")
    trigger(images[:1])  # a trigger that does not fit fails before anything is trained for hardening
    changed, new = images.copy(), labels.copy()
    if harden is not None:
        changed[drawn] = _hardened(harden, study, drawn, images)
    for number, part in enumerate(parts):
        mine = drawn[number :: len(parts)]
        changed[mine] = part(changed[mine])
    new[drawn] = target
    order = np.argsort(drawn)
    shown = (np.arange(wanted) % len(parts))[order]
    return Poisoned(drawn[order], shown, trigger, target, label, with_train(study, (changed, new)), study)


def _class(study: Study, to: int | str) -> int:
    names = study.classes
    if isinstance(to, str):
        if names is None or to not in names:
            known = "the study's classes have no names" if names is None else f"there are {', '.join(names)}"
            raise InputError(f"to names the class {to!r}, but {known}.")
        return names.index(to)
    if int(to) != to or not 0 <= to < (study.class_count or 0):
        raise InputError(f"to is {to}, but classes are 0..{(study.class_count or 1) - 1}.")
    return int(to)


def _count(n: int, count: int | None, fraction: float | None, eligible: int, label: str) -> int:
    if (count is None) == (fraction is None):
        raise InputError(f"count={count} and fraction={fraction}: pass one of the two.")
    if fraction is not None:
        if not 0 < fraction < 1:
            raise InputError(f"fraction is {fraction}, but it must lie between 0 and 1.")
        wanted = round(fraction * n)
    else:
        assert count is not None
        if int(count) != count:
            raise InputError(f"count is {count}, but it must be a whole number.")
        wanted = int(count)
    if not 0 < wanted <= eligible:
        whose = "of the target class" if label == "clean" else "of other classes"
        raise InputError(
            f"{wanted} images are to be poisoned, but there are {eligible} {whose}; pass 1 to {eligible}."
        )
    return wanted


def _hardened(harden: Harden, study: Study, drawn: np.ndarray, images: np.ndarray) -> np.ndarray:
    made = np.asarray(harden(study, drawn))
    if made.shape != images[drawn].shape or made.dtype != images.dtype:
        raise InputError(
            f"harden must return images {images[drawn].shape} of {images.dtype}, received {made.shape} of "
            f"{made.dtype}."
        )
    return made
