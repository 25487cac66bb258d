"""Scores from a GradientStore, a block of training examples at a time: neither all gradients nor all scores
need fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import zarr

from whence.errors import InputError
from whence.methods.gradients.store import GradientStore


def preconditioned(
    store: GradientStore, key: str, queries: torch.Tensor, ridge: float, blocks: int = 1
) -> torch.Tensor:
    """(Phi' Phi + lambda)^-1 of queries (targets, size), lambda = ridge n mean_i |phi_i|^2 as in TRAK.

    One pass over the store; the Gram matrix is float64, in `blocks` diagonal blocks. Returns float32.
    """
    if not ridge > 0:
        raise InputError(f"ridge must be positive, received {ridge}; 1e-6 is very little.")
    if blocks < 1 or store.size % blocks:
        raise InputError(f"blocks is {blocks}, but it must divide the {store.size} dimensions.")
    if queries.ndim != 2 or queries.shape[1] != store.size:
        raise InputError(f"queries must be (targets, {store.size}), received {tuple(queries.shape)}.")
    width = store.size // blocks
    parts = [slice(start, start + width) for start in range(0, store.size, width)]
    grams = [torch.zeros(width, width, dtype=torch.float64) for _ in parts]
    for _, rows in store.blocks(key):
        for gram, part in zip(grams, parts, strict=True):
            some = torch.from_numpy(rows[:, part]).double()
            gram.addmm_(some.T, some)
    # the trace is sum_i |phi_i|^2
    unit = sum(float(gram.trace()) for gram in grams)
    solved = torch.empty(len(queries), store.size)
    for gram, part in zip(grams, parts, strict=True):
        gram.diagonal().add_(ridge * unit / blocks)
        factor = torch.linalg.cholesky(gram)
        solved[:, part] = torch.cholesky_solve(queries[:, part].double().T.contiguous(), factor).T.float()
    return solved


def stream(
    store: GradientStore, queries: Sequence[tuple[str, torch.Tensor]], weights: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Scores (targets, some of train) with their positions: the mean over checkpoints of <query, gradient>.

    Parameters
    ----------
    queries : key of a checkpoint and (targets, size), for each checkpoint
    weights : (n,) factors of training examples, e.g. TRAK's 1 - p
    """
    if not queries:
        raise InputError("no checkpoint was given to score with.")
    if weights is not None and weights.shape != (store.n,):
        raise InputError(f"weights must be ({store.n},), received {weights.shape}.")
    for index in range(-(-store.n // store.block)):
        span = slice(index * store.block, min((index + 1) * store.block, store.n))
        total = sum(query @ torch.from_numpy(store.read(key, index)).T for key, query in queries)
        assert isinstance(total, torch.Tensor)
        scores = (total / len(queries)).numpy()
        yield span, scores if weights is None else scores * weights[span].astype(np.float32)


def write(
    store: GradientStore,
    queries: Sequence[tuple[str, torch.Tensor]],
    to: str | Path,
    weights: np.ndarray | None = None,
) -> zarr.Array:
    """Scores (targets, n) float32 as a Zarr array at `to`, which must not exist."""
    if Path(to).exists():
        raise InputError(f"{to} exists already; name a new one.")
    if not queries:
        raise InputError("no checkpoint was given to score with.")
    targets = len(queries[0][1])
    array = zarr.create_array(
        str(to), shape=(targets, store.n), chunks=(targets, store.block), dtype="float32", compressors=None
    )
    for span, scores in stream(store, queries, weights):
        array[:, span] = scores
    return array


def top(
    store: GradientStore,
    queries: Sequence[tuple[str, torch.Tensor]],
    k: int,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k highest scores of each target and their positions in the training set, (targets, k) both, highest
    first; ties go to the earlier example."""
    if not 1 <= k <= store.n:
        raise InputError(f"k must lie between 1 and {store.n}, received {k}.")
    best = positions = None
    for span, scores in stream(store, queries, weights):
        here = np.broadcast_to(np.arange(span.start, span.stop), scores.shape)
        if best is not None and positions is not None:
            scores, here = np.hstack([best, scores]), np.hstack([positions, here])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best, positions = np.take_along_axis(scores, order, 1), np.take_along_axis(here, order, 1)
    assert best is not None and positions is not None
    return best, positions
