"""Scores from a GradientStore, a block of training examples at a time: neither all gradients nor all scores
need fit in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from whence.errors import InputError
from whence.methods.gradients.store import GradientStore

DOUBLED = 256  # rows in double precision at a time
_SORTED = 64  # targets sorted at a time


def preconditioned(
    store: GradientStore, key: str, queries: torch.Tensor, ridges: Sequence[float], blocks: int = 1
) -> list[torch.Tensor]:
    """(Phi' Phi + lambda)^-1 of queries (targets, size) at each ridge; lambda = ridge n mean_i |phi_i|^2 as
    in TRAK.

    One pass over the store; the Gram matrix is float64, in `blocks` diagonal blocks. Returns float32.
    """
    if not all(ridge > 0 for ridge in ridges):
        raise InputError(f"ridge must be positive, received {min(ridges)}; 1e-6 is very little.")
    if blocks < 1 or store.size % blocks:
        raise InputError(f"blocks is {blocks}, but it must divide the {store.size} dimensions.")
    if queries.ndim != 2 or queries.shape[1] != store.size:
        raise InputError(f"queries must be (targets, {store.size}), received {tuple(queries.shape)}.")
    width = store.size // blocks
    parts = [slice(start, start + width) for start in range(0, store.size, width)]
    grams = [torch.zeros(width, width, dtype=torch.float64) for _ in parts]
    for _, rows in store.blocks(key):
        for few in torch.from_numpy(rows).split(DOUBLED):
            for gram, part in zip(grams, parts, strict=True):
                some = few[:, part].double()
                gram.addmm_(some.T, some)
    # the trace is sum_i |phi_i|^2
    unit = sum(float(gram.trace()) for gram in grams) / blocks
    found = [torch.empty(len(queries), store.size) for _ in ridges]
    for gram, part in zip(grams, parts, strict=True):
        right = queries[:, part].double().T.contiguous()
        added = 0.0
        for ridge, solved in zip(ridges, found, strict=True):
            gram.diagonal().add_(ridge * unit - added)
            added = ridge * unit
            solved[:, part] = torch.cholesky_solve(right, torch.linalg.cholesky(gram)).T.float()
    return found


def stream(
    store: GradientStore, queries: Sequence[tuple[str, torch.Tensor]], weights: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Scores (targets, some of train) float32 with their positions: the mean over checkpoints of <query,
    gradient>.

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
        total = torch.zeros(len(queries[0][1]), span.stop - span.start)
        for key, query in queries:
            total.addmm_(query, torch.from_numpy(store.read(key, index)).T)
        total /= len(queries)
        if weights is not None:
            total *= torch.from_numpy(weights[span].astype(np.float32))
        yield span, total.numpy()


def top(
    store: GradientStore,
    queries: Sequence[tuple[str, torch.Tensor]],
    k: int,
    weights: np.ndarray | None = None,
    lowest: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The k highest (or lowest) scores of each target and their positions in the training set, (targets, k)
    both, the most extreme first; ties go to the earlier example."""
    if not 1 <= k <= store.n:
        raise InputError(f"k must lie between 1 and {store.n}, received {k}.")
    targets, sign = (len(queries[0][1]) if queries else 0), (1.0 if lowest else -1.0)
    best, positions = np.zeros((targets, 0), dtype=np.float32), np.zeros((targets, 0), dtype=np.int64)
    for span, scores in stream(store, queries, weights):
        width = min(k, best.shape[1] + scores.shape[1])
        better, where = np.empty((targets, width), np.float32), np.empty((targets, width), np.int64)
        for start in range(0, targets, _SORTED):
            some = slice(start, start + _SORTED)
            both = np.hstack([best[some], scores[some]])
            here = np.broadcast_to(np.arange(span.start, span.stop), scores[some].shape)
            here = np.hstack([positions[some], here])
            order = np.argsort(sign * both, axis=1, kind="stable")[:, :k]
            better[some] = np.take_along_axis(both, order, 1)
            where[some] = np.take_along_axis(here, order, 1)
        best, positions = better, where
    return best, positions
