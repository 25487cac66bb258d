"""What the DsDm benchmark selects from and for: text domains of many kinds, and five target tasks."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from whence.study import text
from whence.study.text import Rows, TargetTask, Tokenizer

# Domain -> (file below $WHENCE_DATA/text, how it is read). Some are of a target's kind (GSM8K's own training
# questions, stories for LAMBADA), most are not, and two are junk.
SOURCES: dict[str, tuple[str, Callable[..., list[str]]]] = {
    "state of the union": ("domains/state-of-the-union.jsonl.gz", text.read_jsonl),
    "computing dictionary": ("domains/foldoc.txt.gz", text.read_text),
    "grade-school maths": (
        "gsm8k/train.jsonl.gz",
        partial(text.read_jsonl, fields=("question", "answer"), join="\n"),
    ),
    "news": ("ag-news/train-subset-dev.tsv.gz", text.read_text),
    "film review phrases": ("sst2/train.tsv.gz", text.read_text),
    "film reviews": ("mr-polarity/rt-polarity.pos.gz", text.read_text),
    "wikipedia": ("wikitext-2/valid.txt.gz", text.read_text),
    "web": (
        "domains/c4-sample.jsonl.gz",
        partial(text.read_jsonl, fields=("prefix", "gold_completion")),
    ),
    "facts": (
        "eval-targets/bigbench_qa_wikidata.jsonl.gz",
        partial(text.read_jsonl, fields=("context", "continuation"), join=" "),
    ),
    "jargon file": ("domains/jargon.txt.gz", text.read_text),
    "moby dick": ("domains/moby-dick.txt.gz", text.read_text),
    "papers": ("domains/arxiv-sample.jsonl.gz", text.read_jsonl),
    "shakespeare": ("tinyshakespeare.txt.gz", text.read_text),
    "short stories": ("domains/tinystories-sample.txt.gz", text.read_text),
    "fairy tales": ("domains/grimm-tales.txt.gz", text.read_text),
    "questions about code": ("domains/stackexchange-sample.jsonl.gz", text.read_jsonl),
}
BOILERPLATE = (
    "Copyright {year} {name}. All rights reserved. No part may be reproduced without permission.",
    "This site uses cookies. By continuing you accept the cookie policy of {name}. [Accept] [Decline]",
    "Home | About | Products | Contact | Login | Sitemap | Terms of use | Privacy policy",
    "You are receiving this e-mail because you signed up at {name} in {year}. Click here to unsubscribe.",
    "Share this: Facebook Twitter Pinterest Print E-mail. Posted in {name} on {year}-01-01. Leave a comment.",
)
TASKS: dict[str, tuple[str, Callable[..., TargetTask]]] = {
    "lambada": ("eval-targets/lambada_openai.jsonl.gz", text.lambada),
    "jeopardy": ("eval-targets/jeopardy_all.jsonl.gz", text.jeopardy),
    "cs_algorithms": ("eval-targets/bigbench_cs_algorithms.jsonl.gz", text.cs_algorithms),
    "squad": ("eval-targets/squad-dev-subset-xquad-en.json.gz", partial(text.squad, sentence=True)),
    "gsm8k": ("eval-targets/gsm8k.jsonl.gz", text.gsm8k),
}
JUNK = ("shuffled characters", "boilerplate")
SPLIT = 0  # seed of the two halves of each task
FORMAT_SHIFTED = ("jeopardy", "cs_algorithms", "squad")  # no domain of the pool is written as they are


@dataclass(frozen=True)
class Material:
    """Candidates, the two halves of the targets, and what they were made with."""

    candidates: Rows
    selected_for: Rows
    reported: Rows
    tokenizer: Tokenizer
    raw_bytes: dict[str, int]  # of each domain, before anything was drawn


def material(
    rows: int,
    length: int,
    vocabulary: int,
    targets: int,
    tasks: Sequence[str] = tuple(TASKS),
    seed: int = 0,
    pilot: bool = False,
) -> Material:
    """The pool and the targets.

    Parameters
    ----------
    rows : candidates, drawn from all domains in proportion to their size
    targets : examples of each task in each half
    tasks : names of `TASKS`
    seed : of what is drawn
    pilot : take both halves out of the half that is selected for, so that settings can be tried without
        looking at the half that is reported
    """
    folder = Path(os.environ["WHENCE_DATA"]) / "text"
    documents = {name: read(folder / file) for name, (file, read) in SOURCES.items()}
    real = [document for part in documents.values() for document in part]
    documents[JUNK[0]] = text.shuffled_characters(real, 2_000_000, seed)
    documents[JUNK[1]] = [_boilerplate(2_000_000, seed)]
    sizes = {name: sum(len(d.encode()) for d in part) for name, part in documents.items()}
    tokenizer = text.byte_pairs([_excerpt(part, 200_000) for part in documents.values()], vocabulary)
    total = sum(sizes.values())
    parts = []
    for name, part in documents.items():
        share = math.ceil(rows * sizes[name] / total)
        parts.append(_drawn(part, tokenizer, length, name, share, seed))
    candidates = Rows.join(parts)
    candidates = candidates.take(np.random.default_rng(seed).permutation(len(candidates))[:rows])
    first, second = [], []
    for file, read in map(TASKS.__getitem__, tasks):
        pair = read(folder / file).halves(seed=SPLIT)
        if pilot:
            pair = pair[0].halves(seed=SPLIT)
        for side, half in zip((first, second), pair, strict=True):
            side.append(half.sample(min(targets, len(half)), seed=SPLIT).rows(tokenizer, length))
    return Material(candidates, Rows.join(first), Rows.join(second), tokenizer, sizes)


def _drawn(documents: list[str], tokenizer: Tokenizer, length: int, name: str, count: int, seed: int) -> Rows:
    """`count` rows from stretches drawn all over a domain: only these are tokenised."""
    whole = "\n\n".join(documents)
    stretch = 16 * length  # characters: four or so rows in a row, so that few are cut at a random place
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    starts = rng.permutation(np.arange(0, max(1, len(whole) - stretch), stretch))
    parts: list[Rows] = []
    found = 0
    for place in starts.tolist():
        rows = text.pack([whole[place : place + stretch]], tokenizer, length, f"{name} at {place}")
        parts.append(rows)
        found += len(rows)
        if found >= count:
            break
    joined = Rows.join(parts).take(slice(count))
    ids = [f"{name}/{i}" for i in range(len(joined))]
    return Rows(joined.tokens, joined.answers, joined.texts, np.full(len(joined), name), np.array(ids))


def _boilerplate(characters: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    names = ["Example Media", "Acme Inc", "The Daily Post", "Shop24", "MyBlog"]
    lines, size = [], 0
    while size < characters:
        line = BOILERPLATE[rng.integers(len(BOILERPLATE))]
        lines.append(line.format(year=rng.integers(1998, 2024), name=names[rng.integers(len(names))]))
        size += len(lines[-1]) + 1
    return "\n".join(lines)


def _excerpt(documents: list[str], characters: int) -> str:
    """The beginning of a domain, for counting byte pairs: every domain gets an equal say."""
    return "\n".join(documents)[:characters]
