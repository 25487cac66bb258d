"""Reading what others published: MadryLab's masks and margins into a Bank, its datamodels into an
Attribution.

The files are those of github.com/MadryLab/datamodels-data (Ilyas et al. 2022): ``*_masks.npy`` boolean
``(models, n)``, ``*_margins.npy`` float16 ``(models, targets)``, and for each split a ``.pt`` with ``weight``
``(n, targets)``, ``bias`` and ``lam`` ``(targets,)``. Arrays are mapped and streamed, never loaded whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.bank import _create
from whence.bank._write import commit_block
from whence.bank.bank import Bank, Path_
from whence.bank.recorded import RecordedPlan, RecordedSubsets
from whence.errors import InputError
from whence.subsets import pack

BLOCK = 256


def read_bank(
    masks: Path_ | Sequence[Path_],
    margins: Path_ | Sequence[Path_],
    to: Path_,
    *,
    name: str = "published",
    output: str = "margin_max",
    completed: Path_ | None = None,
    validation: float = 0.1,
    held_out: float = 0.1,
    train_ids: Sequence[Any] | None = None,
    target_ids: Sequence[Any] | None = None,
) -> Bank:
    """Published ``.npy`` files as a bank at `to`; run again, it resumes.

    Parameters
    ----------
    masks, margins : a file each, or lists of files that are read one after the other.
    output : name of the output; the published margins are ``logit_y - max(other logits)``.
    completed : the store's ``_completed.npy``; rows that were never finished are recorded as failed.
    validation, held_out : shares of the rows; the last rows are held out, those before them for validation.
    """
    if completed is not None:
        completed_rows = _open([completed])[0]
    mask_parts, margin_parts = _open(_many(masks)), _open(_many(margins))
    return record(
        _Rows(mask_parts),
        {output: _Rows(margin_parts)},
        to,
        name=name,
        validation=validation,
        held_out=held_out,
        train_ids=train_ids,
        target_ids=target_ids,
        completed=None if completed is None else np.asarray(completed_rows, dtype=bool),
    )


def record(
    masks: Any,
    outputs: Mapping[str, Any],
    to: Path_,
    *,
    name: str = "recorded",
    validation: float = 0.1,
    held_out: float = 0.1,
    train_ids: Sequence[Any] | None = None,
    target_ids: Sequence[Any] | None = None,
    completed: np.ndarray | None = None,
    block: int = BLOCK,
) -> Bank:
    """Retrainings that were made elsewhere, as a bank without a study.

    Parameters
    ----------
    masks : boolean ``(m, n)``. outputs : name to float16 or float32 ``(m, targets[, classes])``; kept as they
        are. Anything with ``shape``, ``dtype`` and row slices will do.
    to : folder of the bank. Its fingerprint is that of the content, so only the same data can resume it.

    Raises
    ------
    InputError : shapes that do not fit, masks that are not boolean, duplicate ids.
    """
    m, n, targets = _check(masks, outputs)
    training = {"validation": round(validation * m), "held_out": round(held_out * m)}
    mean = float(np.mean(np.asarray(masks[: min(m, 1000)], dtype=bool)))
    plan = RecordedPlan(RecordedSubsets(n, round(mean, 3)), m, **training)
    fingerprint = _fingerprint([masks, *outputs.values()])
    described = {
        name_: {"shape": list(values.shape[2:]), "dtype": np.dtype(values.dtype).name}
        for name_, values in outputs.items()
    }
    description = {
        "name": name,
        "n": n,
        "targets": targets,
        "outputs": list(outputs),
        "classes": None,
        "method": {"kind": "recorded"},
        "fingerprint": fingerprint,
    }
    describe = {
        "study_fingerprint": fingerprint,
        "study": description,
        "classes": None,
        "plan": plan.spec(),
        "n": n,
        "targets": targets,
        "outputs": described,
    }
    ids = {"train": _ids(train_ids, n, "train_ids"), "target": _ids(target_ids, targets, "target_ids")}
    _create.make(Path(to), describe, block, None, ids, {})
    bank = Bank.open(to)
    if bank.study_fingerprint != fingerprint:
        raise InputError(f"{str(to)!r}: this bank holds other data; choose another path.")
    bank.check_plan(plan)  # type: ignore[arg-type]
    bank.grow(m)
    for block_index in bank.missing_blocks():
        _copy(bank, block_index, masks, outputs, completed)
    return bank


def read_datamodels(
    path: Path_,
    *,
    keep: float,
    standardised: bool,
    output: str = "margin_max",
    train_ids: Sequence[Any] | None = None,
    target_ids: Sequence[Any] | None = None,
) -> Attribution:
    """Published datamodels (``.pt``) as an Attribution, target x train, in 0/1 units.

    Parameters
    ----------
    keep : the share of the training set that their models saw (their alpha).
    standardised : whether the file's weights belong to masks that were standardised as ``(mask - keep) /
        sigma`` with ``sigma = sqrt(keep * (1 - keep))``. The released solver fits and saves these units, so a
        removal changes the output by ``weight / sigma`` (twice the weight at keep 0.5); whether the released
        files were converted is not documented, so it has to be said here. With True weights and bias are
        converted, with False taken as they are.

    The file is read with PyTorch's restricted loader, which builds tensors and runs nothing else.
    """
    import torch

    if not 0 < keep < 1:
        raise InputError(f"keep must lie strictly between 0 and 1, received {keep}.")
    content = torch.load(path, map_location="cpu", weights_only=True)
    missing = [key for key in ("weight", "bias") if key not in content]
    if missing:
        raise InputError(
            f"{str(path)!r} has no {' and no '.join(missing)}, found {sorted(content)}; this is "
            "not a published datamodel."
        )
    weight = content["weight"].float().numpy().T
    bias = content["bias"].double().numpy().reshape(-1)
    if standardised:
        sigma = np.sqrt(keep * (1 - keep))
        weight = weight / np.float32(sigma)
        bias = bias - keep * weight.sum(axis=1, dtype=np.float64)
    diagnostics = {"penalty": content["lam"].float().numpy().reshape(-1)} if "lam" in content else {}
    units = "standardised, converted" if standardised else "taken as 0/1"
    return Attribution(
        weight,
        bias=bias.astype(np.float32),
        train_ids=train_ids,
        target_ids=target_ids,
        output=output,
        calibrated=True,
        method="published datamodel",
        keep=keep,
        diagnostics=diagnostics,
        provenance={"file": Path(path).name, "units_in_file": units},
    )


class _Rows:
    """Several arrays read as if they were stacked, one slice of rows at a time."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        if len({part.shape[1:] for part in parts}) != 1:
            raise InputError(
                f"the files do not fit under one another: shapes {[part.shape for part in parts]}."
            )
        self.parts, self.dtype = parts, parts[0].dtype
        self.shape = (sum(len(part) for part in parts), *parts[0].shape[1:])

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        found, offset = [], 0
        for part in self.parts:
            low, high = max(start - offset, 0), min(stop - offset, len(part))
            if low < high:
                found.append(part[low:high])
            offset += len(part)
        return np.concatenate(found) if found else np.empty((0, *self.shape[1:]), self.dtype)


def _check(masks: Any, outputs: Mapping[str, Any]) -> tuple[int, int, int]:
    if len(masks.shape) != 2 or np.dtype(masks.dtype) != bool:
        raise InputError(
            f"masks must be boolean (models, n), received {np.dtype(masks.dtype)} {tuple(masks.shape)}."
        )
    if not outputs:
        raise InputError("outputs is empty; pass at least one array of outputs by name.")
    targets = {values.shape[1] if len(values.shape) > 1 else None for values in outputs.values()}
    for name, values in outputs.items():
        if len(values.shape) < 2 or values.shape[0] != masks.shape[0] or len(targets) != 1:
            raise InputError(
                f"output {name!r} must have shape (models, targets) with {masks.shape[0]} models, one "
                f"for each mask, received {tuple(values.shape)}."
            )
        if np.dtype(values.dtype).kind != "f":
            raise InputError(f"output {name!r} must be floating point, received {np.dtype(values.dtype)}.")
    return masks.shape[0], masks.shape[1], next(iter(outputs.values())).shape[1]


def _copy(
    bank: Bank, block: int, masks: Any, outputs: Mapping[str, Any], completed: np.ndarray | None
) -> None:
    start, stop = bank.rows_of(block)
    arrays: dict[str, np.ndarray] = {"masks": pack(masks[start:stop])}
    errors: dict[int, str] = {}
    for name, values in outputs.items():
        arrays[name] = np.asarray(values[start:stop])
        finite = np.isfinite(arrays[name]).reshape(stop - start, -1).all(axis=1)
        errors |= {start + int(i): f"{name} is not finite" for i in np.flatnonzero(~finite)}
    if completed is not None:
        errors |= {start + int(i): "never completed" for i in np.flatnonzero(~completed[start:stop])}
    arrays["ok"] = np.array([row not in errors for row in range(start, stop)])
    commit_block(bank, block, arrays, [], errors, {}, {})


def _fingerprint(arrays: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{np.dtype(array.dtype).str} {tuple(array.shape)}".encode())
        for start in range(0, array.shape[0], BLOCK):
            digest.update(np.ascontiguousarray(array[start : start + BLOCK]).tobytes())
    return digest.hexdigest()


def _many(paths: Path_ | Sequence[Path_]) -> list[Path_]:
    return [paths] if isinstance(paths, str | Path) or hasattr(paths, "__fspath__") else list(paths)


def _open(paths: Sequence[Path_]) -> list[np.ndarray]:
    return [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]


def _ids(ids: Sequence[Any] | None, count: int, argument: str) -> np.ndarray:
    if ids is None:
        return np.arange(count)
    values = np.asarray(ids)
    if values.shape != (count,):
        raise InputError(f"{argument} must be {count} ids, received shape {values.shape}.")
    return values
