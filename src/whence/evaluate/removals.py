"""Which training examples a counterfactual check leaves out, and whether it can be done at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

KINDS = ("top", "bottom", "random")


def check(
    attribution: Attribution, study: Study, k: Sequence[int], kinds: Sequence[str], retrainings: int
) -> str:
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
    if not k or any(int(size) != size or not 0 < size < study.n for size in k):
        raise InputError(f"k is {tuple(k)}, but each size must be a whole number from 1 to {study.n - 1}.")
    if not kinds or set(kinds) - set(KINDS):
        raise InputError(f"kinds is {tuple(kinds)}, but it must hold some of {', '.join(KINDS)}.")
    if retrainings < 2:
        raise InputError(
            f"retrainings is {retrainings}, but at least 2 are needed to know the noise; 10 or more would do."
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
    helpfulness = attribution.weight[target] * (-1 if attribution.lower_is_better else 1)
    shuffled = rng.permutation(n)
    order = shuffled[
        np.argsort(-helpfulness[shuffled] if kind == "top" else helpfulness[shuffled], kind="stable")
    ]
    return [(int(size), order[: int(size)]) for size in k]
