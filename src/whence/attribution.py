"""Attribution: the estimated effect of every training example on every target, labelled, in stated units."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from whence.attribution_files import FORMAT, Write, open_dataset, write_blocks, write_dataset
from whence.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class Effect(NamedTuple):
    """One training example's weight on one target: its id, its column, the weight in `Attribution.units`."""

    id: Any
    index: int  # type: ignore[assignment]  # column; shadows tuple.index, which nobody needs here
    weight: float


class Attribution:
    """A labelled target x train matrix: rows are targets, columns are training examples.

    A positive weight means that *including* the training example *raises* the output (for a loss: harms).
    Weights are in 0/1 units: the change of the output when the example goes from left out to included.

    Parameters
    ----------
    weight : (target, train) or, for a vector output such as logits, (target, output, train); finite
    bias : (target,) or (target, output); the output predicted for the empty training set (default 0)
    target_ids, train_ids : unique ids, str or int (default "target/0"..., "train/0"...)
    output_ids : labels of the middle dimension of a vector output, for example class names (default 0, 1, 2)
    output : name of the explained output ("margin", "loss", "logits", ...)
    units : units of one weight (default "<output> per example")
    calibrated : True only if `predict` is meant in absolute terms, not merely up to scale
    method, keep : what estimated it; the kept fraction of the masks it came from, where there were any
    standard_error : same shape as `weight`, same units
    diagnostics : name -> (target,) or (target, output) array, for example the penalty chosen per target
    provenance : JSON-able record of where it came from (fingerprint, rows, settings, versions)

    Raises
    ------
    InputError : shapes that do not agree, duplicate ids, non-finite weights.
    """

    def __init__(
        self,
        weight: Any,
        *,
        bias: Any = None,
        target_ids: Sequence[Any] | np.ndarray | None = None,
        train_ids: Sequence[Any] | np.ndarray | None = None,
        output_ids: Sequence[Any] | np.ndarray | None = None,
        output: str = "margin",
        units: str | None = None,
        calibrated: bool = False,
        method: str = "",
        keep: float | None = None,
        standard_error: Any = None,
        diagnostics: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        weight = _floats(weight)
        if weight.ndim not in (2, 3):
            raise InputError(
                f"weight has shape {weight.shape}, but it must be (target, train) or (target, output, train)."
            )
        _require_finite("weight", weight)
        dims = ("target", "train") if weight.ndim == 2 else ("target", "output", "train")
        lead = weight.shape[:-1]
        bias = np.zeros(lead, weight.dtype) if bias is None else _floats(bias)
        _require_shape("bias", bias, lead)
        _require_finite("bias", bias)

        variables: dict[str, Any] = {"weight": (dims, weight), "bias": (dims[:-1], bias)}
        if standard_error is not None:
            standard_error = _floats(standard_error)
            _require_shape("standard_error", standard_error, weight.shape)
            variables["standard_error"] = (dims, standard_error)
        for name, values in (diagnostics or {}).items():
            if name in ("weight", "bias", "standard_error", *dims):
                raise InputError(f'diagnostics may not hold the reserved name "{name}"; choose another.')
            values = np.asarray(values)
            if values.shape not in ((weight.shape[0],), lead):
                raise InputError(f'diagnostics["{name}"] has shape {values.shape}, but it must be {lead}.')
            variables[name] = (dims[: values.ndim], values)

        coords = {
            "target": _ids("target_ids", target_ids, weight.shape[0], "target"),
            "train": _ids("train_ids", train_ids, weight.shape[-1], "train"),
        }
        if weight.ndim == 3:
            default = np.arange(weight.shape[1]) if output_ids is None else output_ids
            coords["output"] = _ids("output_ids", default, weight.shape[1], "output")
        attrs = {
            "format": FORMAT,
            "method": method,
            "output": output,
            "units": units or f"{output} per example",
            "calibrated": bool(calibrated),
            "sign": "+",
            "keep": None if keep is None else float(keep),
            "provenance": json.dumps(dict(provenance or {}), sort_keys=True),
        }
        self.data = xr.Dataset(variables, coords, attrs)

    # --- What it holds ---

    @property
    def weight(self) -> np.ndarray:
        """(target, train), or (target, output, train) for a vector output."""
        return self.data["weight"].values

    @property
    def bias(self) -> np.ndarray:
        """(target,), or (target, output) for a vector output."""
        return self.data["bias"].values

    @property
    def standard_error(self) -> np.ndarray | None:
        """Same shape and units as `weight`, or None where the method gives none."""
        return self.data["standard_error"].values if "standard_error" in self.data else None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.data["weight"].shape)

    @property
    def target_ids(self) -> np.ndarray:
        return self.data["target"].values

    @property
    def train_ids(self) -> np.ndarray:
        return self.data["train"].values

    @property
    def output_ids(self) -> np.ndarray | None:
        """Labels of the middle dimension, or None for a scalar output."""
        return self.data["output"].values if "output" in self.data.dims else None

    @property
    def diagnostics(self) -> dict[str, np.ndarray]:
        """Per-target quantities the method recorded (penalty, nonzeros, validation_error, ...)."""
        known = ("weight", "bias", "standard_error")
        return {str(name): array.values for name, array in self.data.data_vars.items() if name not in known}

    @property
    def output(self) -> str:
        return self.data.attrs["output"]

    @property
    def units(self) -> str:
        return self.data.attrs["units"]

    @property
    def calibrated(self) -> bool:
        return bool(self.data.attrs["calibrated"])

    @property
    def method(self) -> str:
        return self.data.attrs["method"]

    @property
    def keep(self) -> float | None:
        return self.data.attrs.get("keep")

    @property
    def provenance(self) -> dict[str, Any]:
        return json.loads(self.data.attrs["provenance"])

    @property
    def lower_is_better(self) -> bool:
        """True for loss-type outputs, where a helpful example has a negative weight."""
        return self.output == "loss" or self.output.endswith("_loss")

    @property
    def meaning(self) -> str:
        """What a weight says, in words: sign, output, units, and whether amounts can be trusted."""
        each = "each of " if "output" in self.data.dims else ""
        what = f"{each}the target's {self.output}"
        if self.calibrated:
            words = f"+0.8 = including this example in training raises {what} by 0.8 on average"
        else:
            words = f"a positive weight = including this example in training raises {what}"
        if self.lower_is_better:
            words += " (it harms; a negative weight helps)"
        words += f". Units: {self.units}, "
        return words + ("calibrated." if self.calibrated else "right only up to scale (not calibrated).")

    def __repr__(self) -> str:
        size = " x ".join(
            f"{count} {name}" for name, count in zip(self.data["weight"].dims, self.shape, strict=True)
        )
        calibrated = "calibrated" if self.calibrated else "not calibrated"
        return f"Attribution({self.method or 'unnamed method'}: {size}, {self.units}, {calibrated})"

    # --- What it predicts ---

    def predict(self, masks: Any) -> np.ndarray:
        """Predicted outputs for training subsets.

        `masks` (n,) or (m, n), 0/1 or fractional, in the order of `train_ids`, gives (target[, output]) or
        (m, target[, output]): masks @ weight.T + bias. In absolute terms only if `calibrated`.
        """
        masks = np.asarray(masks)
        n = self.shape[-1]
        if masks.ndim not in (1, 2) or masks.shape[-1] != n:
            raise InputError(f"masks has shape {masks.shape}, but it must be ({n},) or (m, {n}).")
        weight = self.weight
        flat = weight.reshape(-1, n)
        outputs = np.atleast_2d(masks).astype(weight.dtype) @ flat.T + self.bias.reshape(-1)
        outputs = outputs.reshape(-1, *weight.shape[:-1])
        return outputs[0] if masks.ndim == 1 else outputs

    def effect_of_removing(self, train_ids: Any) -> np.ndarray:
        """Predicted change of each output when these examples (an id or several) are left out of training.

        Returns (target[, output]): minus the sum of their weights.
        """
        columns = np.unique(self.train_index(train_ids))
        return -self.data["weight"].isel(train=columns).values.sum(axis=-1, dtype=np.float64)

    def top(
        self, target: Any, k: int = 10, order: Literal["helpful", "harmful"] = "helpful", output: Any = None
    ) -> list[Effect]:
        """The k training examples with the strongest effect on one target, strongest first.

        "helpful" raises the output (for a loss: lowers it), "harmful" is the other end. A vector output needs
        `output`, one of `output_ids`. Zero weights are never listed, so fewer than k may come back.
        """
        if order not in ("helpful", "harmful"):
            raise InputError(f'order is {order!r}, but it must be "helpful" or "harmful".')
        row = self.data["weight"].isel(target=self.target_index(target)[0])
        if "output" in row.dims:
            if output is None:
                raise InputError(
                    f"output is missing, but there are {row.sizes['output']}; pass one of output_ids."
                )
            row = row.isel(output=self._index("output", output)[0])
        weights = row.values
        sign = 1.0 if (order == "helpful") != self.lower_is_better else -1.0
        ranked = np.argsort(-sign * weights, kind="stable")[: max(int(k), 0)]
        ids = self.train_ids
        return [Effect(ids[j].item(), int(j), float(weights[j])) for j in ranked if sign * weights[j] > 0]

    def self_influence(self) -> xr.DataArray:
        """Effect of each training example on itself, for train ids among the targets: (train[, output])."""
        own = np.flatnonzero(self.data.indexes["train"].isin(self.data.indexes["target"]))
        if len(own) == 0:
            raise InputError("self_influence needs training examples among the targets, but no id is both.")
        rows = self.data.indexes["target"].get_indexer(self.data.indexes["train"][own])
        pairs = {"target": xr.DataArray(rows, dims="train"), "train": xr.DataArray(own, dims="train")}
        own_weight = self.data["weight"].isel(pairs).transpose("train", ...)
        return own_weight.drop_vars("target").rename("self_influence")

    # --- Ids ---

    def target_index(self, ids: Any) -> np.ndarray:
        """Rows of these target ids (one id or several). InputError names the unknown ones."""
        return self._index("target", ids)

    def train_index(self, ids: Any) -> np.ndarray:
        """Columns of these train ids (one id or several). InputError names the unknown ones."""
        return self._index("train", ids)

    def _index(self, dim: str, ids: Any) -> np.ndarray:
        wanted = [ids] if isinstance(ids, str) or np.ndim(ids) == 0 else list(ids)
        if not wanted:
            return np.zeros(0, np.int64)
        index = self.data.indexes[dim].get_indexer(wanted)
        if (index < 0).any():
            unknown = [str(name) for name, at in zip(wanted, index, strict=True) if at < 0]
            more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
            known = ", ".join(map(repr, self.data[dim].values[:3].tolist()))
            raise InputError(f"no {dim} id is {', '.join(unknown[:5])}{more}; ids look like {known}.")
        return index.astype(np.int64)

    # --- Leaving and returning ---

    def to_numpy(self) -> np.ndarray:
        """A copy of the weights: (target[, output], train)."""
        return self.weight.copy()

    def to_pandas(self) -> pd.DataFrame:
        """Weights as a table: one row a target (or (target, output) pair), one column a training example."""
        import pandas as pd

        train = pd.Index(self.train_ids, name="train")
        if self.output_ids is None:
            return pd.DataFrame(self.weight, pd.Index(self.target_ids, name="target"), train)
        rows = pd.MultiIndex.from_product([self.target_ids, self.output_ids], names=["target", "output"])
        return pd.DataFrame(self.weight.reshape(-1, len(train)), rows, train)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Zarr v3 store (a folder). Replaces an earlier attribution there, but nothing else.

        Written beside `path` and renamed into place, so a crash never leaves half of one.
        """
        write_dataset(self.data, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Attribution:
        """Open what `save` wrote. Weights are read when first used, a row at a time by `top`."""
        loaded = cls.__new__(cls)
        loaded.data = open_dataset(path)
        return loaded

    @classmethod
    @contextmanager
    def writing(
        cls, path: str | os.PathLike[str], shape: tuple[int, int], columns: int, **labels: Any
    ) -> Iterator[Write]:
        """Write an attribution that need not fit in memory, in the form of `save`, for `load` to open.

        Inside the context, the function it gives is called with a slice of training examples and their
        weights (target, len(slice)) float32, from the first example to the last without gaps. The attribution
        takes its place when the context is left; an exception leaves nothing.

        Parameters
        ----------
        shape : (targets, training examples)
        columns : training examples at a time; the last time there may be fewer
        labels : what `Attribution` takes beside the weight: ids, output, units, method, provenance, ...
        """
        nothing = np.broadcast_to(np.float32(0), shape)  # a shape without memory
        with write_blocks(cls(nothing, **labels).data, path, columns) as write:
            yield write


def _floats(array: Any) -> np.ndarray:
    """As float32, unless float64 was passed on purpose; torch tensors welcome."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().numpy()
    array = np.asarray(array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _ids(argument: str, ids: Any, count: int, prefix: str) -> np.ndarray:
    if ids is None:
        return np.array([f"{prefix}/{i}" for i in range(count)], dtype=str)
    given = np.asarray(ids)
    if given.shape != (count,):
        raise InputError(f"{argument} has shape {given.shape}, but there are {count} of them in weight.")
    if given.dtype.kind in "OT":
        if all(isinstance(name, str) for name in given):
            given = given.astype(str)
        elif all(isinstance(name, int | np.integer) for name in given):
            given = given.astype(np.int64)
    if given.dtype.kind not in "Uiu":
        raise InputError(f"{argument} has dtype {given.dtype}, but ids must all be str or all be int.")
    values, counts = np.unique(given, return_counts=True)
    if len(values) < count:
        raise InputError(f"{argument} holds {values[counts > 1][0]} more than once, but ids must be unique.")
    return given


def _require_shape(argument: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise InputError(f"{argument} has shape {array.shape}, but weight asks for {shape}.")


def _require_finite(argument: str, array: np.ndarray) -> None:
    bad = sum(int((~np.isfinite(array[i : i + 64])).sum()) for i in range(0, len(array), 64))
    if bad:
        raise InputError(f"{argument} holds {bad} non-finite values, but every value must be finite.")
