"""Rows of tokens of one length: documents packed end to end, with each row's text and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.errors import InputError
from whence.study.text.tokenizers import Tokenizer

IGNORED = -100  # an answer that does not count, as everywhere in PyTorch


@dataclass(frozen=True, eq=False, repr=False)
class Rows:
    """Rows of tokens of one length.

    Attributes
    ----------
    tokens : int64 (n, length), what the network reads
    answers : int64 (n, length), the token that comes next, `IGNORED` where it does not count
    texts : str (n,), the rows as text
    names : str (n,), the domain or the task of each row
    ids : str (n,), unique
    """

    tokens: np.ndarray
    answers: np.ndarray
    texts: np.ndarray
    names: np.ndarray
    ids: np.ndarray

    def __post_init__(self) -> None:
        if self.tokens.ndim != 2 or self.tokens.shape != self.answers.shape:
            raise InputError(
                f"tokens and answers must both be (rows, length), received {self.tokens.shape} and "
                f"{self.answers.shape}."
            )
        sizes = {len(part) for part in (self.tokens, self.texts, self.names, self.ids)}
        if len(sizes) > 1:
            raise InputError(f"tokens, texts, names and ids must have one entry a row, received {sizes}.")

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        return f"<Rows: {len(self):,} of {self.length} tokens, {', '.join(dict.fromkeys(self.names))}>"

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.tokens.shape[1]

    @property
    def sizes(self) -> np.ndarray:
        """Tokens that each row is trained to predict, int64 (n,)."""
        return (self.answers != IGNORED).sum(1)

    @property
    def groups(self) -> dict[str, list[str]]:
        """Name -> ids of its rows."""
        return {name: self.ids[self.names == name].tolist() for name in dict.fromkeys(self.names.tolist())}

    def take(self, rows: np.ndarray | Sequence[int] | slice) -> Rows:
        """Only these rows: positions, a boolean mask or a slice."""
        at = rows if isinstance(rows, slice) else positions(rows)
        return Rows(self.tokens[at], self.answers[at], self.texts[at], self.names[at], self.ids[at])

    def sample(self, count: int, seed: int = 0) -> Rows:
        """`count` rows drawn without replacement, in their order; InputError where there are fewer."""
        if not 1 <= count <= len(self):
            raise InputError(f"count is {count}, but there are {len(self)} rows to draw from.")
        drawn = np.random.default_rng(seed).choice(len(self), count, replace=False)
        return self.take(np.sort(drawn))

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """The rows of several, one after the other; InputError where their lengths differ."""
        lengths = {part.length for part in parts}
        if len(lengths) != 1:
            raise InputError(f"rows that are joined must have one length, received {sorted(lengths)}.")
        fields = ("tokens", "answers", "texts", "names", "ids")
        return Rows(*(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def pack(documents: Sequence[str], tokenizer: Tokenizer, length: int, name: str = "text") -> Rows:
    """Documents end to end, a separator after each, cut into rows of `length` tokens.

    Every token of a row but the first is predicted from those before it. What is left at the end and does not
    fill a row is dropped, so all rows count equally many tokens.

    Parameters
    ----------
    name : the domain's; ids are ``name/0``, ``name/1``, ...

    Raises
    ------
    InputError : no documents, or too little text for one row.
    """
    if length < 2:
        raise InputError(f"length is {length}, but a row needs 2 tokens for one to be predicted.")
    if not len(documents):
        raise InputError(f"{name} has no documents to pack.")
    end = np.array([tokenizer.separator], dtype=np.int64)
    stream = np.concatenate([part for tokens in tokenizer.encode(documents) for part in (tokens, end)])
    count = len(stream) // length
    if not count:
        raise InputError(f"{name} has {len(stream)} tokens, too few for one row of {length}.")
    tokens = stream[: count * length].reshape(count, length)
    return Rows(
        tokens,
        following(tokens),
        np.array([tokenizer.decode(row) for row in tokens]),
        np.full(count, name),
        np.array([f"{name}/{i}" for i in range(count)]),
    )


def following(tokens: np.ndarray) -> np.ndarray:
    """The token after each, (n, length); `IGNORED` after the last, which has none."""
    answers = np.full_like(tokens, IGNORED)
    answers[:, :-1] = tokens[:, 1:]
    return answers


def positions(rows: np.ndarray | Sequence[int]) -> np.ndarray:
    """An index: a boolean mask as it is, anything else as integers, also where it is empty."""
    at = np.asarray(rows)
    return at if at.dtype == bool else at.astype(np.int64)
