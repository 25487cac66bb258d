"""Pool: what a selector chooses from and what it chooses for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError

if TYPE_CHECKING:
    from whence.study import Study
    from whence.study._examples import Examples


class Pool:
    """Candidates and the target examples that the choice is for.

    Parameters
    ----------
    study : its training examples are the candidates; its targets are the *selection half* of the target
        examples. What is reported later are other examples of the same tasks.
    targets : ids of those of the study's targets that count (default: all).
    task : a name for these targets.
    sizes : (n,) cost of each candidate, in tokens, steps or whatever a budget is given in (default: 1 each).
    groups : (n,) a label for each candidate; candidates of one label (the steps of a trajectory, the rows of
        a document) are chosen or left together.

    Raises
    ------
    InputError : no target, a target that is also a candidate, sizes or groups of another length, sizes that
        are not positive.
    """

    def __init__(
        self,
        study: Study,
        *,
        targets: Sequence[Any] | None = None,
        task: str = "targets",
        sizes: Sequence[float] | np.ndarray | None = None,
        groups: Sequence[Any] | np.ndarray | None = None,
    ) -> None:
        self.study = study
        self.sizes = _sizes(sizes, study.n)
        self.groups = None if groups is None else np.asarray(groups)
        if self.groups is not None and self.groups.shape != (study.n,):
            raise InputError(
                f"groups must have one label for each of {study.n} candidates, received shape "
                f"{self.groups.shape}."
            )
        check_apart(study.targets, study.train, "target", "candidates")
        self._remembered: dict[Any, tuple[Any, Any]] = {}
        self._take(study.target_ids if targets is None else targets, task)

    def only(self, targets: Sequence[Any], task: str) -> Pool:
        """The same candidates for some of the targets, ids of the study."""
        part = copy.copy(self)  # remembers what this one does: attributions serve all tasks
        part._take(targets, task)
        return part

    def _take(self, targets: Sequence[Any] | np.ndarray, task: str) -> None:
        place = {identity: i for i, identity in enumerate(self.study.target_ids.tolist())}
        wanted = list(targets.tolist() if isinstance(targets, np.ndarray) else targets)
        if not wanted:
            raise InputError(f"{task!r} has no target example; name at least one to choose for.")
        unknown = [identity for identity in wanted if identity not in place]
        if unknown or len(set(wanted)) < len(wanted):
            what = f"{unknown[0]!r} is no target of the study" if unknown else "an id is named twice"
            raise InputError(f"targets of {task!r} must be ids of the study's targets, but {what}.")
        self.task = task
        self.target_index = np.array([place[identity] for identity in wanted])

    @property
    def n(self) -> int:
        """Number of candidates."""
        return self.study.n

    @property
    def ids(self) -> np.ndarray:
        """Ids of the candidates, (n,)."""
        return self.study.train_ids

    @property
    def target_ids(self) -> np.ndarray:
        """Ids of the target examples, (t,)."""
        return self.study.target_ids[self.target_index]

    @property
    def texts(self) -> np.ndarray | None:
        """Texts of the candidates, str (n,); None for a study without texts."""
        return self.study.train_texts

    @property
    def target_texts(self) -> np.ndarray | None:
        """Texts of the target examples, str (t,); None for a study without texts."""
        texts = self.study.target_texts
        return None if texts is None else texts[self.target_index]

    def remember(self, owner: Any, make: Callable[[], Any], seed: int = 0) -> Any:
        """What `make` returned the first time it was asked for by `owner` with this seed: shared by all pools
        of `only`."""
        key = id(owner), seed
        if key not in self._remembered:
            self._remembered[key] = owner, make()  # the owner is kept, so that its id stays its own
        return self._remembered[key][1]

    def __repr__(self) -> str:
        return f"<Pool of {self.n:,} candidates for {len(self.target_index)} examples of {self.task!r}>"


def check_apart(examples: Examples, others: Examples, what: str, whose: str) -> None:
    """`InputError` where an example (inputs and labels) is in both; nothing is known of examples without
    inputs."""
    mine, theirs = contents(examples, others), set(contents(others, examples))
    both = [i for i, content in enumerate(mine) if content in theirs]
    if both:
        raise InputError(
            f"{len(both)} of {len(mine)} {what} examples are also {whose}, the first is number {both[0]}; "
            "take them out on one side, for a choice must not be made for what it is judged by or trained on."
        )


def contents(examples: Examples, others: Examples) -> list[bytes]:
    """A digest of each example, in a number format that both sides have in common."""
    if examples.inputs is None or others.inputs is None:
        return []
    inputs = np.asarray(examples.inputs)
    if inputs.shape[1:] != tuple(others.inputs.shape[1:]):
        return []
    kind = np.result_type(inputs.dtype, np.asarray(others.inputs[:1]).dtype)
    answers = examples.answers
    found = []
    for i in range(len(examples)):
        digest = hashlib.blake2b(np.ascontiguousarray(inputs[i], kind).tobytes(), digest_size=16)
        if answers is not None:
            digest.update(np.ascontiguousarray(answers[i]).tobytes())
        found.append(digest.digest())
    return found


def _sizes(sizes: Sequence[float] | np.ndarray | None, n: int) -> np.ndarray:
    if sizes is None:
        return np.ones(n)
    array = np.asarray(sizes, np.float64)
    if array.shape != (n,) or not (np.isfinite(array) & (array > 0)).all():
        raise InputError(
            f"sizes must be {n} positive numbers, one for each candidate, received shape {array.shape}"
            f"{'' if array.shape != (n,) else ' with numbers that are not positive or not finite'}."
        )
    return array
