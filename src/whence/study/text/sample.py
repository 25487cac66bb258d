"""A small sample of public-domain text that is bundled with whence, for trying things out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whence.study.text.domains import rows_of
from whence.study.text.targets import TargetTask

SAMPLE = Path(__file__).with_name("sample.jsonl.gz")


@dataclass(frozen=True)
class TextSample:
    """Text by domain, and target tasks.

    Attributes
    ----------
    domains : name -> documents
    tasks : name -> the task, in the format of LAMBADA: passages of a part of the domain that is not among
        the documents, and their last word
    """

    domains: dict[str, list[str]]
    tasks: dict[str, TargetTask]


def sample() -> TextSample:
    """Four domains of 30,000 characters each and two tasks of 120 examples.

    Shakespeare's plays, "Moby-Dick", addresses on the state of the union and the Jargon File; the tasks are
    last words of passages of "Moby-Dick" and of the Jargon File. All of it is in the public domain. Drawn by
    `tools/make_text_sample.py`.
    """
    domains: dict[str, list[str]] = {}
    pairs: dict[str, list[tuple[str, str]]] = {}
    for _, row in rows_of(SAMPLE):
        if "domain" in row:
            domains.setdefault(row["domain"], []).append(row["text"])
        else:
            pairs.setdefault(row["task"], []).append((row["context"], row["continuation"]))
    tasks = {
        name: TargetTask(name, np.array([c for c, _ in found]), np.array([w for _, w in found]))
        for name, found in pairs.items()
    }
    return TextSample(domains, tasks)
