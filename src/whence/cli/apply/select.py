"""``whence apply select``: choose training data for given targets, and see what the choice is worth."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whence.cli._output import Json, named
from whence.cli.apply._options import Folder, Page, Seed, conclude, loaded

if TYPE_CHECKING:
    from whence.applications.selection import Selector


class RuleName(StrEnum):
    """Rules that need nothing but the study, to compare attributions with."""

    random = "random"
    similarity = "similarity"
    bm25 = "bm25"
    dsir = "dsir"
    classifier = "classifier"
    deduplication = "deduplication"
    perplexity = "perplexity"
    less = "less"


def select(
    study: Annotated[
        str,
        typer.Option("--study", help="As module:attribute. Its training examples are the candidates."),
    ],
    attributions: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders with attributions of the study's targets or of means over tasks.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        list[RuleName] | None,
        typer.Option(help="Choose by this rule too; may be given several times.", show_default=False),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            help="A study of the same candidates with other targets, as module:attribute: train on each "
            "choice and judge it there. Without it nothing is trained.",
            show_default=False,
        ),
    ] = None,
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="Share of the candidates; may be given several times. Default: 0.1.", show_default=False
        ),
    ] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(
            help="JSON file: task to a pair of lists, ids of its targets in --study and in --held-out.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="JSON list: a label for each candidate; those of a label stay together.", show_default=False
        ),
    ] = None,
    sizes: Annotated[
        Path | None,
        typer.Option(
            help="JSON list: tokens or steps of each candidate; fractions are then of their sum.",
            show_default=False,
        ),
    ] = None,
    distinct: Annotated[bool, typer.Option(help="Pass over near-duplicates of what is chosen.")] = False,
    head: Annotated[
        float | None,
        typer.Option(
            help="Take only this share of the candidates by rank; the rest of a choice is drawn at random.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[str, typer.Option(help="Recorded output to compare by.")] = "loss",
    seeds: Annotated[int, typer.Option(help="Draws and trainings of each choice.")] = 3,
    choices: Annotated[
        Path | None,
        typer.Option(help="Folder to write the choices to, a .jsonl of ids each.", show_default=False),
    ] = None,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Choose training data by attributions and by other rules, for the study's targets.

    Example: whence apply select runs/qa.attribution --study my:study --by dsir --held-out my:report
    """
    from whence.applications.selection import Attributed, Pool, compare_selections
    from whence.attribution import Attribution

    subject = loaded(study)
    assert subject is not None
    rules: list[Any] = [
        Attributed.given(Attribution.load(path), name) for name, path in named(attributions or []).items()
    ]
    rules += [_rule(name) for name in dict.fromkeys(by or [])]
    found = compare_selections(
        Pool(subject, groups=_read(groups), sizes=_read(sizes)),
        loaded(held_out),
        rules,
        fraction or (0.1,),
        tasks=_read(tasks),
        seeds=seeds,
        unit="count" if sizes is None else "size",
        distinct=distinct,
        head=head,
        output=output,
        seed=seed,
        to=to,
        progress=not as_json,
    )
    if choices is not None:
        found.export_all(choices)
    conclude(found, None, subject, report, as_json)


def _read(path: Path | None) -> Any:
    from whence.errors import InputError

    if path is None:
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{path} cannot be read as JSON: {problem}.") from None


def _rule(name: RuleName) -> Selector:
    from whence.applications import selection

    made = {
        RuleName.random: selection.Random,
        RuleName.similarity: selection.Similarity,
        RuleName.bm25: selection.BM25,
        RuleName.dsir: selection.DSIR,
        RuleName.classifier: selection.Classifier,
        RuleName.deduplication: selection.SemanticDeduplication,
        RuleName.perplexity: selection.Perplexity,
        RuleName.less: selection.Less,
    }
    return made[name]()
