"""Selector: a rule that scores candidates, higher to be chosen first."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import numpy as np

from whence.applications.selection.pool import Pool
from whence.errors import InputError
from whence.methods.base import lacking


class Selector(abc.ABC):
    """A rule that scores the candidates of a pool. Hyper-parameters in the constructor; one file, one paper.

    Attributes
    ----------
    name : what it is called in tables; unique in a comparison.
    needs : what `scores` reads of the study, of: inputs, answers, texts, training (see
        `whence.methods.base.Method`).
    targeted : whether the scores depend on the target examples.
    random : whether the scores depend on the seed beyond the noise of training: such a rule is drawn anew for
        each seed of a comparison.
    """

    name: str
    needs: ClassVar[tuple[str, ...]] = ()
    targeted: ClassVar[bool] = True
    random: ClassVar[bool] = False

    @abc.abstractmethod
    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) scores of the candidates, higher = choose first."""


def scores_of(selector: Selector, pool: Pool, seed: int = 0) -> np.ndarray:
    """The scores of a selector as float64 (n,), checked.

    Raises
    ------
    InputError : the study lacks what the selector needs; scores of another length or not finite.
    """
    lacks = lacking(pool.study, selector.needs)
    if lacks:
        raise InputError(f"{selector.name} received {pool.study!r}, which lacks {'; '.join(lacks)}.")
    return checked(selector.scores(pool, seed), pool.n, selector.name)


def checked(scores: Any, n: int, name: str) -> np.ndarray:
    """Scores as float64 (n,), or an `InputError`."""
    array = np.asarray(scores, np.float64)
    if array.shape != (n,):
        raise InputError(f"scores of {name} have shape {array.shape}, but there are {n} candidates.")
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise InputError(
            f"scores of {name} hold {bad} values that are not finite, the first for candidate number "
            f"{int(np.flatnonzero(~np.isfinite(array))[0])}; every candidate needs a finite score."
        )
    return array
