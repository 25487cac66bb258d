"""How training sets are drawn, and how the rows of a bank map to masks, seeds and parts.

A mask is a boolean vector over the training set in its original order: ``True`` means *trained on*. Every
mask is a pure function of ``(design, seed, index)``, so a bank can be checked, resumed and extended without
storing a random state. Only raw uniform draws are used, never a library's ``choice`` or ``permutation``,
whose streams may change between releases.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from whence.errors import InputError

PARTS = ("train", "validation", "held_out")
"""What a retraining is for: fitting, choosing hyper-parameters, or being reported on."""

_GOLDEN = 0.6180339887498949


def pack(masks: np.ndarray) -> np.ndarray:
    """Pack boolean masks ``(m, n)`` to bits, shape ``(m, ceil(n / 8))`` uint8, little-endian within a
    byte."""
    return np.packbits(np.asarray(masks, dtype=bool), axis=-1, bitorder="little")


def unpack(bits: np.ndarray, n: int) -> np.ndarray:
    """Undo `pack`: bits ``(m, ceil(n / 8))`` uint8 to boolean masks ``(m, n)``."""
    return np.unpackbits(np.asarray(bits, dtype=np.uint8), axis=-1, count=n, bitorder="little").astype(bool)


@dataclass(frozen=True, eq=False)
class Subsets:
    """A reproducible stream of training subsets.

    Build one with a named constructor: `uniform`, `bernoulli`, `stratified`, `grouped`, `leaving_out`,
    `given` or `correlated`.

    Attributes
    ----------
    n : number of training examples.
    design : the constructor's name.
    keep : the share of the training set that a mask keeps, in expectation (the papers' alpha).
    seed : the seed of the stream.
    """

    n: int
    design: str
    keep: float
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, received {self.seed}.")
        # NumPy's numbers cannot be written as JSON.
        for name, kind in (("n", int), ("keep", float), ("seed", int)):
            object.__setattr__(self, name, kind(getattr(self, name)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subsets) and self.spec() == other.spec()

    def __hash__(self) -> int:
        return hash((self.n, self.design, self.keep, self.seed))

    @classmethod
    def uniform(cls, n: int, keep: float = 0.5, seed: int = 0) -> Subsets:
        """Subsets of one fixed size ``round(keep * n)``, all equally likely (Ilyas et al. 2022, section
        2)."""
        _check_keep(keep)
        _check_size(n, round(keep * n), keep)
        return cls(n, "uniform", keep, seed)

    @classmethod
    def bernoulli(cls, n: int, keep: float = 0.5, seed: int = 0) -> Subsets:
        """Every example is kept by its own coin, so sizes vary (the design of the harmonic analysis)."""
        _check_keep(keep)
        _check_size(n, round(keep * n), keep)
        return cls(n, "bernoulli", keep, seed)

    @classmethod
    def stratified(cls, labels: Sequence[int] | np.ndarray, keep: float = 0.5, seed: int = 0) -> Subsets:
        """Fixed size within every class: ``round(keep * class size)`` of each are kept."""
        codes = _codes(labels, "labels")
        _check_keep(keep)
        for code, size in enumerate(np.bincount(codes)):
            if not 0 < round(keep * size) < size:
                raise InputError(
                    f"keep={keep} would keep {round(keep * size)} of the {size} examples of class number "
                    f"{code}; choose a keep that leaves at least one in and one out of every class."
                )
        return cls(len(codes), "stratified", keep, seed, {"labels": codes})

    @classmethod
    def grouped(cls, groups: Sequence[Any] | np.ndarray, keep: float = 0.5, seed: int = 0) -> Subsets:
        """Groups (clusters, sources, trajectories) are kept or dropped whole; ``round(keep * groups)`` are
        kept."""
        codes = _codes(groups, "groups")
        _check_keep(keep)
        count = int(codes.max()) + 1
        if not 0 < round(keep * count) < count:
            raise InputError(
                f"keep={keep} would keep {round(keep * count)} of {count} groups; at least one must be "
                "in and one out."
            )
        return cls(len(codes), "grouped", keep, seed, {"groups": codes})

    @classmethod
    def leaving_out(cls, n: int, sets: Iterable[Sequence[int]]) -> Subsets:
        """Mask ``i`` keeps everything but ``sets[i]``; an empty set is a control on the full training set."""
        removed = []
        for position, members in enumerate(sets):
            array = np.asarray(members).reshape(-1)
            if array.size and array.dtype.kind not in "iu":  # a mask would be read as positions 0 and 1
                raise InputError(
                    f"sets[{position}] must list positions of training examples as integers, received dtype "
                    f"{array.dtype}; for a mask pass numpy.flatnonzero(mask)."
                )
            index = np.unique(array.astype(np.int64))
            if index.size and (index[0] < 0 or index[-1] >= n):
                raise InputError(
                    f"sets[{position}] names training example {int(index[0] if index[0] < 0 else index[-1])}"
                    f", but positions run from 0 to {n - 1}."
                )
            if index.size == n:
                raise InputError(
                    f"sets[{position}] removes all {n} training examples; at least one must stay."
                )
            removed.append(index)
        if not removed:
            raise InputError("sets is empty; pass at least one list of training positions to leave out.")
        keep = 1.0 - float(np.mean([len(index) for index in removed])) / n
        return cls(n, "leaving_out", keep, 0, {"sets": removed})

    @classmethod
    def given(cls, masks: np.ndarray) -> Subsets:
        """Mask ``i`` is ``masks[i]``, boolean ``(m, n)``: subsets that somebody chose."""
        array = np.asarray(masks)
        if array.ndim != 2 or not array.size or array.dtype != bool:
            raise InputError(
                f"masks must be boolean of shape (m, n), True for what is trained on, received dtype "
                f"{array.dtype} and shape {array.shape}."
            )
        empty = np.flatnonzero(~array.any(axis=1))
        if empty.size:
            raise InputError(f"mask {int(empty[0])} keeps no training example; keep at least one.")
        return cls(array.shape[1], "given", float(array.mean()), 0, {"bits": pack(array)})

    @classmethod
    def correlated(
        cls,
        n: int,
        keep: float = 0.5,
        rho: float | Sequence[float] = 0.5,
        seed: int = 0,
        fixed_size: bool = False,
    ) -> Subsets:
        """Pairs of masks: ``2j`` and ``2j + 1`` agree on a coordinate with correlation `rho`.

        Each coordinate of the second mask copies the first with probability `rho` and is drawn afresh
        otherwise (the noise operator of Saunshi et al. 2023). Several values of `rho` are dealt to the pairs
        in turn; a pair with rho 1 is one mask trained twice. With `fixed_size` both masks are uniform subsets
        of ``round(keep * n)`` examples, and the second swaps so many members that the correlation is `rho` up
        to rounding.
        """
        _check_keep(keep)
        _check_size(n, round(keep * n), keep)
        single = isinstance(rho, int | float | np.number)
        values = [float(rho)] if single else [float(value) for value in rho]  # type: ignore[arg-type, union-attr]
        if not values or not all(0 <= value <= 1 for value in values):
            raise InputError(f"rho must lie in [0, 1], received {rho}.")
        options: dict[str, Any] = {"rho": values[0] if single else values}
        if fixed_size:
            options["fixed_size"] = True
        return cls(n, "correlated", keep, seed, options)

    @property
    def count(self) -> int | None:
        """Number of masks in the stream, None when it does not end."""
        named = {"leaving_out": "sets", "given": "bits"}.get(self.design)
        return None if named is None else len(self.options[named])

    def rho_of(self, pair: int) -> float:
        """The correlation of masks ``2 * pair`` and ``2 * pair + 1`` of a correlated stream, as asked for."""
        rho = self.options["rho"]
        return float(rho if isinstance(rho, float) else rho[pair % len(rho)])

    def mask(self, index: int) -> np.ndarray:
        """Mask number `index`, boolean ``(n,)``."""
        if index < 0 or (self.count is not None and index >= self.count):
            end = "" if self.count is None else f" and smaller than {self.count}"
            raise InputError(f"index must be at least 0{end}, received {index}.")
        return _DRAW[self.design](self, int(index))

    def masks(self, indices: Iterable[int]) -> np.ndarray:
        """Masks for several indices, boolean ``(len(indices), n)``; equal indices are drawn once."""
        drawn: dict[int, np.ndarray] = {}
        wanted = [int(i) for i in indices]
        for i in wanted:
            if i not in drawn:
                drawn[i] = self.mask(i)
        return np.stack([drawn[i] for i in wanted]) if wanted else np.zeros((0, self.n), dtype=bool)

    def reseeded(self, seed: int) -> Subsets:
        """Another stream of the same design: other masks, drawn alike. (Sets that were named stay as they
        are.)"""
        return replace(self, seed=seed)

    def spec(self) -> dict[str, Any]:
        """A JSON-able description from which `from_spec` rebuilds the stream."""
        plain: dict[str, Any] = {}
        for key, value in self.options.items():
            if key == "sets":
                plain[key] = [index.tolist() for index in value]
            elif key == "bits":
                plain[key] = [base64.b64encode(row.tobytes()).decode("ascii") for row in value]
            else:
                plain[key] = value.tolist() if isinstance(value, np.ndarray) else value
        return {"n": self.n, "design": self.design, "keep": self.keep, "seed": self.seed, "options": plain}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Subsets:
        """Rebuild the stream that `spec` described."""
        options: dict[str, Any] = {}
        for key, value in spec["options"].items():
            if key == "sets":
                options[key] = [np.asarray(index, dtype=np.int64) for index in value]
            elif key == "bits":
                options[key] = np.array([np.frombuffer(base64.b64decode(row), np.uint8) for row in value])
            elif key == "rho":
                options[key] = value
            else:
                options[key] = np.asarray(value, dtype=np.int64) if isinstance(value, list) else value
        if spec["design"] not in _DRAW:
            raise InputError(f"unknown subset design {spec['design']!r}; known are {', '.join(_DRAW)}.")
        return cls(spec["n"], spec["design"], spec["keep"], spec["seed"], options)

    def _uniforms(self, index: int, size: int) -> np.ndarray:
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, index]))).random(size)


def _draw_uniform(subsets: Subsets, index: int) -> np.ndarray:
    return _smallest(subsets._uniforms(index, subsets.n), round(subsets.keep * subsets.n))


def _draw_bernoulli(subsets: Subsets, index: int) -> np.ndarray:
    mask = subsets._uniforms(index, subsets.n) < subsets.keep
    return mask if mask.any() else _draw_uniform(subsets, index)  # an empty set cannot be trained on


def _draw_stratified(subsets: Subsets, index: int) -> np.ndarray:
    u, labels = subsets._uniforms(index, subsets.n), subsets.options["labels"]
    mask = np.zeros(subsets.n, dtype=bool)
    for code in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == code)
        mask[members] = _smallest(u[members], round(subsets.keep * len(members)))
    return mask


def _draw_grouped(subsets: Subsets, index: int) -> np.ndarray:
    groups = subsets.options["groups"]
    count = int(groups.max()) + 1
    return _smallest(subsets._uniforms(index, count), round(subsets.keep * count))[groups]


def _draw_leaving_out(subsets: Subsets, index: int) -> np.ndarray:
    mask = np.ones(subsets.n, dtype=bool)
    mask[subsets.options["sets"][index]] = False
    return mask


def _draw_given(subsets: Subsets, index: int) -> np.ndarray:
    return unpack(subsets.options["bits"][index], subsets.n)


def _draw_correlated(subsets: Subsets, index: int) -> np.ndarray:
    u = subsets._uniforms(index // 2, 3 * subsets.n).reshape(3, subsets.n)
    rho = subsets.rho_of(index // 2)
    if subsets.options.get("fixed_size"):
        first = _smallest(u[0], round(subsets.keep * subsets.n))
        return first if index % 2 == 0 else _swapped(first, rho, u[1], u[2])
    first = u[0] < subsets.keep
    mask = first if index % 2 == 0 else np.where(u[1] < rho, first, u[2] < subsets.keep)
    return mask if mask.any() else _draw_uniform(subsets, index)


def _swapped(mask: np.ndarray, rho: float, leaving: np.ndarray, entering: np.ndarray) -> np.ndarray:
    """`mask` with members exchanged for others: swapping j lowers the correlation by ``j n / (k (n -
    k))``."""
    n, size = len(mask), int(mask.sum())
    swaps = round((1 - rho) * size * (n - size) / n)
    members, others = np.flatnonzero(mask), np.flatnonzero(~mask)
    changed = mask.copy()
    changed[members[_smallest(leaving[members], swaps)]] = False
    changed[others[_smallest(entering[others], swaps)]] = True
    return changed


_DRAW = {
    "uniform": _draw_uniform,
    "bernoulli": _draw_bernoulli,
    "stratified": _draw_stratified,
    "grouped": _draw_grouped,
    "leaving_out": _draw_leaving_out,
    "given": _draw_given,
    "correlated": _draw_correlated,
}


@dataclass(frozen=True)
class Rows:
    """Rows of a bank: for each retraining its mask, repeat, training seed and part, all arrays of one
    length."""

    mask_index: np.ndarray
    repeat: np.ndarray
    seed: np.ndarray
    part: np.ndarray

    def __len__(self) -> int:
        return len(self.mask_index)


@dataclass(frozen=True)
class Plan:
    """Which mask, which training seed and which part each row of a bank has; the order of rows never changes.

    The part of a mask depends on its index alone, so growing a bank moves no row between parts, and all seeds
    of a mask share its part. Held-out masks are trained with several seeds, for without repeats there is no
    noise ceiling.

    Parameters
    ----------
    subsets : the stream of masks.
    validation, held_out : shares of the masks kept for choosing hyper-parameters and for reporting.
    seeds : training seeds per mask.
    held_out_seeds : training seeds per held-out mask.
    seed : seed of the training seeds.
    training_seed : give every retraining this one training seed (single-model attribution, as in MAGIC).
    """

    subsets: Subsets
    validation: float = 0.1
    held_out: float = 0.1
    seeds: int = 1
    held_out_seeds: int = 2
    seed: int = 0
    training_seed: int | None = None

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.held_out >= 0 and self.validation + self.held_out < 1):
            raise InputError(
                f"validation={self.validation} and held_out={self.held_out} must be at least 0 and leave "
                "something to train on: their sum must be below 1."
            )
        if self.seeds < 1 or self.held_out_seeds < 1:
            raise InputError(
                f"seeds={self.seeds} and held_out_seeds={self.held_out_seeds} must be at least 1."
            )
        if self.training_seed is not None and (self.seeds > 1 or self.held_out_seeds > 1):
            raise InputError(
                f"training_seed={self.training_seed} makes repeats of a mask identical; set seeds=1 and "
                "held_out_seeds=1."
            )

    def part_of(self, mask_index: np.ndarray) -> np.ndarray:
        """Part codes (positions in `PARTS`, int8) of masks; a low-discrepancy rule, so shares hold at any
        length."""
        u = (np.asarray(mask_index) + 1) * _GOLDEN % 1.0
        held_out, validation = u < self.held_out, u < self.held_out + self.validation
        return np.where(held_out, 2, np.where(validation, 1, 0)).astype(np.int8)

    @property
    def count(self) -> int | None:
        """Number of rows, None when the stream of masks does not end."""
        if self.subsets.count is None:
            return None
        return int(self._repeats(np.arange(self.subsets.count)).sum())

    def rows(self, start: int, stop: int) -> Rows:
        """Rows ``start <= row < stop``."""
        if start < 0 or stop < start or (self.count is not None and stop > self.count):
            limit = "" if self.count is None else f" <= {self.count}"
            raise InputError(f"rows({start}, {stop}) must satisfy 0 <= start <= stop{limit}.")
        masks = np.arange(stop if self.subsets.count is None else min(stop, self.subsets.count))
        repeats = self._repeats(masks)
        mask_index = np.repeat(masks, repeats)[start:stop]
        first_row = np.cumsum(repeats) - repeats
        repeat = np.arange(start, stop) - first_row[mask_index]
        if self.training_seed is None:
            seed = _training_seeds(self.seed, mask_index, repeat)
        else:
            seed = np.full(len(mask_index), self.training_seed, dtype=np.int64)
        return Rows(mask_index, repeat, seed, self.part_of(mask_index))

    def masks(self, rows: Rows) -> np.ndarray:
        """The masks of rows, boolean ``(len(rows), n)``."""
        return self.subsets.masks(rows.mask_index)

    def spec(self) -> dict[str, Any]:
        """A JSON-able description from which `from_spec` rebuilds the plan."""
        return {
            "subsets": self.subsets.spec(),
            "validation": self.validation,
            "held_out": self.held_out,
            "seeds": self.seeds,
            "held_out_seeds": self.held_out_seeds,
            "seed": self.seed,
            "training_seed": self.training_seed,
        }

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Plan:
        """Rebuild the plan that `spec` described."""
        return cls(**{**spec, "subsets": Subsets.from_spec(spec["subsets"])})

    def _repeats(self, mask_index: np.ndarray) -> np.ndarray:
        return np.where(self.part_of(mask_index) == 2, self.held_out_seeds, self.seeds)


def _training_seeds(seed: int, mask_index: np.ndarray, repeat: np.ndarray) -> np.ndarray:
    """Independent 63-bit seeds by the splitmix64 finaliser (Steele et al. 2014), vectorised."""
    with np.errstate(over="ignore"):
        x = np.zeros((), dtype=np.uint64)
        # The seed is mixed before the mask comes in, or seed 0 mask 1 would meet seed 1 mask 0.
        for word in (np.uint64(seed % 2**64), mask_index.astype(np.uint64), repeat.astype(np.uint64)):
            x = (x ^ word) + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(1)).astype(np.int64)


def _smallest(u: np.ndarray, count: int) -> np.ndarray:
    mask = np.zeros(len(u), dtype=bool)
    mask[np.argsort(u, kind="stable")[:count]] = True
    return mask


def _codes(values: Sequence[Any] | np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) < 2:
        raise InputError(
            f"{name} must be one value per training example, shape (n,) with n >= 2, received shape "
            f"{array.shape}."
        )
    return np.unique(array, return_inverse=True)[1].astype(np.int64)


def _check_keep(keep: float) -> None:
    if not 0 < keep < 1:
        raise InputError(
            f"keep must lie strictly between 0 and 1 (the share of the training set that a run sees), "
            f"received {keep}."
        )


def _check_size(n: int, kept: int, keep: float) -> None:
    if n < 2:
        raise InputError(f"n must be at least 2 training examples, received {n}.")
    if not 0 < kept < n:
        raise InputError(
            f"keep={keep} of n={n} examples makes subsets of {kept}, which are "
            f"{'empty' if kept == 0 else 'the full set'}; choose a keep that gives 1 to {n - 1}."
        )
