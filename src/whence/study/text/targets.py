"""Target tasks: contexts and what should continue them, in the formats of the targets of DsDm (Engstrom,
Feldmann, Madry 2024, arXiv 2401.12926), zero- or few-shot."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from whence.errors import InputError
from whence.study.text.domains import content_of, rows_of
from whence.study.text.packing import IGNORED, Rows, positions
from whence.study.text.tokenizers import Tokenizer

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False, repr=False)
class TargetTask:
    """Contexts and their continuations; the loss is that of the continuation's tokens alone.

    Attributes
    ----------
    name : of the task
    contexts : str (n,), what is read
    continuations : str (n,), what should follow, with the space or mark that parts it from the context
    groups : str (n,), what examples have in common (a paragraph) and must not be split over two halves; by
        default each distinct text is its own
    ids : str (n,), unique; by default ``name/0``, ``name/1``, ...
    shots : solved examples that stand before every context, or ""
    """

    name: str
    contexts: np.ndarray
    continuations: np.ndarray
    groups: np.ndarray | None = None
    ids: np.ndarray | None = None
    shots: str = ""

    def __post_init__(self) -> None:
        contexts, continuations = np.asarray(self.contexts, str), np.asarray(self.continuations, str)
        if contexts.ndim != 1 or contexts.shape != continuations.shape:
            raise InputError(
                f"{self.name} must have one continuation for each context, received shapes {contexts.shape} "
                f"and {continuations.shape}."
            )
        if not len(contexts):
            raise InputError(f"the target task {self.name!r} is empty; pass at least one example.")
        blank = np.flatnonzero(np.char.str_len(np.char.strip(continuations)) == 0)
        if len(blank):
            raise InputError(
                f"{self.name} example {blank[0]} has no continuation, so there is nothing to predict."
            )
        count = len(contexts)
        groups = np.char.add(contexts, continuations) if self.groups is None else np.asarray(self.groups, str)
        ids = [f"{self.name}/{i}" for i in range(count)] if self.ids is None else self.ids
        if groups.shape != (count,) or len(ids) != count:
            raise InputError(
                f"{self.name} has {count} examples, but {len(groups)} groups and {len(ids)} ids."
            )
        plain = {"contexts": contexts, "continuations": continuations, "groups": groups}
        for key, value in {**plain, "ids": np.asarray(ids, str)}.items():
            object.__setattr__(self, key, value)

    def __len__(self) -> int:
        return len(self.contexts)

    def __repr__(self) -> str:
        return f"<TargetTask {self.name!r}: {len(self):,} examples>"

    def take(self, rows: np.ndarray | Sequence[int] | slice) -> TargetTask:
        """Only these examples: positions, a boolean mask or a slice."""
        at = rows if isinstance(rows, slice) else positions(rows)
        assert self.groups is not None and self.ids is not None
        return replace(
            self,
            contexts=self.contexts[at],
            continuations=self.continuations[at],
            groups=self.groups[at],
            ids=self.ids[at],
        )

    def sample(self, count: int, seed: int = 0) -> TargetTask:
        """`count` examples drawn without replacement, in their order; InputError where there are fewer."""
        if not 1 <= count <= len(self):
            raise InputError(f"count is {count}, but {self.name} has {len(self)} examples.")
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False)))

    def with_shots(self, count: int, seed: int = 0, between: str = "\n\n") -> TargetTask:
        """The same task with `count` solved examples before each context. They are taken out of the task,
        with all that shares a group with them."""
        assert self.groups is not None
        names, first = np.unique(self.groups, return_index=True)
        if not 1 <= count < len(names):
            raise InputError(
                f"count is {count}, but {self.name} has {len(names)} groups of examples, and one must remain."
            )
        shown = np.random.default_rng(seed).permutation(len(names))[:count]
        solved = (self.contexts[i] + self.continuations[i] + between for i in first[shown])
        rest = self.take(~np.isin(self.groups, names[shown]))
        return replace(rest, shots=self.shots + "".join(solved))

    def halves(self, seed: int = 0) -> tuple[TargetTask, TargetTask]:
        """A half to select for and a half to report on: disjoint, and no group in both."""
        assert self.groups is not None
        names = np.unique(self.groups)
        if len(names) < 2:
            raise InputError(
                f"{self.name} cannot be split: all of its {len(self)} examples are one group; two are needed."
            )
        first = np.random.default_rng(seed).permutation(names)[: len(names) // 2]
        chosen = np.isin(self.groups, first)
        return self.take(chosen), self.take(~chosen)

    def rows(self, tokenizer: Tokenizer, length: int) -> Rows:
        """The task as `Rows`: context, continuation, filled up with separators; only the continuation's
        tokens are answers.

        A continuation of more than half a row is cut at its end, then the context is cut at its beginning, so
        that the nearest of it remains.
        """
        if length < 2:
            raise InputError(f"length is {length}, but a row needs 2 tokens for one to be predicted.")
        before = tokenizer.encode([self.shots + context for context in self.contexts])
        after = tokenizer.encode(self.continuations.tolist())
        tokens = np.full((len(self), length), tokenizer.separator, dtype=np.int64)
        answers = np.full((len(self), length), IGNORED, dtype=np.int64)
        texts = []
        start = np.array([tokenizer.separator])  # something to predict from, where a context is empty
        for row, answer, given, wanted in zip(tokens, answers, before, after, strict=True):
            wanted = wanted[: max(1, length // 2)]
            given = (given if len(given) else start)[-(length - len(wanted)) :]
            joined = np.concatenate([given, wanted])
            row[: len(joined)] = joined
            answer[len(given) - 1 : len(joined) - 1] = wanted
            texts.append(tokenizer.decode(joined))
        assert self.ids is not None
        return Rows(tokens, answers, np.array(texts), np.full(len(self), self.name), self.ids)


def lambada(path: PathLike) -> TargetTask:
    """LAMBADA (Paperno et al. 2016) as JSON lines of `context` and `continuation`, the last word."""
    return _lines("lambada", path, ("context", "continuation"), lambda c, w: (c, f" {w}"))


def jeopardy(path: PathLike) -> TargetTask:
    """Jeopardy as JSON lines of `context`, "CATEGORY: clue", and `continuation`, the answer."""
    return _lines("jeopardy", path, ("context", "continuation"), lambda c, a: (f"{c}\nAnswer:", f" {a}"))


def cs_algorithms(path: PathLike) -> TargetTask:
    """BIG-bench CS algorithms as JSON lines of `context` and `continuation`, a number or a word."""
    return _lines("cs_algorithms", path, ("context", "continuation"), lambda c, a: (c, f" {a}"))


def gsm8k(path: PathLike) -> TargetTask:
    """GSM8K (Cobbe et al. 2021) as JSON lines of `context`, `chain_of_thought` and `answer`; the chain of
    thought and the answer are to be continued."""
    return _lines(
        "gsm8k",
        path,
        ("context", "chain_of_thought", "answer"),
        lambda q, chain, a: (f"Question: {q}\nAnswer:", f" {chain}\n#### {a}"),
    )


def squad(path: PathLike, sentence: bool = False) -> TargetTask:
    """SQuAD 1.1 (Rajpurkar et al. 2016), its published JSON; the first answer of each question.

    Parameters
    ----------
    sentence : keep of the paragraph only what lies between the full stops around the answer, for models whose
        rows are too short for a paragraph

    Questions on one paragraph are a group and stay in one half.
    """
    contexts, continuations, groups = [], [], []
    try:
        content = json.loads(content_of(path))
        paragraphs = [p for article in content["data"] for p in article["paragraphs"]]
        for paragraph in paragraphs:
            for question in paragraph["qas"]:
                answer = question["answers"][0]
                given = paragraph["context"]
                if sentence:
                    given = _sentence(given, answer["answer_start"], len(answer["text"]))
                contexts.append(f"Context: {given}\nQuestion: {question['question']}\nAnswer:")
                continuations.append(f" {answer['text']}")
                groups.append(paragraph["context"])
    except (KeyError, TypeError, IndexError, ValueError) as problem:
        raise InputError(
            f"{path} is not of SQuAD's form data/paragraphs/qas/answers "
            f"({type(problem).__name__}: {problem})."
        ) from None
    return TargetTask("squad", np.array(contexts), np.array(continuations), np.array(groups))


def _sentence(paragraph: str, start: int, size: int) -> str:
    first = paragraph.rfind(". ", 0, start)
    last = paragraph.find(". ", start + size)
    return paragraph[first + 2 if first >= 0 else 0 : last + 1 if last >= 0 else None]


def _lines(
    name: str, path: PathLike, fields: Sequence[str], make: Callable[..., tuple[str, str]]
) -> TargetTask:
    pairs = []
    for number, row in rows_of(path):
        absent = [field for field in fields if field not in row]
        if absent:
            raise InputError(
                f"{path} line {number} lacks {', '.join(absent)}, it has {', '.join(row)}; {name} needs "
                f"{', '.join(fields)}."
            )
        pairs.append(make(*(str(row[field]) for field in fields)))
    if not pairs:
        raise InputError(f"{path} holds no example of {name}.")
    contexts, continuations = zip(*pairs, strict=True)
    return TargetTask(name, np.array(contexts), np.array(continuations))
