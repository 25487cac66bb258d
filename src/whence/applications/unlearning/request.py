"""Which training examples shall be forgotten, checked once; and the study that an evaluation needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from whence.applications.unlearning.forget_sets import check_forget
from whence.errors import InputError
from whence.study.variants import joint_targets, with_outputs

if TYPE_CHECKING:
    from whence.study import Study

OUTPUTS = ("margin", "margin_max", "logits")
_DRAWS = 0xF06E7  # keeps what is drawn for a request apart from what trains the models


def examined(study: Study) -> Study:
    """The study in which unlearning is looked at: its targets are the training examples and then the targets,
    its outputs margin, margin_max (which tells what is right) and logits.

    Attributions, oracles and unlearned models of a request are all of this one study. A study that has this
    form already comes back as it is.

    Raises
    ------
    InputError : a study without a Recipe.
    """
    if study.recipe is None:
        raise InputError(
            f"models are unlearned by the engine, so the study needs a Recipe, received {study!r}."
        )
    whole = bool(np.isin(study.train_ids, study.target_ids).all()) and study.target_ids.dtype.kind == (
        study.train_ids.dtype.kind
    )
    if whole and set(OUTPUTS) <= set(study.outputs):
        return study
    return with_outputs(study if whole else joint_targets(study), OUTPUTS)


@dataclass(frozen=True)
class Request:
    """A request to forget.

    Attributes
    ----------
    study : whose training examples these are.
    forget, retain : positions of the examples to forget, ``(f,)``, and of all others, ``(n - f,)``.
    """

    study: Study
    forget: np.ndarray
    retain: np.ndarray

    @classmethod
    def of(cls, study: Study, forget: Sequence[Any] | np.ndarray) -> Request:
        """A checked request.

        Parameters
        ----------
        forget : ids of training examples.

        Raises
        ------
        InputError : no id, ids twice, ids that are not in the training set, all of it.
        """
        if study.recipe is None:
            raise InputError(
                f"models are unlearned by the engine, so the study needs a Recipe, received {study!r}."
            )
        gone = check_forget(study, forget)
        return cls(study, gone, np.setdiff1d(np.arange(study.n), gone))

    @property
    def mask(self) -> np.ndarray:
        """True for what is kept, ``(n,)``."""
        found = np.ones(self.study.n, dtype=bool)
        found[self.forget] = False
        return found

    def rng(self, seed: int, purpose: int = 0) -> np.random.Generator:
        """A stream for one model of the request."""
        return np.random.default_rng([seed, purpose, _DRAWS])

    def drawn(self, seeds: Sequence[int], times: int, retain: int) -> torch.Tensor:
        """For each model the forget set `times` times, then `retain` other examples drawn without
        replacement: positions ``(models, k)``."""
        count = min(retain, len(self.retain))
        rows = [
            np.concatenate([np.tile(self.forget, times), self.rng(seed).choice(self.retain, count, False)])
            for seed in seeds
        ]
        return torch.as_tensor(np.stack(rows))

    def everywhere(self, positions: np.ndarray, models: int) -> torch.Tensor:
        """The same positions for each model, ``(models, k)``."""
        return torch.as_tensor(positions).expand(models, -1)
