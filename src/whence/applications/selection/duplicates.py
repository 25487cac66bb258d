"""Near-duplicates among candidates: found by MinHash, counted in a choice.

Shingles and threshold as in Lee et al. 2022 (arXiv 2107.06499), section 4.2; MinHash of Broder 1997.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

from whence.applications.selection.pool import Pool, contents

SHINGLE = 5  # words
_BANDS, _ROWS = 16, 8  # two texts with Jaccard similarity 0.8 meet in some band with probability 0.95
_PRIME = 2**31 - 1
_WORD = re.compile(r"\w+")


def near_duplicates(pool: Pool, threshold: float = 0.8, seed: int = 0) -> np.ndarray | None:
    """(n,) int64 labels: candidates of one label are near-duplicates of each other.

    Texts count as such where the sets of their runs of 5 words have an estimated Jaccard similarity of
    `threshold` or more (128 random hashes; to one member of the label, not to all). Other examples where
    their inputs are equal. None for a study without either.
    """
    if pool.texts is not None:
        return _labels(_signatures(pool.texts, seed), threshold)
    digests = contents(pool.study.train, pool.study.train)
    if not digests:
        return None
    return np.unique(np.array(digests, dtype="S16"), return_inverse=True)[1].astype(np.int64)


def duplicate_rate(labels: np.ndarray, chosen: np.ndarray) -> float:
    """Share of the chosen positions that repeat the label of another: 0 where all differ."""
    return 1 - len(np.unique(labels[chosen])) / len(chosen)


def _signatures(texts: np.ndarray, seed: int) -> np.ndarray:
    """(n, 128) smallest hashes of the shingles of each text."""
    rng = np.random.default_rng(seed)
    count = _BANDS * _ROWS
    a = rng.integers(1, _PRIME, (count, 1), dtype=np.uint64)
    b = rng.integers(0, _PRIME, (count, 1), dtype=np.uint64)
    found = np.empty((len(texts), count), np.uint64)
    for i, text in enumerate(texts):
        words = _WORD.findall(str(text).lower())
        runs = {" ".join(words[j : j + SHINGLE]) for j in range(max(1, len(words) - SHINGLE + 1))}
        hashed = np.array([zlib.crc32(run.encode()) % _PRIME for run in runs], np.uint64)
        found[i] = ((a * hashed + b) % np.uint64(_PRIME)).min(1)
    return found


def _labels(signatures: np.ndarray, threshold: float) -> np.ndarray:
    parent = np.arange(len(signatures))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for band in range(_BANDS):
        rows = np.ascontiguousarray(signatures[:, band * _ROWS : (band + 1) * _ROWS])
        keys = rows.view(f"V{rows.itemsize * _ROWS}").ravel()
        _, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        for i in np.flatnonzero(counts[inverse] > 1).tolist():
            j = int(first[inverse[i]])
            if i != j and (signatures[i] == signatures[j]).mean() >= threshold:
                parent[root(i)] = root(j)
    return np.unique([root(i) for i in range(len(parent))], return_inverse=True)[1].astype(np.int64)
