"""Bank: the record of retrainings. Which mask, which seed, what the targets' outputs were."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from whence.bank import _commits, _create, _layout
from whence.bank._compare import differences
from whence.bank._rows import Reader, lazy
from whence.bank._write import write_block
from whence.bank.claims import Claims
from whence.bank.recorded import plan_from_spec
from whence.bank.samples import MaskGroups, Sample
from whence.errors import InputError
from whence.subsets import PARTS, Plan, Subsets, unpack

if TYPE_CHECKING:
    from whence.bank.verify import Verification
    from whence.study import Study
    from whence.study.trainer import Retrained

Path_ = str | os.PathLike[str]


class Bank:
    """Retrainings on disk: append-only, committed block by block, readable while it is filled.

    Use `Bank.open`, `Bank.create` or `whence.retrain`. A bank shows committed rows only; every property looks
    at the disk, so one object follows a bank that is still growing.

    Attributes
    ----------
    path : where it lies; one Zarr v3 group (see `whence.bank._layout`).
    plan, subsets : how rows map to masks, seeds and parts; how masks are drawn.
    block : rows that are committed together.
    outputs : names of the recorded outputs. n : number of training examples.
    study_fingerprint, study_description : what was retrained.
    engine : how the trainer chose to train, None before it chose.
    """

    def __init__(self, path: Path_) -> None:
        self.path = Path(path)
        attributes = _layout.read_attributes(self.path)
        self.block: int = attributes["block"]
        self.engine: dict[str, Any] | None = attributes["engine"]
        self.study_fingerprint: str = attributes["study_fingerprint"]
        self.study_description: dict[str, Any] = attributes["study"]
        self.classes: list[str] | None = attributes["classes"]
        self.plan: Plan = plan_from_spec(attributes["plan"])
        self.subsets: Subsets = self.plan.subsets
        self.outputs: tuple[str, ...] = tuple(attributes["outputs"])
        self.n: int = attributes["n"]
        self._attributes = attributes
        self._columns = _layout.columns_of(self.n, attributes["targets"], attributes["outputs"])
        self._reader = Reader(self.path, self._columns, self.block)
        self.claims = Claims(self.path / "claims")

    @classmethod
    def open(cls, path: Path_, study: Study | None = None) -> Bank:
        """Open a bank; with `study`, also check that it is this study's, as is needed for writing.

        Raises
        ------
        InputError : nothing there, not a bank, or another study's bank.
        """
        bank = cls(path)
        if study is not None and study.fingerprint != bank.study_fingerprint:
            found = differences(bank.study_description, study.describe(), "here")
            what = "; ".join(found) or "same description, but the data or the ids differ"
            raise InputError(f"{str(bank.path)!r}: this bank belongs to another study: {what}.")
        return bank

    @classmethod
    def create(
        cls,
        path: Path_,
        study: Study,
        plan: Plan,
        *,
        block: int | None = None,
        engine: Mapping[str, Any] | None = None,
    ) -> Bank:
        """Make an empty bank, or open the one that is there if it has the same study and plan.

        Parameters
        ----------
        path : a folder that does not exist yet.
        plan : which mask, seed and part each row has; fixed for the life of the bank.
        block : rows committed together (default 16); it cannot change later.
        engine : what `Trainer.choose` found.
        """
        if plan.subsets.n != study.n:
            raise InputError(
                f"subsets are over n={plan.subsets.n} training examples, the study has {study.n}."
            )
        _create.of_study(Path(path), study, plan, block, engine)
        bank = cls.open(path, study)
        bank.check_plan(plan)
        return bank

    def check_plan(self, plan: Plan) -> None:
        """`InputError` that names what differs when `plan` is not this bank's."""
        found = differences(self.plan.spec(), plan.spec(), "was asked for")
        if found:
            raise InputError(
                f"the bank at {str(self.path)!r} was drawn by another plan: {'; '.join(found)}. Ask for the "
                "same, or fill another bank."
            )

    # --- what is there ---

    @cached_property
    def train_ids(self) -> np.ndarray:
        """Ids of the training examples, ``(n,)`` int64 or str."""
        return _layout.read_labels(self.path, "train")  # type: ignore[return-value]

    @cached_property
    def target_ids(self) -> np.ndarray:
        """Ids of the targets, ``(targets,)`` int64 or str."""
        return _layout.read_labels(self.path, "target")  # type: ignore[return-value]

    @cached_property
    def train_labels(self) -> np.ndarray | None:
        """Class labels of the training examples, int64 ``(n,)``, or None."""
        return _layout.read_labels(self.path, "train_label")

    @cached_property
    def target_labels(self) -> np.ndarray | None:
        """Class labels of the targets, int64 ``(targets,)``, or None."""
        return _layout.read_labels(self.path, "target_label")

    @property
    def keep(self) -> float:
        """Share of the training set that a retraining sees, in expectation."""
        return self.subsets.keep

    @property
    def rows_wanted(self) -> int:
        """Rows that were ever asked for; the bank is complete when as many are committed."""
        return max(_layout.shape_of(self.path), self._end)

    @property
    def rows_committed(self) -> int:
        """Number of committed rows, failed ones included."""
        return sum(stop - start for start, stop in map(self.rows_of, self.committed_blocks()))

    def committed_blocks(self) -> list[int]:
        """Committed blocks, ascending."""
        return _commits.committed(self.path / "commits")

    def is_committed(self, block: int) -> bool:
        """Whether `block` is committed, at this moment."""
        return _commits.marker(self.path / "commits", block).exists()

    def rows_of(self, block: int) -> tuple[int, int]:
        """First row of a block and the row after its last."""
        start = block * self.block
        stop = start + self.block
        return start, stop if self.plan.count is None else min(stop, self.plan.count)

    def missing_blocks(self, n: int | None = None) -> list[int]:
        """Blocks not yet committed among those that hold the first `n` rows (default: all rows asked for)."""
        wanted = -(-(self.rows_wanted if n is None else n) // self.block)
        done = set(self.committed_blocks())
        return [block for block in range(wanted) if block not in done]

    def commit_of(self, block: int) -> _commits.Commit:
        """The marker of a committed block: checksums, seconds, errors, versions."""
        return _commits.read(self.path / "commits", block)

    def errors(self) -> dict[int, str]:
        """Rows without a usable output and why; these are never part of what `select` returns."""
        return {
            row: why for block in self.committed_blocks() for row, why in self.commit_of(block).errors.items()
        }

    # --- reading ---

    @property
    def dataset(self) -> xr.Dataset:
        """Committed rows as a lazily read `xarray.Dataset`.

        Dimensions ``(retraining, target, train[, class])``. Variables: ``masks`` boolean ``(retraining,
        train)`` and each output ``(retraining, target[, class])``. Coordinates: ids, row numbers,
        ``mask_index``, ``repeat``, ``seed``, ``part`` (a word) and ``ok`` along the retrainings; labels where
        the study has classes."""
        rows = self._rows(ok=False)
        table = self._table
        coordinates: dict[str, Any] = {
            "retraining": rows,
            "target": self.target_ids,
            "train": self.train_ids,
            "ok": ("retraining", self._reader.read("ok", rows)),
            "part": ("retraining", np.asarray(PARTS)[table["part"][rows]]),
            **{name: ("retraining", table[name][rows]) for name in ("mask_index", "repeat", "seed")},
        }
        for name, labels in (("train", self.train_labels), ("target", self.target_labels)):
            if labels is not None:
                coordinates[f"{name}_label"] = (name, labels)
        if self.classes is not None and any("class" in self._columns[name].dims for name in self.outputs):
            coordinates["class"] = self.classes
        variables = {
            "masks": lazy(self._reader, "masks", rows, self.n),
            **{name: lazy(self._reader, name, rows) for name in self.outputs},
        }
        attributes = {
            "keep": self.keep,
            "design": self.subsets.design,
            "study": self.study_description.get("name", ""),
            "study_fingerprint": self.study_fingerprint,
        }
        return xr.Dataset(variables, coordinates, attributes)

    def masks(
        self, part: str | None = None, rows: Sequence[int] | None = None, *, ok: bool = True
    ) -> np.ndarray:
        """Masks as booleans ``(m, n)``, True = trained on; see `select` for which rows."""
        return unpack(self.packed_masks(part, rows, ok=ok), self.n)

    def packed_masks(
        self, part: str | None = None, rows: Sequence[int] | None = None, *, ok: bool = True
    ) -> np.ndarray:
        """Masks as bits, uint8 ``(m, ceil(n / 8))``, little-endian within a byte: an eighth of the memory."""
        return self._reader.read("masks", self._rows(part, rows, ok))

    def outputs_of(
        self,
        name: str | None = None,
        part: str | None = None,
        rows: Sequence[int] | None = None,
        *,
        ok: bool = True,
        targets: Any = slice(None),
    ) -> np.ndarray:
        """One output, float32 ``(m, targets[, classes])``; `targets` (a slice or positions) reads only these.

        Only rows with finite outputs are returned, unless ``ok=False``.
        """
        chosen = self._rows(part, rows, ok)
        return self._reader.read(self._output(name), chosen, targets).astype(np.float32, copy=False)

    def select(self, part: str | None = None, output: str | None = None) -> Sample:
        """The good retrainings of a part ("train", "validation", "held_out"; None for all).

        Parameters
        ----------
        output : which output (default: the study's first).
        """
        rows = self._rows(part)
        table = {name: self._table[name][rows] for name in ("mask_index", "repeat", "seed")}
        outputs = self._reader.read(self._output(output), rows).astype(np.float32, copy=False)
        return Sample(unpack(self._reader.read("masks", rows), self.n), outputs, **table, rows=rows)

    def by_mask(self, part: str | None = "held_out", output: str | None = None) -> MaskGroups:
        """The good retrainings of a part grouped by mask, for what needs repeats: means and noise ceilings.

        Masks of which a repeat is missing or failed are left out. All masks of one call must have the same
        number of repeats; ask for one part when the plan gives the parts different numbers."""
        rows = self._rows(part)
        mask_index, repeat = self._table["mask_index"][rows], self._table["repeat"][rows]
        everything = self._rows(part, ok=False)
        repeats = int(self._table["repeat"][everything].max(initial=0)) + 1
        order = np.lexsort((repeat, mask_index))
        found, first, count = np.unique(mask_index[order], return_index=True, return_counts=True)
        whole = count == repeats
        members = rows[order][first[whole, None] + np.arange(repeats)]  # (g, seeds)
        outputs = self._reader.read(self._output(output), members.reshape(-1)).astype(np.float32, copy=False)
        masks = unpack(self._reader.read("masks", members[:, 0]), self.n)
        return MaskGroups(masks, outputs.reshape(*members.shape, *outputs.shape[1:]), found[whole])

    def checkpoint(self, row: int) -> dict[str, Any]:
        """The trained weights kept for `row`: name to tensor. Only chosen rows have them, see
        `checkpoint_rows`."""
        from whence.bank import checkpoints

        return checkpoints.load(self.path / "checkpoints", row)

    def checkpoint_rows(self) -> list[int]:
        """Rows whose trained weights were kept."""
        from whence.bank import checkpoints

        return checkpoints.rows(self.path / "checkpoints")

    # --- writing ---

    def grow(self, n: int) -> int:
        """Ask for `n` rows; never fewer than before. Returns the number of rows there will be: whole
        blocks."""
        if n < 1 or (self.plan.count is not None and n > self.plan.count):
            limit = (
                ""
                if self.plan.count is None
                else f" and at most {self.plan.count}, all that the subsets give"
            )
            raise InputError(f"n must be at least 1{limit}; received {n}.")
        rows = self.rows_of(-(-n // self.block) - 1)[1]
        _layout.grow(self.path, self._columns, rows, self.plan)
        return rows

    def write_block(self, block: int, retrained: Iterable[Retrained]) -> bool:
        """Write the retrainings of a whole block and commit it; False when it was committed already.

        Raises
        ------
        InputError : wrong number of retrainings, or an output that is missing or has the wrong shape.
        DiskFullError : no space; nothing is committed, and nothing that was is touched.
        """
        return write_block(self, block, list(retrained))

    def claim(self, block: int) -> bool:
        """Tell other processes that this one trains `block`; False when another one does. Advice, see
        `Claims`."""
        return self.claims.take(block)

    def verify(self) -> Verification:
        """Check every committed block against its marker and the plan; see `whence.bank.verify`."""
        from whence.bank.verify import verify

        return verify(self)

    def discard(self, blocks: Iterable[int]) -> None:
        """Take back the commits of `blocks`: they count as never trained, and `whence.retrain` makes them
        again."""
        for block in blocks:
            _commits.remove(self.path / "commits", block)

    def remake(
        self, study: Study, blocks: Iterable[int] | None = None, device: str | None = None
    ) -> list[int]:
        """Train `blocks` again (default: all that `verify` finds damaged) in this process; returns them."""
        from whence.bank.verify import remake

        return remake(self, study, blocks, device)

    def info(self) -> dict[str, Any]:
        """A JSON-able summary: rows, failures, parts, size on disk, seconds per model, versions."""
        from whence.bank.summary import summary

        return summary(self)

    # --- inside ---

    @property
    def _end(self) -> int:
        """The row after the last committed one."""
        blocks = self.committed_blocks()
        return self.rows_of(blocks[-1])[1] if blocks else 0

    @property
    def _table(self) -> dict[str, np.ndarray]:
        """The plan's columns for all rows up to the last committed one."""
        stop = self._end
        known = self.__dict__.get("_known_table")
        if known is None or len(known["seed"]) < stop:
            known = self.__dict__["_known_table"] = _layout.plan_rows(self.plan, 0, stop)
        return known

    def _rows(
        self, part: str | None = None, rows: Sequence[int] | None = None, ok: bool = True
    ) -> np.ndarray:
        spans = [self.rows_of(block) for block in self.committed_blocks()]
        found = np.concatenate([np.arange(*span) for span in spans]) if spans else np.zeros(0, dtype=np.int64)
        if rows is not None:
            asked = np.asarray(rows, dtype=np.int64).reshape(-1)
            absent = asked[~np.isin(asked, found)]
            if absent.size:
                raise InputError(
                    f"rows has {absent[:3].tolist()}, not committed in {str(self.path)!r} "
                    f"({len(found)} rows are)."
                )
            found = asked
        if part is not None:
            if part not in PARTS:
                raise InputError(f"part must be one of {', '.join(PARTS)}, received {part!r}.")
            found = found[self._table["part"][found] == PARTS.index(part)]
        return found[self._reader.read("ok", found)] if ok else found

    def _output(self, name: str | None) -> str:
        name = self.outputs[0] if name is None else name
        if name not in self.outputs:
            raise InputError(f"output {name!r} is not in this bank, which has {', '.join(self.outputs)}.")
        return name

    def __repr__(self) -> str:
        return (
            f"<Bank {str(self.path)!r}: {self.rows_committed} of {self.rows_wanted} retrainings of "
            f"{self.study_description.get('name', 'a study')!r}, n={self.n}, {len(self.target_ids)} targets, "
            f"{', '.join(self.outputs)}, keep={self.keep:g}>"
        )
