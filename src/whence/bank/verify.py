"""Finding damage: every committed block against its marker, and its masks against the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from whence.bank import _layout
from whence.bank._files import checksum, decode
from whence.bank._write import write_block
from whence.bank.bank import Bank
from whence.bank.recorded import RecordedPlan
from whence.errors import InputError
from whence.subsets import pack

if TYPE_CHECKING:
    from whence.study import Study


@dataclass(frozen=True)
class Damage:
    """A committed block that cannot be trusted, its rows, and what is wrong with it."""

    block: int
    rows: tuple[int, int]
    reason: str


@dataclass(frozen=True)
class Verification:
    """What `verify` found: how much was checked, and the damage (an empty list is what one hopes for)."""

    blocks: int
    rows: int
    damaged: list[Damage]

    @property
    def ok(self) -> bool:
        """True when nothing is damaged."""
        return not self.damaged

    def __str__(self) -> str:
        if self.ok:
            return f"{self.rows} rows in {self.blocks} blocks are whole."
        lines = [f"block {d.block} (rows {d.rows[0]} to {d.rows[1] - 1}): {d.reason}" for d in self.damaged]
        return f"{len(self.damaged)} of {self.blocks} blocks are damaged:\n" + "\n".join(lines)


def verify(bank: Bank) -> Verification:
    """Read every committed chunk once: size, checksum in the chunk, checksum in the marker, masks redrawn.

    A bit that flipped, a file cut short or missing, a chunk that belongs to another row, and a mask that is
    not the plan's are all found. Outputs cannot be recomputed without training; `Bank.remake` does that."""
    blocks = bank.committed_blocks()
    damaged = _block_damage(bank) + _plan_damage(bank, blocks)
    rows = sum(stop - start for start, stop in map(bank.rows_of, blocks))
    return Verification(len(blocks), rows, damaged)


def remake(
    bank: Bank, study: Study, blocks: Iterable[int] | None = None, device: str | None = None
) -> list[int]:
    """See `Bank.remake`."""
    Bank.open(bank.path, study)
    chosen = sorted({d.block for d in _block_damage(bank)} if blocks is None else set(blocks))
    unknown = [block for block in chosen if bank.rows_of(block)[0] >= bank.rows_wanted]
    if unknown:
        raise InputError(
            f"blocks has {unknown[:3]}, but the bank's rows end with block {bank.rows_wanted // bank.block}."
        )
    _layout.write_plan(bank.path, bank.rows_wanted, bank.plan, again=True)
    trainer = study.trainer(device, engine=bank.engine)
    for block in chosen:
        rows = bank.plan.rows(*bank.rows_of(block))
        retrained = list(trainer.train(bank.plan.masks(rows), rows.seed))
        bank.discard([block])  # only now: a failure in training leaves the bank as it was
        write_block(bank, block, retrained)
    return chosen


def _block_damage(bank: Bank) -> list[Damage]:
    reasons = ((block, _damage(bank, block)) for block in bank.committed_blocks())
    return [Damage(block, bank.rows_of(block), reason) for block, reason in reasons if reason is not None]


def _damage(bank: Bank, block: int) -> str | None:
    try:
        commit = bank.commit_of(block)
    except (OSError, ValueError) as problem:
        return f"its marker cannot be read ({problem})"
    if commit.rows != bank.rows_of(block) or set(commit.checksums) != set(bank._columns):
        return "its marker is another block's"
    chunks: dict[str, np.ndarray] = {}
    for name in bank._columns:
        try:
            chunks[name] = bank._reader.chunk(name, block)
        except FileNotFoundError:
            return f"{name}: the chunk is missing"
        except (OSError, ValueError) as problem:
            return f"{name}: {problem}"
        if checksum(chunks[name]) != commit.checksums[name]:
            return f"{name}: whole, but not what was committed"
    start, stop = bank.rows_of(block)
    ok = chunks["ok"][: stop - start]
    if sorted(commit.errors) != (start + np.flatnonzero(~ok)).tolist():
        return "ok: does not agree with the errors in the marker"
    if not isinstance(bank.plan, RecordedPlan):
        drawn = pack(bank.plan.masks(bank.plan.rows(start, stop)))
        if not np.array_equal(drawn, chunks["masks"][: stop - start]):
            return "masks: not the ones that the plan draws"
    return None


def _plan_damage(bank: Bank, blocks: list[int]) -> list[Damage]:
    """The plan's columns are for other tools (whence computes them), so damage there is repaired by
    rewriting."""
    found = []
    chunk_rows = _layout.PLAN_CHUNK
    for chunk in sorted({bank.rows_of(block)[0] // chunk_rows for block in blocks}):
        expected = _layout.plan_rows(bank.plan, chunk * chunk_rows, (chunk + 1) * chunk_rows)
        for name, dtype in _layout.PLAN_COLUMNS.items():
            try:
                content = (bank.path / name / f"c.{chunk}").read_bytes()
                same = np.array_equal(decode(content, np.dtype(dtype), (chunk_rows,)), expected[name])
            except (OSError, ValueError):
                same = False
            if not same:
                first = next(b for b in blocks if bank.rows_of(b)[0] // chunk_rows == chunk)
                found.append(
                    Damage(
                        first,
                        (chunk * chunk_rows, (chunk + 1) * chunk_rows),
                        f"{name}: the column of the plan is damaged",
                    )
                )
    return found
