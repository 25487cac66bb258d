"""What the applications' verbs share: options, reading their arguments, showing the finding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whence.cli._output import show

if TYPE_CHECKING:
    from whence.applications import Applied
    from whence.attribution import Attribution
    from whence.study import Study

Scores = Annotated[Path, typer.Argument(help="Folder that `whence attribute` wrote.")]
StudyName = Annotated[
    str | None,
    typer.Option(
        "--study",
        help="The study as module:attribute: verify by retraining. Without it the finding is a prediction.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--to", help="Keep the retrainings there, so that the check resumes.", show_default=False),
]
Page = Annotated[
    Path | None, typer.Option("--report", help="Also write an HTML page of the finding.", show_default=False)
]
Seed = Annotated[int, typer.Option(help="Of the retrainings and of what is drawn at random.")]


def loaded(name: str | None) -> Study | None:
    """The study of that name."""
    from whence.cli._study import load_study

    return None if name is None else load_study(name)


def target_ids(words: list[str] | None, scores: Attribution) -> list[Any] | None:
    """Ids as the attribution has them: whole numbers where its ids are."""
    if not words:
        return None
    if scores.target_ids.dtype.kind in "iu":
        return [int(word) if word.lstrip("-").isdigit() else word for word in words]
    return list(words)


def conclude(
    found: Applied, scores: Attribution | None, study: Study | None, page: Path | None, as_json: bool
) -> None:
    """Write the page where one was asked for, and print the finding."""
    facts = found.to_dict()
    if page is not None:
        import whence

        items = [found] if scores is None else [scores, found]
        facts["report"] = str(whence.report(items, to=page, study=study))
    words = f"\nThe report is in {facts['report']}" if page is not None else ""
    show(f"{found}{words}", facts, as_json)
