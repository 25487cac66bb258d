"""``whence apply leakage``: targets that may have a near-duplicate in the training set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Scores, Seed, StudyName, conclude, loaded


def leakage(
    attribution: Scores,
    study: StudyName = None,
    similarity: Annotated[
        Path | None,
        typer.Option(
            help="An attribution that says how alike examples are. Default: pixels, for a study of images.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Pairs to list.")] = 100,
    verify: Annotated[
        bool,
        typer.Option(help="With a study: remove the suspects, retrain, and see what their targets lose."),
    ] = True,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings of each of three training sets.")] = 20,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank pairs of target and training example by the suspicion that they show the same thing.

    The page (--report) shows them side by side and saves what you say of each.

    Example: whence apply leakage runs/pets.attribution --study my_study:study --report leaks.html
    """
    from whence.applications import leakage as find
    from whence.attribution import Attribution

    scores, subject = Attribution.load(attribution), loaded(study)
    found = find(
        scores,
        subject,
        similarity=None if similarity is None else Attribution.load(similarity),
        top=top,
        retrainings=retrainings,
        seed=seed,
        to=None if to is None else to / "leakage.zarr",
        progress=not as_json,
        verify=verify,
    )
    conclude(found, scores, subject, report, as_json)
