"""select: from scores to the chosen candidates, exactly as many as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from whence.applications.selection.base import checked
from whence.applications.selection.pool import _sizes
from whence.errors import InputError


def select(
    scores: Sequence[float] | np.ndarray,
    *,
    fraction: float | None = None,
    count: int | None = None,
    budget: float | None = None,
    threshold: float | None = None,
    sizes: Sequence[float] | np.ndarray | None = None,
    groups: Sequence[Any] | np.ndarray | None = None,
    reduce: Literal["mean", "sum"] = "mean",
    worst: bool = False,
    duplicates: Sequence[Any] | np.ndarray | None = None,
    most: int = 1,
    head: float | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Positions of the chosen candidates, ascending int64.

    Candidates are taken from the highest score down; equal scores come in random order, or the first files of
    a pool would win every tie. Say how many by exactly one of the first four arguments.

    Parameters
    ----------
    scores : (n,) finite; higher = choose first
    fraction : ``round(fraction * n)`` candidates (with `groups`, of the groups), at least 1
    count : so many candidates, or groups
    budget : the longest head of the ranking whose sizes add up to at most this; the next candidate would not
        fit
    threshold : all with at least this score (with `worst`, at most)
    sizes : (n,) tokens, steps, ... of each candidate (default 1)
    groups : (n,) labels; the candidates of a label are chosen or left together, and a group's score is that
        of `reduce`
    reduce : "mean": the sum of the members' scores per unit of size; "sum": their sum, the effect of the
        whole group if scores are effects of examples, by which long groups win
    worst : from the lowest score up, to see whether a ranking is informative at both ends
    duplicates : (n,) labels (with `groups`, the label of a group is that of its first member); at most `most`
        candidates of a label are taken: near-duplicates, or clusters among which the choice shall be spread
    head : take in order of the scores only this share of the candidates (with `groups`, of the groups) and
        draw the rest of what is asked for at random: where few candidates are good, the next in a ranking
        can do more harm than any. Not with `threshold`.
    seed : of the order among equal scores, and of what is drawn

    Raises
    ------
    InputError : none or several of the first four, more than the pool has (after `duplicates`), a budget too
        small for a single candidate, a threshold that none reaches, a head that is no share.
    """
    values = checked(scores, len(np.asarray(scores)), "select")
    cost = _sizes(sizes, len(values))
    _check_request(fraction, count, budget, threshold, reduce, most, head)
    members = np.arange(len(values))
    if groups is not None:
        members = _codes(groups, len(values), "groups")
        values, cost = _grouped(values, cost, members, reduce)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(values))
    order = shuffled[np.argsort(-values[shuffled] if not worst else values[shuffled], kind="stable")]
    if head is not None:
        first = max(1, round(head * len(order)))
        order = np.r_[order[:first], rng.permutation(order[first:])]
    if duplicates is not None:
        labels = _codes(duplicates, len(members), "duplicates")
        leaders = np.unique(members, return_index=True)[1]
        order = order[_earlier(labels[leaders][order]) < most]
    taken = order[: _how_many(values, cost, order, fraction, count, budget, threshold, worst)]
    return np.flatnonzero(np.isin(members, taken))


def _check_request(
    fraction: float | None, count: int | None, budget: float | None, threshold: float | None,
    reduce: str, most: int, head: float | None,
) -> None:  # fmt: skip
    given = {"fraction": fraction, "count": count, "budget": budget, "threshold": threshold}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InputError(
            f"say how many by exactly one of {', '.join(given)}; received {', '.join(named) or 'none'}."
        )
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"fraction must lie above 0 and be at most 1, received {fraction}.")
    if count is not None and (count != int(count) or count < 1):
        raise InputError(f"count must be a whole number of candidates, at least 1, received {count}.")
    if budget is not None and not budget > 0:
        raise InputError(f"budget must be positive, in the unit of sizes, received {budget}.")
    if reduce not in ("mean", "sum"):
        raise InputError(f'reduce must be "mean" or "sum", received {reduce!r}.')
    if most < 1:
        raise InputError(f"most must be at least 1 candidate of each label, received {most}.")
    check_head(head)
    if head is not None and threshold is not None:
        raise InputError(
            f"head={head:g} draws up to a number of candidates, which threshold={threshold:g} does not say; "
            "pass fraction, count or budget, or leave head out."
        )


def check_head(head: float | None) -> None:
    """`InputError` where it is given and no share."""
    if head is not None and not 0 < head <= 1:
        raise InputError(f"head must be a share of the candidates, above 0 and at most 1, received {head}.")


def _how_many(
    values: np.ndarray, cost: np.ndarray, order: np.ndarray, fraction: float | None, count: int | None,
    budget: float | None, threshold: float | None, worst: bool,
) -> int:  # fmt: skip
    """How long a head of `order` is taken."""
    if threshold is not None:
        reached = values[order] <= threshold if worst else values[order] >= threshold
        if not reached.any():
            raise InputError(
                f"no candidate reaches the threshold {threshold:g}; scores run from {values.min():.4g} to "
                f"{values.max():.4g}."
            )
        return int(reached.sum())
    if budget is not None:
        total = np.cumsum(cost[order])
        if total[-1] < budget * (1 - 1e-9):
            raise InputError(f"the pool has {total[-1]:g} in all, less than the budget of {budget:g}.")
        fits = int((total <= budget * (1 + 1e-9)).sum())
        if not fits:
            raise InputError(
                f"the first candidate alone has {cost[order[0]]:g}, more than the budget of {budget:g}."
            )
        return fits
    wanted = int(count) if count is not None else max(1, round((fraction or 0) * len(values)))
    if wanted > len(order):
        what = "distinct candidates" if len(order) < len(values) else "candidates"
        raise InputError(f"{wanted} were asked for, but the pool has {len(order)} {what}.")
    return wanted


def _grouped(
    values: np.ndarray, cost: np.ndarray, members: np.ndarray, reduce: str
) -> tuple[np.ndarray, np.ndarray]:
    total, size = np.bincount(members, values), np.bincount(members, cost)
    return (total if reduce == "sum" else total / size), size


def _codes(labels: Sequence[Any] | np.ndarray, n: int, name: str) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (n,):
        raise InputError(f"{name} must have one label for each of {n} candidates, received {array.shape}.")
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def _earlier(labels: np.ndarray) -> np.ndarray:
    """(m,) how many entries before it have the same label."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(labels[order]) != 0])
    lengths = np.diff(np.r_[starts, len(labels)])
    found = np.empty(len(labels), np.int64)
    found[order] = np.arange(len(labels)) - np.repeat(starts, lengths)
    return found
