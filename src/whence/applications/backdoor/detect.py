"""Backdoors: is there a group of training examples that is held together by something the rest does not
share?

Khaddaj et al. 2023 (arXiv 2307.10163): poisoned examples support each other through the trigger, so they are
a principal submatrix of the train x train weights with a large sum. The search is made in each class by
itself, since poison of either kind, dirty label or clean, has the label that the attack wants. Something is
strongest in any data; the p-value says whether it is stronger than its like.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.backdoor.candidates import LEAST, candidates
from whence.applications.backdoor.conclusion import concluded
from whence.applications.backdoor.finding import Backdoor
from whence.applications.backdoor.null import Reproduced, natural, reproduced
from whence.errors import InputError
from whence.evaluate.removals import check_retrainings, check_same_study, columns_in

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.study import Study

LEVEL = 0.05
GROUPS = 12  # found in all at least, so that they tell how strong groups of these data get
FEWEST = 50  # retrainings in a half of the bank
SILENT = 0.5  # share of a class's rows without weight from which on nothing is looked for in it


def backdoor(
    attribution: Attribution,
    study: Study | None = None,
    *,
    bank: Bank | None = None,
    labels: Sequence[Any] | np.ndarray | None = None,
    level: float = LEVEL,
    restarts: int = 64,
    triggered: Study | None = None,
    retrainings: int = 10,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Backdoor:
    """Look for a group of training examples that stands out by how its members support each other.

    Parameters
    ----------
    attribution : train x train, of a scalar output: every training example is a target, too, under the same
        id (``whence.study.variants.self_targets(study)``), in any order. Its diagonal does not count.
    study : the study of that attribution; gives labels, pictures, and a way to verify.
    bank : the retrainings that the attribution was estimated from; with them the strongest group must also
        show up in one half of them when it was found in the other.
    labels : ``(n,)`` assigned labels in the order of the attribution's training examples; default the
    study's.
        Without any the whole set is searched at once (for that, also with a study, pass equal labels).
    level : of the test. On data without a planted group it is passed with about this probability at most.
    restarts : random sets from which each search starts, for each size.
    verify : with a study, remove what stands out (if anything) and retrain.
    triggered, retrainings, seed, to, workers, progress : as in `Backdoor.verify`.

    Raises
    ------
    InputError : not train x train, a vector output, rows without weights, classes too small to search,
    another
        study, a bank with too few retrainings.
    """
    _check(attribution, study, level, restarts)
    if study is not None:
        check_retrainings(retrainings)
    square = _Square(attribution)
    named = _labels(attribution, study, labels)
    pools = [(None, np.arange(square.n))]
    if named is not None:
        pools = [(one, np.flatnonzero(named == one)) for one in dict.fromkeys(named.tolist())]
    searched = [(label, pool) for label, pool in pools if len(pool) >= 4 * LEAST]
    if not searched:
        raise InputError(
            f"no class has {4 * LEAST} examples, so no group of {LEAST} can be told from its class; pass "
            "labels of coarser classes."
        )
    halves = None if bank is None else _Halves(bank, attribution)
    found = candidates(square, searched, -(-GROUPS // len(searched)), restarts, seed)
    if not found:
        raise InputError("attribution has no weights that vary within a class, so there are no groups in it.")
    strength = np.array([one.strength for one in found])
    p = natural(strength)
    checks: dict[int, Reproduced | None] = {}
    if halves is not None:
        pool_of = dict(searched)
        for i in [i for i in range(len(found)) if p[i] <= level or i == strength.argmax()]:
            checks[i] = halves.check(pool_of[found[i].label], square.sign, restarts, seed)
    result = concluded(
        attribution, study, found, p, checks, level,
        provenance={
            "method": attribution.method,
            "study": attribution.provenance.get("study"),
            "restarts": restarts,
            "seed": seed,
            "classes searched": len(searched),
            "classes too small": len(pools) - len(searched),
            "rows without weight": len(square.silent),
            "retrainings in the halves": 0 if halves is None else halves.retrainings,
        },
    )  # fmt: skip
    if study is None or not verify or not result.detected:
        return result
    return result.verify(
        study,
        triggered=triggered,
        retrainings=retrainings,
        seed=seed,
        to=to,
        workers=workers,
        progress=progress,
    )


class _Square:
    """Train x train weights in the order of the training examples, positive helps; read a class at a time."""

    def __init__(self, attribution: Attribution) -> None:
        ids = attribution.train_ids
        if len(attribution.target_ids) != len(ids) or set(attribution.target_ids.tolist()) != set(
            ids.tolist()
        ):
            raise InputError(
                f"attribution is of {len(attribution.target_ids)} targets and {len(ids)} training examples "
                "that are not the same ones, but groups are looked for train x train; retrain "
                "whence.study.variants.self_targets(study) and attribute that."
            )
        self.n = len(ids)
        self.array = attribution.data["weight"]
        self.row = attribution.target_index(ids)
        self.sign = -1.0 if attribution.lower_is_better else 1.0
        self.silent: set[int] = set()

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """``(m, m)`` weights between these examples: a part of the matrix, or all of it without a copy."""
        whole = len(positions) == self.n and np.array_equal(self.row, np.arange(self.n))
        part = self.array if whole else self.array.isel(target=self.row[positions], train=positions)
        weight = part.values if self.sign > 0 else -part.values
        empty = np.count_nonzero(weight, axis=1) == (weight.diagonal() != 0)
        self.silent.update(positions[empty].tolist())
        if empty.sum() > SILENT * len(positions):
            raise InputError(
                f"attribution has {empty.sum()} rows of {len(positions)} examples of a class without any "
                "weight on the others, so nothing is known about them; use more retrainings, a smaller "
                "penalty or a ridge datamodel."
            )
        return weight


class _Halves:
    """A bank from which the strongest groups are to be found twice."""

    def __init__(self, bank: Bank, attribution: Attribution) -> None:
        made_for = attribution.provenance.get("study")
        ids = set(attribution.train_ids.tolist())
        if made_for not in (None, bank.study_fingerprint) or set(bank.train_ids.tolist()) != ids:
            raise InputError(
                "bank is of another study than the attribution; pass the one it was estimated from."
            )
        if attribution.output not in bank.outputs or set(bank.target_ids.tolist()) != ids:
            raise InputError(
                f"bank lacks the {attribution.output} of the training examples; pass the bank of "
                "whence.study.variants.self_targets(study) that the attribution was estimated from."
            )
        sample = bank.select(None, attribution.output)
        self.retrainings = len(sample)
        if len(np.unique(sample.mask_index)) < 2 * FEWEST:
            raise InputError(
                f"bank has {len(np.unique(sample.mask_index))} masks, too few to find groups in one half and "
                f"score them in the other; retrain on {2 * FEWEST} or more, or leave bank out."
            )
        self.sample = sample
        # where the attribution's training examples are among the bank's training examples and targets
        at = [{name: i for i, name in enumerate(side.tolist())} for side in (bank.train_ids, bank.target_ids)]
        self.columns, self.rows = (
            np.array([place[name] for name in attribution.train_ids.tolist()]) for place in at
        )

    def check(self, pool: np.ndarray, sign: float, restarts: int, seed: int) -> Reproduced | None:
        """The strongest group of a class, found twice."""
        masks = self.sample.masks[:, self.columns[pool]]
        outputs = sign * self.sample.outputs[:, self.rows[pool]]
        return reproduced(masks, outputs, self.sample.mask_index, restarts, seed)


def _check(attribution: Attribution, study: Study | None, level: float, restarts: int) -> None:
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); groups are looked for in a scalar "
            "one such as margin."
        )
    if not 0 < level < 1:
        raise InputError(f"level is {level:g}, but it must lie between 0 and 1.")
    if restarts < 2:
        raise InputError(f"restarts is {restarts}, but at least 2 are needed; 64 is usual.")
    if study is not None:
        check_same_study(attribution, study)


def _labels(attribution: Attribution, study: Study | None, labels: Any) -> np.ndarray | None:
    """(n,) classes by name, in the order of the attribution's training examples."""
    n = len(attribution.train_ids)
    if labels is not None:
        values = list(labels.tolist() if isinstance(labels, np.ndarray) else labels)
        if len(values) != n:
            raise InputError(f"labels has {len(values)} values, but there are {n} training examples.")
    elif study is None or study.train_labels is None:
        return None
    else:
        known = study.train_labels[columns_in(attribution, study)].tolist()
        values = [study.classes[label] if study.classes else label for label in known]
    found = np.empty(n, dtype=object)
    found[:] = values
    return found
