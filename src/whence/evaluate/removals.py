"""Which training examples a check by removal leaves out, whether it can be done at all, and doing it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError
from whence.subsets import Subsets

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

KINDS = ("top", "bottom", "random")
# Keeps training seeds apart from those of the bank that an attribution was fitted to, also with equal `seed`.
FRESH = 1 << 40
# The same for the masks of a stream; one word of 32 bits, for NumPy joins the words of seed and index.
FRESH_MASKS = 1 << 31


def check(
    attribution: Attribution, study: Study, k: Sequence[int], kinds: Sequence[str], retrainings: int
) -> str:
    output = check_same_study(attribution, study)
    if not k or any(int(size) != size or not 0 < size < study.n for size in k):
        raise InputError(f"k is {tuple(k)}, but each size must be a whole number from 1 to {study.n - 1}.")
    if not kinds or set(kinds) - set(KINDS):
        raise InputError(f"kinds is {tuple(kinds)}, but it must hold some of {', '.join(KINDS)}.")
    check_retrainings(retrainings)
    return output


def check_retrainings(retrainings: int) -> None:
    if retrainings < 2:
        raise InputError(
            f"retrainings is {retrainings}, but at least 2 are needed to know the noise; 10 or more would do."
        )


def check_same_study(attribution: Attribution, study: Study) -> str:
    """The output that is explained, or an `InputError`: a vector output, another study's attribution."""
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); the check needs a scalar one "
            "such as margin."
        )
    output = attribution.output
    if output not in study.outputs:
        raise InputError(
            f"attribution explains {output!r}, but the study records {', '.join(map(repr, study.outputs))}."
        )
    made_for = attribution.provenance.get("study")
    if made_for is not None and made_for != study.fingerprint:
        raise InputError(
            f"attribution was estimated for another study (fingerprint {str(made_for)[:12]}, this one has "
            f"{study.fingerprint[:12]}); pass the study it was estimated for."
        )
    if set(attribution.train_ids.tolist()) != set(study.train_ids.tolist()):
        raise InputError(
            "attribution weighs other training examples than the study has; use an attribution of this study."
        )
    missing = set(attribution.target_ids.tolist()) - set(study.target_ids.tolist())
    if missing:
        raise InputError(
            f"attribution explains {len(missing)} targets that the study lacks, for example "
            f"{min(map(str, missing))}."
        )
    return output


def choose_targets(
    attribution: Attribution, targets: int | Sequence[Any], rng: np.random.Generator
) -> list[int]:
    """Row numbers of the attribution."""
    count = len(attribution.target_ids)
    if isinstance(targets, int | np.integer):
        if not 0 < targets <= count:
            raise InputError(
                f"targets is {targets}, but the attribution has {count} of them; pass 1 to {count}, or ids."
            )
        return sorted(rng.choice(count, size=int(targets), replace=False).tolist())
    rows = attribution.target_index(targets).tolist()
    if not rows or len(set(rows)) < len(rows):
        raise InputError("targets must name at least one target, and none of them twice.")
    return rows


def sets_of(
    attribution: Attribution, target: int, kind: str, k: Sequence[int], rng: np.random.Generator
) -> list[tuple[int, np.ndarray]]:
    """For each size, the columns to remove. Larger top and bottom sets contain the smaller ones."""
    n = attribution.shape[-1]
    if kind == "random":
        return [(int(size), rng.choice(n, size=int(size), replace=False)) for size in k]
    order = ranking(attribution, target, rng, kind == "bottom")
    return [(int(size), order[: int(size)]) for size in k]


def helpfulness(attribution: Attribution, target: int) -> np.ndarray:
    """(n,) weights of row number `target`, positive where the example helps."""
    return attribution.weight[target] * (-1 if attribution.lower_is_better else 1)


def ranking(
    attribution: Attribution, target: int, rng: np.random.Generator, harmful: bool = False
) -> np.ndarray:
    """(n,) columns from most to least helpful (or harmful); ties in random order."""
    key = helpfulness(attribution, target) * (1 if harmful else -1)
    shuffled = rng.permutation(len(key))
    return shuffled[np.argsort(key[shuffled], kind="stable")]


def columns_in(attribution: Attribution, study: Study) -> np.ndarray:
    """(n,) where each training example of the attribution stands in the study."""
    position = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
    return np.array([position[identity] for identity in attribution.train_ids.tolist()])


def rows_in(attribution: Attribution, study: Study) -> np.ndarray:
    """(targets,) where each target of the attribution stands in the study."""
    position = {identity: i for i, identity in enumerate(study.target_ids.tolist())}
    return np.array([position[identity] for identity in attribution.target_ids.tolist()])


def random_of_same_classes(study: Study, gone: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many training examples as `gone` (positions) of the same classes, none of them in it: a control.
    Fewer where a class has no more."""
    left = np.setdiff1d(np.arange(study.n), gone)
    labels = study.train_labels
    if labels is None:
        return rng.choice(left, min(len(gone), len(left) - 1), replace=False)
    parts = []
    for label, count in zip(*np.unique(labels[gone], return_counts=True), strict=True):
        pool = left[labels[left] == label]
        parts.append(rng.choice(pool, min(count, len(pool)), replace=False))
    return np.concatenate(parts)


def leave_out(
    study: Study,
    sets: Sequence[Sequence[int]],
    retrainings: int,
    output: str,
    *,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> list[np.ndarray]:
    """Retrain without each set of positions, `retrainings` fresh seeds each; an empty set is a control.

    to : the bank that keeps the retrainings, so that a stopped check resumes; default a temporary one.

    Returns the finite outputs for each set: a list of (retrainings or fewer, targets) float64.
    """
    from whence.retraining import retrain  # the executor stack loads only where something is trained

    with tempfile.TemporaryDirectory() as scratch:
        bank = retrain(
            study,
            len(sets) * retrainings,
            subsets=Subsets.leaving_out(study.n, sets),
            validation=0.0,
            held_out=0.0,
            seeds=retrainings,
            seed=seed + FRESH,
            to=os.path.join(scratch, "removals.zarr") if to is None else to,
            workers=workers,
            progress=progress,
        )
        sample = bank.select("train", output)
    outputs = np.asarray(sample.outputs, np.float64)
    return [outputs[sample.mask_index == number] for number in range(len(sets))]
