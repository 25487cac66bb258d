"""Candidate groups: the sets of one class whose members tie together most, and how far they stand apart.

The tie of example i to a set h is the mean of the centred weights between i and the members, both ways (what
the set does for i, what i does for the set), i itself left out. How far a group stands apart is

    separation = (mean tie of members - mean tie of the rest of the class) / spread of the ties of the rest,

the detectability ratio d sqrt(k) / sigma of k members whose weights on each other are d higher, up to a
factor sqrt(2), with the spread measured where it counts: in the ties of a class to this very group, whatever
mixture of estimation noise and of natural likeness makes them differ. A cluster with a soft edge has ties of
all strengths around it and a smaller separation than a group that is all or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from whence.applications.blocks import Blocks, Centre, doubling, strongest_blocks

CENTRES: tuple[Centre, ...] = ("rows", "both")  # either finds groups that the other misses
LEAST = 10  # members; smaller sets (two or three near-duplicates) are a matter for leakage
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4)  # of a group, to which it may be trimmed
_CAP = 0.6  # of the usual size of a class: members that count for a group's strength
_POLISHING = 10  # rounds at most
_RANDOM = 8  # sets whose ties say how much the ties to any set differ


@dataclass(frozen=True)
class Candidate:
    """A set found in a class.

    Attributes
    ----------
    label : the class, None where all examples were searched together.
    members : ``(size,)`` positions in the attribution, strongest tie first.
    effect : d, how much higher the weights between members are than those between a member and the rest.
    ratio : d sqrt(size) / sigma, sigma the spread of single centred weights in the class.
    separation : as above. evidence : of the group, in nats (see `evidence`).
    cap : members that count for its strength.
    """

    label: Any
    members: np.ndarray
    effect: float
    ratio: float
    separation: float
    evidence: float
    pool: np.ndarray
    tie: np.ndarray
    stability: dict[int, float]
    background: dict[int, float]
    cap: float = np.inf

    @property
    def size(self) -> int:
        return len(self.members)

    @property
    def support(self) -> float:
        """What all the other members do for one of them: (size - 1) d, in units of the output."""
        return (self.size - 1) * self.effect

    @property
    def strength(self) -> float:
        """Evidence times support: a group has to be distinct and to matter. Small natural kinds are distinct,
        loose large ones matter.

        Both grow with the size. Of a group above `cap` only so many members are counted: the largest sets of
        noise are found in the largest classes. A group of more than half of its class counts like the rest of
        it, for the two are one division.
        """
        part = min(self.size, len(self.pool) - self.size)
        effect = self.effect * (len(self.pool) - self.size) / (len(self.pool) - part)
        counted = min(part, self.cap)
        return max(evidence(self.separation, counted) * (counted - 1) * effect, 0.0)

    def support_needed(self, strength: float, size: int) -> float:
        """The support with which a group of this size in this class would have this strength."""
        # effect = separation * spread of the ties, and strength grows with its third power
        spread = self.background[size] * len(self.pool) / (len(self.pool) - size)
        counted = min(size, self.cap)
        separation = (2 * strength / (counted * (counted - 1) * spread)) ** (1 / 3)
        return (size - 1) * separation * spread


class Ties:
    """Centred weights of a class, ``w`` ``(m, m)``, and the ties of its examples to sets."""

    def __init__(self, w: np.ndarray | torch.Tensor) -> None:
        self.w = torch.as_tensor(w)
        self.diagonal = self.w.diagonal().clone()
        others = len(self.w) - 1
        self.rows, self.columns = (
            (self.w.sum(side, dtype=torch.float64) - self.diagonal.double()) / others for side in (1, 0)
        )
        self.mean = self.rows.mean()

    def to(self, h: torch.Tensor) -> torch.Tensor:
        """(m,) float64 ties to a set h (m,) bool."""
        f = h.to(self.w.dtype)
        links = (f @ self.w + self.w @ f - 2 * f * self.diagonal).double()
        count = h.sum() - h.double()
        fee = self.rows + self.columns
        return (links - count * fee - (fee[h].sum() - h * fee) + 2 * count * self.mean) / (2 * count)

    def within(self, h: torch.Tensor) -> float:
        """Mean weight, not centred, of the members of h on each other."""
        f = h.to(self.w.dtype)
        total = f @ self.w @ f - (f * self.diagonal).sum()
        return float(total) / float(h.sum() * (h.sum() - 1))

    def spread(self) -> float:
        """Standard deviation of single centred weights off the diagonal."""
        square = (self.w.double().square().sum() - self.diagonal.double().square().sum()).item()
        m = len(self.w)
        explained = (m - 1) * float(
            (self.rows - self.mean).square().sum() + (self.columns - self.mean).square().sum()
        ) + m * (m - 1) * float(self.mean.square())
        return max(square - explained, 0.0) ** 0.5 / max(m * (m - 1), 1) ** 0.5


def apart(tie: torch.Tensor, h: torch.Tensor) -> tuple[float, float]:
    """Gap between the mean ties of members and of the rest, and the spread of the rest."""
    inside, outside = tie[h], tie[~h]
    return float(inside.mean() - outside.mean()), float(outside.std())


def evidence(separation: float, size: float) -> float:
    """Log-likelihood, in nats, by which a group's mean shift explains the ties of its members: ``size
    separation^2 / 2`` (normal ties)."""
    return size * separation**2 / 2


def candidate(
    w: np.ndarray,
    pool: np.ndarray,
    label: Any,
    restarts: int,
    seed: int,
    share: float = 0.5,
    least: int = LEAST,
) -> Candidate | None:
    """The set of a class with the most evidence, of sizes from `least` to a share of the class.

    w : ``(m, m)`` weights of the class, positive helps. pool : ``(m,)`` positions of its examples.

    None where the class has fewer than ``4 * least`` examples or no weights that vary.
    """
    if len(pool) < 4 * least:
        return None
    ties = Ties(w)
    if ties.spread() == 0:
        return None
    sizes = doubling(len(pool), least, share)
    searches = [strongest_blocks(ties.w, sizes, max(restarts // 2, 1), seed, centre) for centre in CENTRES]
    starts = [blocks.best(size) for blocks in searches for size in sizes]
    best, most = None, -np.inf
    for start in starts:
        h = torch.zeros(len(pool), dtype=torch.bool)
        h[start] = True
        for _ in range(_POLISHING):
            tie = ties.to(h)
            gap, spread = apart(tie, h)
            value = evidence(gap / spread, int(h.sum())) if spread > 0 else most
            if value > most:
                best, most = h, value
            new = _nearer(tie, h, least, max(least, int(share * len(pool))))
            if torch.equal(new, h):
                break
            h = new
    if best is None:
        return None
    best = _trimmed(ties, best, least)
    if ties.within(~best) > ties.within(best):
        # A class in two parts looks the same from either; the part that does more for itself is the group.
        best = ~best
    tie = ties.to(best)
    gap, spread = apart(tie, best)
    part = len(pool) / (len(pool) - int(best.sum()))  # the means that were taken out hold the members, too
    inside = torch.nonzero(best)[:, 0]
    order = inside[torch.argsort(-tie[inside], stable=True)].numpy()
    return Candidate(
        label=label,
        members=pool[order],
        effect=gap * part,
        ratio=gap * part * len(order) ** 0.5 / ties.spread(),
        separation=gap / spread,
        evidence=evidence(gap / spread, min(len(order), len(pool) - len(order))),
        pool=pool,
        tie=((tie - tie[~best].mean()) / spread).numpy(),
        stability=_stability(searches),
        background={int(size): _background(ties, int(size), seed) for size in sizes},
    )


def candidates(
    weight: Callable[[np.ndarray], np.ndarray],
    pools: Sequence[tuple[Any, np.ndarray]],
    sets: int,
    restarts: int,
    seed: int,
) -> list[Candidate]:
    """The strongest candidate of each class and, one after the other from what is left, further ones.

    weight : from positions ``(m,)`` to the ``(m, m)`` weights between them. pools : classes and the positions
    of their examples. sets : candidates for each class.
    """
    found = []
    share = min(0.5, 2 / sets)  # so that there is something left for as many sets
    cap = _CAP * float(np.median([len(pool) for _, pool in pools]))
    for number, (label, pool) in enumerate(pools):
        for turn in range(sets):
            one = candidate(weight(pool), pool, label, restarts, seed + 1000 * number + turn, share)
            if one is None:
                break
            found.append(replace(one, cap=cap))
            pool = np.setdiff1d(pool, one.members)
    return found


def _nearer(tie: torch.Tensor, h: torch.Tensor, least: int, most: int) -> torch.Tensor:
    """The set of those whose tie is nearer the members' mean than the others', of a size within bounds."""
    new = tie > (tie[h].mean() + tie[~h].mean()) / 2
    size = min(max(int(new.sum()), least), most)
    return torch.zeros_like(h).scatter_(0, tie.topk(size).indices, True)


def _trimmed(ties: Ties, h: torch.Tensor, least: int) -> torch.Tensor:
    """Of h and its members of strongest tie, the set that stands apart most: evidence grows with lucky others
    that are taken in, separation does not."""
    tie, size = ties.to(h), int(h.sum())
    order = torch.where(h, tie, -torch.inf).argsort(descending=True)
    best, most = h, -np.inf
    for share in _SHARES:
        part = torch.zeros_like(h).scatter_(0, order[: max(round(share * size), least)], True)
        gap, spread = apart(ties.to(part), part)
        if spread > 0 and gap / spread > most:
            best, most = part, gap / spread
    return best


def _stability(searches: Sequence[Blocks]) -> dict[int, float]:
    """Size -> mean share of the best set of either search that its restarts end with."""
    shares = {}
    for at, size in enumerate(searches[0].sizes):
        each = [(b.members[at] & b.members[at, b.value[at].argmax()]).sum(1).mean() for b in searches]
        shares[int(size)] = float(np.mean(each) / size)
    return shares


def _background(ties: Ties, size: int, seed: int) -> float:
    """Root mean square over random sets of the spread of the ties of all others."""
    rng, squares = np.random.default_rng(seed), []
    for _ in range(_RANDOM):
        h = torch.zeros(len(ties.w), dtype=torch.bool)
        h[rng.choice(len(h), size, replace=False)] = True
        squares.append(apart(ties.to(h), h)[1] ** 2)
    return float(np.mean(squares)) ** 0.5
