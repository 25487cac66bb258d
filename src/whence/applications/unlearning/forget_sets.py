"""Forget sets to test unlearning on: random ones are the easy kind, sets that hang together the hard kind.

The recipes of the benchmark of Georgiev et al. 2024 (arXiv 2410.23232): random examples in three sizes, the
ends of the first two principal components of the train x train datamodels, nearest neighbours of one example,
a rare sub-class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.components import principal_components, unit_rows
from whence.errors import InputError
from whence.study.variants import self_targets

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

FEWEST = 5  # examples in a set
SHARES = (1 / 5_000, 1 / 500, 1 / 100)  # of the training set: 10, 100 and 500 of CIFAR-10


def forget_sets(
    study: Study,
    attribution: Attribution | None = None,
    *,
    features: Any = None,
    around: Any = None,
    subclasses: Sequence[Any] | np.ndarray | None = None,
    own: Mapping[str, Sequence[Any]] | None = None,
    sizes: tuple[int, int, int] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Named sets of training ids to forget, each in the order of the training set.

    Always "random SIZE" for three sizes; the others for what is passed.

    Parameters
    ----------
    attribution : train x train, of a scalar output (see `whence.study.variants.self_targets`). Gives
        "component 1 top SIZE" for the small and the middle size, the examples with the largest projections on
        the first principal component of its rows (of length 1), and "component 1 ends SIZE" for the large
        size, half of it from either end; the same for component 2.
    features, around : (n, d), and the id of one training example. Gives "nearest SIZE to ID": it and its
        nearest neighbours in cosine, for the middle size.
    subclasses : one value for each training example, finer than its class. Gives "sub-class VALUE", all of
        the rarest one that has 5 examples.
    own : name -> ids.
    sizes : small, middle, large; default a 5,000th, a 500th and a 100th of the training set, but at least
        5, 10 and 20.
    seed : of the random sets.

    Raises
    ------
    InputError : sizes that do not fit, an attribution that is not train x train or not of this study, ids
        that the training set lacks, a set that leaves nothing to train on.
    """
    small, middle, large = _sizes(study, sizes)
    sets = {
        f"random {size}": np.random.default_rng([seed, size]).choice(study.n, size, replace=False)
        for size in (small, middle, large)
    }
    if attribution is not None:
        sets.update(_components(study, attribution, small, middle, large))
    if (features is None) != (around is None):
        raise InputError("features and around belong together: pass both, or neither.")
    if features is not None:
        at = check_forget(study, [around])[0]
        sets[f"nearest {middle} to {around}"] = _nearest(study, features, at, middle)
    if subclasses is not None:
        value, members = _rarest(study, subclasses)
        sets[f"sub-class {value}"] = members
    for name, ids in (own or {}).items():
        if name in sets:
            raise InputError(f"own names a set {name!r}, which is the name of another; choose a new one.")
        sets[name] = check_forget(study, ids)
    return {name: study.train_ids[np.sort(at)] for name, at in sets.items()}


def check_forget(study: Study, ids: Any) -> np.ndarray:
    """Positions (k,) of training ids that are to be forgotten, in increasing order, or an `InputError`: none,
    one twice, ids that the training set lacks, all of it."""
    array = np.asarray(ids)
    if array.ndim != 1 or array.dtype.kind == "b":
        raise InputError(
            f"forget must be a list of training ids, received {array.dtype} of shape {array.shape}; of a "
            "mask pass study.train_ids[mask]."
        )
    given = array.tolist()
    if not given:
        raise InputError("forget is empty; name at least one training example.")
    position = {identity: at for at, identity in enumerate(study.train_ids.tolist())}
    unknown = [identity for identity in given if identity not in position]
    if unknown:
        known = ", ".join(map(repr, study.train_ids[:3].tolist()))
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise InputError(
            f"forget names {', '.join(map(repr, unknown[:3]))}{more}, which the training set lacks; its ids "
            f"look like {known}."
        )
    if len(set(given)) < len(given):
        raise InputError(f"forget names {len(given) - len(set(given))} ids more than once; name each once.")
    if len(given) == study.n:
        raise InputError(
            f"forget names all {study.n} training examples; without them nothing is left to train on."
        )
    return np.sort([position[identity] for identity in given])


def _sizes(study: Study, sizes: tuple[int, int, int] | None) -> tuple[int, int, int]:
    if sizes is None:
        small, middle, large = (max(FEWEST * 2**k, round(study.n * share)) for k, share in enumerate(SHARES))
    else:
        if len(sizes) != 3:
            raise InputError(f"sizes is {tuple(sizes)}, but it must be three: small, middle, large.")
        small, middle, large = sizes
    if not 1 <= small < middle < large < study.n:
        raise InputError(
            f"sizes is {(small, middle, large)}, but they must grow and be smaller than the training set of "
            f"{study.n}."
        )
    return small, middle, large


def _components(
    study: Study, attribution: Attribution, small: int, middle: int, large: int
) -> Iterator[tuple[str, np.ndarray]]:
    at = _places(study, attribution)
    if len(at) < large:
        raise InputError(
            f"attribution has {len(at)} rows, but the ends of a component are to have {large} examples; pass "
            "smaller sizes, or an attribution of more training examples."
        )
    weight = attribution.weight * (-1.0 if attribution.lower_is_better else 1.0)
    found = principal_components(weight, 2)
    for c in range(2):
        order = np.argsort(-found.projections[:, c], kind="stable")
        for size in (small, middle):
            yield f"component {c + 1} top {size}", at[order[:size]]
        both = np.concatenate([order[: large - large // 2], order[len(order) - large // 2 :]])
        yield f"component {c + 1} ends {large}", at[both]


def _places(study: Study, attribution: Attribution) -> np.ndarray:
    """Where the rows of a train x train attribution stand in the training set."""
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); components need a scalar one such "
            "as margin."
        )
    position = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
    if not set(attribution.target_ids.tolist()) <= set(position):
        raise InputError(
            "attribution has targets that are no training examples, but components are of train x train; "
            "estimate it for whence.study.variants.self_targets(study)."
        )
    made_for = attribution.provenance.get("study")
    if made_for is not None:
        own = {study.fingerprint}
        if study.train.labels is not None:
            own.add(self_targets(study).fingerprint)
        if made_for not in own:
            raise InputError(
                f"attribution was estimated for another study (fingerprint {str(made_for)[:12]}); pass one "
                "of this study's training examples."
            )
    return np.array([position[identity] for identity in attribution.target_ids.tolist()])


def _nearest(study: Study, features: Any, at: int, count: int) -> np.ndarray:
    rows = np.asarray(features.detach().cpu() if hasattr(features, "detach") else features, np.float64)
    if len(rows) != study.n or not np.isfinite(rows).all():
        raise InputError(
            f"features has shape {rows.shape}, but it must hold finite numbers for each of {study.n} "
            "training examples."
        )
    unit, _ = unit_rows(rows.reshape(study.n, -1))
    likeness = unit @ unit[at]
    likeness[at] = np.inf
    return np.argsort(-likeness, kind="stable")[:count]


def _rarest(study: Study, subclasses: Sequence[Any] | np.ndarray) -> tuple[Any, np.ndarray]:
    values = np.asarray(subclasses)
    if values.shape != (study.n,):
        raise InputError(
            f"subclasses has shape {values.shape}, but it must be one value for each of {study.n} training "
            "examples."
        )
    names, counts = np.unique(values, return_counts=True)
    enough = (counts >= FEWEST) & (counts < study.n)
    if not enough.any():
        raise InputError(f"no sub-class has at least {FEWEST} examples without being all; pass coarser ones.")
    rarest = names[enough][counts[enough].argmin()]
    return rarest.item() if hasattr(rarest, "item") else rarest, np.flatnonzero(values == rarest)
