"""Reading text domains: plain text and JSON lines, packed or not."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from whence.errors import InputError


def read_text(path: str | os.PathLike[str], split: str | None = None) -> list[str]:
    """The documents of a text file (``.txt`` or any other, packed where it ends with ``.gz``).

    Parameters
    ----------
    split : what stands between documents; None takes the whole file as one. Bytes that are no UTF-8 become
        the replacement character.

    Raises
    ------
    InputError : the file is absent, damaged or holds no text.
    """
    content = content_of(path).decode("utf-8", errors="replace")
    documents = [content] if split is None else content.split(split)
    documents = [document for document in documents if document.strip()]
    if not documents:
        raise InputError(f"{path} holds no text.")
    return documents


def read_jsonl(path: str | os.PathLike[str], fields: Sequence[str] = ("text",), join: str = "") -> list[str]:
    """The documents of a file of JSON lines (``.jsonl`` or ``.jsonl.gz``), one a line.

    Parameters
    ----------
    fields : which fields make the document, in this order, with `join` between them

    Raises
    ------
    InputError : the file is absent or damaged, a line is no JSON object, or lacks a field.
    """
    fields = (fields,) if isinstance(fields, str) else tuple(fields)
    return [join.join(_strings(row, fields, f"{path} line {n}")) for n, row in rows_of(path)]


def rows_of(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (from 1) and JSON object of each line that is not empty."""
    # Not splitlines: it also splits at other Unicode separators, which JSON strings may hold as they are.
    for number, line in enumerate(content_of(path).decode("utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as problem:
            raise InputError(f"{path} line {number} is not JSON ({problem.msg}).") from None
        if not isinstance(row, dict):
            raise InputError(f"{path} line {number} is not a JSON object but {type(row).__name__}.")
        yield number, row


def _strings(row: dict[str, Any], fields: Sequence[str], where: str) -> list[str]:
    for field in fields:
        if not isinstance(row.get(field), str):
            raise InputError(f"{where} has no text {field!r}; its fields are {', '.join(row)}.")
    return [row[field] for field in fields]


def shuffled_characters(documents: Sequence[str], characters: int, seed: int = 0) -> list[str]:
    """One document of `characters` characters drawn from `documents` in random order: junk with the letter
    frequencies of real text, which a good selector leaves alone."""
    text = "".join(documents)
    if not text or characters < 1:
        raise InputError(
            f"characters is {characters} and documents hold {len(text)}; both must be at least 1."
        )
    drawn = np.random.default_rng(seed).integers(len(text), size=characters)
    return ["".join(text[i] for i in drawn.tolist())]


def content_of(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, unpacked where its name ends with ``.gz``; InputError: absent or damaged."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; name a text file or JSON lines, packed with gzip or not.")
    content = path.read_bytes()
    if path.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError) as problem:
        raise InputError(f"{path} cannot be unpacked ({problem}); it is damaged, replace it.") from None
