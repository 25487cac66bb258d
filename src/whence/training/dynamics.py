"""Training dynamics: what a network says of each training example at the end of every epoch.

They show wrong labels: a network learns the pattern first and a wrong label late, against the pattern (area
under the margin, Pleiss et al. 2020; data maps, Swayamdipta et al. 2020). Both papers read the network in
training mode while an example passes by in its batch; here it is read in evaluation mode and without
augmentation at the end of each epoch, so that all examples are asked the same network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from whence.errors import InputError
from whence.study.outputs import margin_max, probability
from whence.training.loop import train_one
from whence.training.single import _recipe_trainer
from whence.training.step import State

if TYPE_CHECKING:
    from whence.study.study import Study


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Training dynamics of the examples of a study.

    Attributes
    ----------
    margin : float32 (runs, epochs, n), logit of the given label minus the largest other logit.
    probability : float32 (runs, epochs, n), softmax probability of the given label.
    classes : float32 (n, classes), softmax probabilities averaged over epochs and over the runs that count.
    counts : boolean (runs, n), whether a run tells of an example's own label; False where it was given the
        threshold class.
    labels : int64 (n,), the given labels. train_ids : (n,).
    """

    margin: np.ndarray = field(repr=False)
    probability: np.ndarray = field(repr=False)
    classes: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    train_ids: np.ndarray = field(repr=False)

    @property
    def has_threshold_class(self) -> bool:
        """Whether some examples were given the threshold class."""
        return not bool(self.counts.all())


def dynamics(
    study: Study, runs: int = 1, *, threshold_class: bool = False, seed: int = 0, device: str | None = None
) -> Dynamics:
    """Train on everything and watch every training example.

    Parameters
    ----------
    study : of a Recipe.
    runs : networks to train, with seeds `seed`, `seed` + 1, ...
    threshold_class : give ``n / (classes + 1)`` random examples of each run, others in each, a class of their
        own that means nothing. What the network makes of these says from which margin on a label is to be
        believed (Pleiss et al. 2020, section 4). The network's last linear layer gets one row more.

    Raises
    ------
    InputError : a study of no Recipe; with a threshold class fewer than 2 runs (those given that class must
        be judged in another) or more than there are groups, or no linear layer with one row for each class.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}, but at least one network has to be trained.")
    trainer = _recipe_trainer(study, device)
    given, count = study.train_labels, study.class_count
    assert given is not None and count is not None  # a Recipe trains on labels
    if threshold_class and not 2 <= runs <= count + 1:
        raise InputError(
            f"runs is {runs}, but with a threshold class it must be 2 to {count + 1}: each run gives another "
            "part of the examples that class, and these are judged by the other runs."
        )
    trainer._count_steps(np.ones((1, study.n), dtype=bool))
    parts = np.array_split(np.random.default_rng(seed).permutation(study.n), count + 1)
    told, classes = [], np.zeros((study.n, count))
    counts = np.ones((runs, study.n), dtype=bool)
    for run in range(runs):
        subject = study
        if threshold_class:
            counts[run, parts[run]] = False
            subject = _with_threshold_class(study, parts[run])
        found, shares = _watched(subject, seed + run, device)
        told.append(found)
        classes += np.where(counts[run][:, None], shares[:, :count], 0.0)
    margin, chance = (np.stack(part) for part in zip(*told, strict=True))
    classes /= np.maximum(counts.sum(0), 1)[:, None]
    return Dynamics(margin, chance, classes.astype(np.float32), counts, given, study.train_ids)


def _watched(study: Study, seed: int, device: str | None) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Margins and probabilities (epochs, n) of one run, and class probabilities averaged over its epochs."""
    trainer = _recipe_trainer(study, device)
    recipe, data = trainer.recipe, trainer.data
    per_epoch = recipe.steps(study.n) // recipe.epochs
    margins, chances = [], []
    total = torch.zeros(study.n, study.class_count or 0, dtype=torch.float64)

    def look(done: int, state: State) -> None:
        if done % per_epoch:
            return
        logits = trainer.logits({**state.parameters, **state.buffers}, data)
        margins.append(margin_max(logits, data.y).cpu().numpy())
        chances.append(probability(logits, data.y).cpu().numpy())
        total.add_(torch.softmax(logits, -1).cpu().double())

    train_one(trainer.step, data, torch.ones(study.n), seed, watch=look)
    return (np.stack(margins), np.stack(chances)), (total / recipe.epochs).numpy()


def _with_threshold_class(study: Study, chosen: np.ndarray) -> Study:
    """The study with one class more, that of the examples at `chosen`."""
    from whence.study.study import Study as StudyClass

    assert study.recipe is not None and study.train_labels is not None and study.class_count is not None
    count = study.class_count
    labels = study.train_labels.copy()
    labels[chosen] = count
    recipe = replace(study.recipe, model=partial(_one_class_more, study.recipe.model, count))
    return StudyClass(
        (study.train_inputs, labels),
        (study.target_inputs, study.target_labels),
        recipe,
        classes=[*(study.classes or map(str, range(count))), "threshold class"],
        name=study.name,
    )


def _one_class_more(make: Callable[[], nn.Module], classes: int) -> nn.Module:
    """The network with a row added to the last linear layer, the other rows as they were drawn."""
    model = make()
    last = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)][-1:]
    if not last or last[0][1].out_features != classes:
        raise InputError(
            f"a threshold class needs a network that ends in a torch.nn.Linear with {classes} outputs, one "
            "for each class; do without it, or give the network such a layer."
        )
    name, old = last[0]
    new = nn.Linear(old.in_features, classes + 1, bias=old.bias is not None)
    with torch.no_grad():
        new.weight[:classes] = old.weight
        if old.bias is not None:
            new.bias[:classes] = old.bias
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new)
    return model
