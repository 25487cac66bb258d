"""Coherent groups of training examples: principal submatrices of the train x train weights with a large sum.

Khaddaj et al. 2023 (arXiv 2307.10163), section 4: if a group carries the strongest feature of the data, its
indicator maximises h^T W h among sets of its size. For a set h of k examples the objective here is

    J(h) = sum_{i != j in h} (W_ij - r_i),      r_i the mean of row i, its diagonal left out,

what the members do for each other beyond what any set of k would do for them, so that an example that
everything helps does not look like a member of a group. With ``centre="both"`` what an example does for
everything is taken out as well, W_ij - r_i - c_j + m with c_j and m the means of the column and of all: the
errors of weights are shared by the targets of a column, which makes single columns high or low by chance. On
the other hand the columns of a small group in a large set are a little higher, which helps to find it; where
their means can be trusted, "rows" finds more. Finding the maximum is NP-hard. From random sets the search
exchanges many members at once for the outsiders that gain most, fewer and fewer as that stops helping, down
to single swaps with their exact gain; a set is final when no swap of one of its worst members for one of the
best outsiders raises J.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from whence.errors import InputError

Centre = Literal["rows", "both", "none"]
ROUNDS = 400  # exchanges of one restart at most
PAIRS = 8  # worst members and best outsiders among which a single swap is chosen by its exact gain


@dataclass(frozen=True)
class Blocks:
    """Sets found for each size.

    Attributes
    ----------
    sizes : ``(s,)``. members : ``(s, restarts, n)`` bool. value : ``(s, restarts)``, J of each set.
    """

    sizes: np.ndarray
    members: np.ndarray
    value: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """``(n,)``: how often an example is in a final set, smaller sets counting more: the sum over sizes of
        the share of restarts that hold it, in units of what chance would give, capped at the largest share.
        Larger is more suspicious."""
        n = self.members.shape[-1]
        share = self.members.mean(1)  # (s, n)
        chance = self.sizes[:, None] / n
        return ((share - chance) / (1 - chance)).sum(0) / len(self.sizes)

    def best(self, size: int) -> np.ndarray:
        """Positions of the members of the best set of this size."""
        at = int(np.flatnonzero(self.sizes == size)[0])
        return np.flatnonzero(self.members[at, self.value[at].argmax()])


def doubling(n: int, least: int = 10, share: float = 0.25) -> list[int]:
    """Sizes 10, 20, 40, ... up to a quarter (or another share) of n."""
    sizes = [least]
    while 2 * sizes[-1] <= share * n:
        sizes.append(2 * sizes[-1])
    return sizes


def strongest_blocks(
    weight: np.ndarray | torch.Tensor,
    sizes: Sequence[int] | None = None,
    restarts: int = 64,
    seed: int = 0,
    centre: Centre = "rows",
) -> Blocks:
    """Search for sets of each size with large J.

    Parameters
    ----------
    weight : ``(n, n)``, rows are targets, columns training examples, the same examples in the same order. The
        diagonal does not count. It is read, not copied.
    sizes : default 10, 20, 40, ... up to n/4.
    restarts : random sets to start from, for each size.
    centre : means that are taken out, "rows", "both" (rows and columns) or "none".

    Raises
    ------
    InputError : a weight that is not square, sizes out of range.
    """
    w = torch.as_tensor(weight)
    if w.ndim != 2 or w.shape[0] != w.shape[1]:
        raise InputError(
            f"weight has shape {tuple(w.shape)}, but groups are looked for in a square one: every training "
            "example must be a target, too."
        )
    n = len(w)
    chosen = doubling(n) if sizes is None else [int(k) for k in sizes]
    if not chosen or min(chosen) < 2 or max(chosen) >= n:
        raise InputError(f"sizes is {tuple(chosen)}, but each must be from 2 to {n - 1}.")
    if restarts < 1:
        raise InputError(f"restarts is {restarts}, but it must be at least 1.")
    return _Search(w, centre).blocks(chosen, restarts, seed)


def objective(weight: np.ndarray, members: np.ndarray, centre: Centre = "rows") -> float:
    """J of one set ``(n,)`` bool, computed from its definition."""
    w = np.array(weight, np.float64)
    np.fill_diagonal(w, 0)
    others = len(w) - 1
    if centre != "none":
        rows, columns, mean = w.sum(1, keepdims=True) / others, w.sum(0) / others, w.sum() / others / len(w)
        w -= rows if centre == "rows" else rows + columns - mean
    np.fill_diagonal(w, 0)
    inside = np.flatnonzero(members)
    return float(w[np.ix_(inside, inside)].sum())


class _Search:
    """Exchanges for all restarts of one size together.

    `fee` ``(n,)`` is what an example is charged for each other member: the objective is the sum of a set's
    weights less (k - 1) times its members' fees.
    """

    def __init__(self, w: torch.Tensor, centre: Centre) -> None:
        self.w = w
        self.diagonal = w.diagonal().clone()
        rows, columns = (w.sum(side, dtype=torch.float64) - self.diagonal.double() for side in (1, 0))
        others = len(w) - 1
        fees = {"none": 0 * rows, "rows": rows, "both": rows + columns - rows.mean()}
        if centre not in fees:
            raise InputError(f"centre is {centre!r}, but it must be one of {', '.join(fees)}.")
        self.fee = (fees[centre] / others).to(w.dtype)

    def blocks(self, sizes: Sequence[int], restarts: int, seed: int = 0) -> Blocks:
        """Climb from random sets of each size."""
        generator = torch.Generator().manual_seed(seed)
        n = len(self.w)
        members, value = [], []
        for k in sizes:
            start = torch.rand(restarts, n, generator=generator).topk(k, dim=1).indices
            h, j = self.climb(torch.zeros(restarts, n, dtype=torch.bool).scatter_(1, start, True), k)
            members.append(h.numpy())
            value.append(j.numpy())
        return Blocks(np.array(sizes), np.stack(members), np.stack(value))

    def links(self, h: torch.Tensor) -> torch.Tensor:
        """(r, n) what each example and a set do for each other: sum over j in h, j != i, of W_ij + W_ji."""
        f = h.to(self.w.dtype)
        return f @ self.w + f @ self.w.T - 2 * f * self.diagonal

    def climb(self, h: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sets (r, n) from which no swap of a worst member for a best outsider leads up, and J (r,)."""
        n = h.shape[1]
        price = self.fee * (k - 1)
        links = self.links(h)
        j = self.value(h, links, price)
        width = torch.full((len(h),), max(1, min(k, n - k) // 2))  # members to exchange at once
        live = torch.arange(len(h))
        for _ in range(ROUNDS):
            mine, gains = h[live], links[live] - price
            most = max(int(width[live].max()), min(PAIRS, k, n - k))
            out = torch.where(mine, -gains, -torch.inf).topk(most, dim=1)
            into = torch.where(mine, -torch.inf, gains).topk(most, dim=1)
            # Exchange only pairs that gain, and of these no more than the restart's width.
            use = (into.values + out.values > 0) & (torch.arange(most) < width[live][:, None])
            single = width[live] == 1
            if single.any():
                self.best_pair_first(out, into, single)
                use[single, 0] = True
            new = mine.clone()
            new.scatter_(1, out.indices, new.gather(1, out.indices) & ~use)
            new.scatter_(1, into.indices, new.gather(1, into.indices) | use)
            fresh = self.moved(links[live], out.indices, into.indices, use)
            value = self.value(new, fresh, price)
            up = value > j[live] + 1e-6 * j[live].abs().clamp(min=1e-6)
            won = live[up]
            h[won], links[won], j[won] = new[up], fresh[up], value[up]
            going = live[~up & ~single]
            width[going] = (width[going] // 4).clamp(min=1)
            live = torch.cat([won, going]).sort().values
            if len(live) == 0:
                break
        return h, j

    def best_pair_first(self, out: Any, into: Any, single: torch.Tensor) -> None:
        """Put the pair of the largest exact gain first, where a single pair is to be exchanged: what the two
        do for each other is lost when one replaces the other."""
        a, b = out.indices[single, :PAIRS], into.indices[single, :PAIRS]
        between = self.w[a[:, :, None], b[:, None, :]] + self.w[b[:, None, :], a[:, :, None]]
        gain = out.values[single, :PAIRS, None] + into.values[single, None, :PAIRS] - between
        best = gain.flatten(1).argmax(1)
        rows = single.nonzero()[:, 0]
        for side, at in ((out, best // gain.shape[2]), (into, best % gain.shape[2])):
            first, chosen = side.indices[rows, 0], side.indices[rows, at]
            side.indices[rows, at], side.indices[rows, 0] = first, chosen

    def moved(
        self, links: torch.Tensor, out: torch.Tensor, into: torch.Tensor, use: torch.Tensor
    ) -> torch.Tensor:
        """Links after the exchanges: by a product where many move, else from their rows and columns."""
        if int(use.sum()) > len(links) * 8:
            delta = torch.zeros_like(links)
            delta.scatter_add_(1, into, use.to(links.dtype)).scatter_add_(1, out, -use.to(links.dtype))
            return links + delta @ self.w + delta @ self.w.T - 2 * delta * self.diagonal
        restart, pair = use.nonzero(as_tuple=True)
        at = torch.cat([into[restart, pair], out[restart, pair]])
        sign = torch.ones(len(at), 1, dtype=links.dtype)
        sign[len(restart) :] = -1
        owner = torch.cat([restart, restart])
        change = sign * (self.w.index_select(0, at) + self.w.index_select(1, at).T)
        links = links.index_add(0, owner, change)
        own = -2 * sign[:, 0] * self.diagonal[at]
        return links.index_put_((owner, at), own, accumulate=True)

    def value(self, h: torch.Tensor, links: torch.Tensor, price: torch.Tensor) -> torch.Tensor:
        """J (r,) in float64."""
        return (torch.where(h, links / 2 - price, 0)).sum(1, dtype=torch.float64)
