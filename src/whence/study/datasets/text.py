"""Text data sets: sentences, and the same as tokens of a small vocabulary of whole words."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from whence.errors import InputError
from whence.study.datasets.dataset import Dataset
from whence.study.datasets.files import check, data_folders, find

PADDING, UNKNOWN = 0, 1
# file -> md5 of the unpacked file
SST2 = {"train": "d326d674d60c335d027a80436ee0c229", "test": "268856b487b2a31a28c0a93daaff7288"}


def sst2(
    root: str | os.PathLike[str] | None = None,
    *,
    vocabulary: int = 4000,
    length: int = 32,
    least: int = 1,
) -> Dataset:
    """SST-2 (Socher et al. 2013): 60,614 phrases and 872 sentences of film reviews, negative or positive.

    Reads `train.tsv` and `test.tsv` ("sentence", "label"; plain or .gz; the test file is GLUE's development
    set) from `root` (default: $WHENCE_DATA), there also from `text/sst2/` and `sst2/`; it is not fetched.

    Parameters
    ----------
    vocabulary : so many tokens: padding (0), unknown (1) and the most frequent words of the training file
    length : tokens per example; longer ones are cut, shorter ones padded
    least : leave out training phrases of fewer words than this

    Returns
    -------
    Dataset whose inputs are tokens int64 (n, length), with the sentences in `train_text` and `test_text`.
    """
    if vocabulary < 3 or length < 1:
        raise InputError(
            f"vocabulary is {vocabulary} and length {length}, but they must be at least 3 and 1."
        )
    folders = data_folders(root)
    (train, train_y), (test, test_y) = (_read(part, folders) for part in SST2)
    words = frequent_words(train, vocabulary)
    long = np.array([len(text.split()) >= least for text in train])
    if not long.any():
        raise InputError(f"least is {least}, but no phrase of SST-2 has so many words.")
    train, train_y = train[long], train_y[long]
    return Dataset(
        tokens(train, words, length),
        train_y,
        tokens(test, words, length),
        test_y,
        classes=["negative", "positive"],
        name="SST-2",
        licence="none stated; cite Socher et al. (2013), Recursive Deep Models for Semantic Compositionality",
        source="https://nlp.stanford.edu/sentiment/",
        train_text=train,
        test_text=test,
    )


def frequent_words(texts: Sequence[str] | np.ndarray, vocabulary: int) -> dict[str, int]:
    """Token of each of the `vocabulary` - 2 most frequent words (split at white space), from 2 on."""
    counts = Counter(word for text in texts for word in text.split())
    # ties are broken by the word, so that the vocabulary does not depend on the order of the texts
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return {word: token for token, word in enumerate(ranked[: vocabulary - 2], start=2)}


def tokens(texts: Sequence[str] | np.ndarray, words: dict[str, int], length: int) -> np.ndarray:
    """int64 (n, length): tokens of the words, UNKNOWN for others, PADDING behind the last."""
    out = np.full((len(texts), length), PADDING, np.int64)
    for row, text in zip(out, texts, strict=True):
        ids = [words.get(word, UNKNOWN) for word in text.split()[:length]]
        row[: len(ids)] = ids
    return out


def _read(part: str, folders: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Sentences (str) and labels of one file."""
    places = [
        f"{place}/{part}.tsv{end}" for place in ("text/sst2", "sst2", "SST-2", ".") for end in ("", ".gz")
    ]
    path = find(folders, places)
    if path is None:
        looked = " and ".join(str(folder) for folder in folders)
        raise InputError(
            f"SST-2's {part}.tsv was not found in {looked}; put it into sst2/ there, or name its folder as "
            "root or $WHENCE_DATA."
        )
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError) as problem:
        raise InputError(f"{path} cannot be unpacked ({problem}); it is damaged, replace it.") from None
    check(path, content, SST2[part])
    lines = content.decode("utf-8").rstrip("\n").split("\n")[1:]
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    return np.array([text.strip() for text in texts]), np.array(labels, np.int64)
