"""Scores of other libraries as Attributions, and back: files of traker, kronfluence, dattri and plain numpy.

A file of numbers says neither which side the training examples are on nor what a positive number means, so
both are asked for: `rows` is "train" or "targets"; `positive` is "raises" where a positive score means that
including the example raises the output, "lowers" where it means the opposite.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError

Path_ = str | os.PathLike[str]
Rows = Literal["train", "targets"]
Positive = Literal["raises", "lowers"]


def attribution(
    scores: Any, source: Any, *, rows: Rows, positive: Positive, output: str = "margin", method: str = "given"
) -> Attribution:
    """An Attribution of a matrix of scores.

    Parameters
    ----------
    scores : array or tensor, (train, targets) or (targets, train) as `rows` says
    source : the Study or Bank whose training examples and targets these are, in its order
    output : what the scores are about, for example "loss"
    """
    _check(rows, positive)
    if hasattr(scores, "detach"):
        scores = scores.detach().float().cpu().numpy()
    array = np.asarray(scores)
    if array.ndim != 2 or array.dtype.kind not in "iuf":
        raise InputError(
            f"scores must be a matrix of numbers, received shape {array.shape} and dtype {array.dtype}."
        )
    weight = array.T if rows == "train" else array
    expected = len(source.target_ids), len(source.train_ids)
    if weight.shape != expected:
        wanted = expected[::-1] if rows == "train" else expected
        hint = f'; they would fit with rows="{_other(rows)}"' if weight.shape == expected[::-1] else ""
        raise InputError(
            f"scores have shape {array.shape}, but {expected[1]} training examples and {expected[0]} targets "
            f'with rows="{rows}" make {wanted}{hint}.'
        )
    return Attribution(
        np.ascontiguousarray(weight if positive == "raises" else -weight, dtype=np.float32),
        target_ids=source.target_ids,
        train_ids=source.train_ids,
        output=output,
        units="arbitrary (as given)",
        method=method,
        provenance={
            "study": getattr(source, "study_fingerprint", None) or getattr(source, "fingerprint", None),
            "rows": rows,
            "positive": positive,
        },
    )


def read_numpy(
    path: Path_, source: Any, *, rows: Rows, positive: Positive, output: str = "margin"
) -> Attribution:
    """Scores from an .npy file."""
    file = _file(path)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as problem:
        raise _unreadable(file, "a plain .npy file", problem) from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{file} holds several arrays; save the scores alone with numpy.save.")
    return attribution(array, source, rows=rows, positive=positive, output=output, method=file.name)


def read_traker(
    folder: Path_,
    experiment: str,
    source: Any,
    *,
    rows: Rows = "train",
    positive: Positive = "raises",
    output: str = "margin",
) -> Attribution:
    """Finished scores of an experiment in a TRAKer's save_dir.

    traker keeps (train, targets), positive where the example raises its model output function, for
    classification the margin. InputError: no such experiment, or one whose scores were never finalised.
    """
    notes, scores = Path(folder) / "experiments.json", Path(folder) / "scores" / f"{experiment}.mmap"
    try:
        told = json.loads(_file(notes).read_text(encoding="utf-8"))
    except ValueError as problem:
        raise _unreadable(notes, "traker's record of experiments", problem) from None
    if experiment not in told:
        raise InputError(
            f"experiment is {experiment!r}, but {notes} has {', '.join(map(repr, told)) or 'none'}."
        )
    if not told[experiment].get("scores_finalized"):
        raise InputError(
            f"the scores of experiment {experiment!r} are not finished; call TRAKer.finalize_scores first."
        )
    found = read_numpy(scores, source, rows=rows, positive=positive, output=output)
    found.data.attrs["method"] = f"traker ({experiment})"
    return found


def read_kronfluence(
    path: Path_,
    source: Any,
    *,
    positive: Positive,
    rows: Rows = "targets",
    output: str = "loss",
    modules: list[str] | None = None,
) -> Attribution:
    """Pairwise scores from a pairwise_scores.safetensors, or from the folder that it lies in.

    kronfluence keeps (targets, train). Its score is the product of the measurement's and the loss's gradients
    through the inverse curvature: positive where including the example *lowers* the measurement. `output` is
    the measurement of your Task.

    modules : add up the scores of these modules (default all), where they were computed apart
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(path)
    file = _file(file / "pairwise_scores.safetensors" if file.is_dir() else file)
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as problem:
        raise _unreadable(file, "a safetensors file", problem) from None
    names = list(tensors) if modules is None else modules
    absent = [name for name in names if name not in tensors]
    if absent or not names:
        raise InputError(
            f"modules names {absent}, but {file} has the scores of {', '.join(tensors) or 'none'}."
        )
    total = sum(tensors[name].double() for name in names)
    return attribution(total, source, rows=rows, positive=positive, output=output, method="kronfluence")


def read_torch(
    path: Path_, source: Any, *, rows: Rows, positive: Positive, output: str = "margin"
) -> Attribution:
    """Scores from a tensor saved with torch.save, as dattri's are: its attributors return (train, targets).

    Read with weights_only: a file that holds code is refused.
    """
    import pickle

    import torch

    file = _file(path)
    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as problem:
        raise _unreadable(file, "a tensor saved by torch.save", problem) from None
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{file} holds a {type(tensor).__name__}; save the tensor of scores alone.")
    return attribution(tensor, source, rows=rows, positive=positive, output=output, method=file.name)


def write_numpy(
    scores: Attribution, path: Path_, *, rows: Rows = "targets", positive: Positive = "raises"
) -> Path:
    """Write the weights to an .npy file, float32, in the orientation and sign asked for, and return its path.

    Beside it, NAME.json says what the numbers mean: rows, positive, output, ids, method.
    """
    _check(rows, positive)
    if scores.weight.ndim != 2:
        raise InputError(
            f"scores have several outputs per target, shape {scores.weight.shape}; write one at a time."
        )
    file = Path(path)
    if file.suffix != ".npy":
        raise InputError(f"path is {str(file)!r}, but it must end in .npy.")
    weight = scores.weight if positive == "raises" else -scores.weight
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.ascontiguousarray(weight.T if rows == "train" else weight, dtype=np.float32))
    told = {
        "rows": rows,
        "positive": f"including the training example {positive} the output",
        "output": scores.output,
        "method": scores.method,
        "target_ids": scores.target_ids.tolist(),
        "train_ids": scores.train_ids.tolist(),
    }
    file.with_suffix(".json").write_text(json.dumps(told), encoding="utf-8")
    return file


def _check(rows: str, positive: str) -> None:
    if rows not in ("train", "targets"):
        raise InputError(f'rows is {rows!r}, but it must be "train" or "targets".')
    if positive not in ("raises", "lowers"):
        raise InputError(f'positive is {positive!r}, but it must be "raises" or "lowers".')


def _other(rows: str) -> str:
    return "targets" if rows == "train" else "train"


def _file(path: Path_) -> Path:
    if not Path(path).is_file():
        raise InputError(f"{os.fspath(path)!r} is not a file; pass the file that holds the scores.")
    return Path(path)


def _unreadable(path: Path, kind: str, problem: Exception) -> InputError:
    words = " ".join(str(problem).split())[:120].rstrip(".")
    return InputError(f"{path} is not {kind} ({words}).")
