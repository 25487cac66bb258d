"""``whence apply groups``: what classes, sources, clusters or customers do to the targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Scores, Seed, StudyName, conclude, loaded, target_ids


def groups(
    attribution: Scores,
    study: StudyName = None,
    by: Annotated[
        str,
        typer.Option(
            help="class, or a JSON file: one value for each training example, or group names with ids."
        ),
    ] = "class",
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target", help="Id of a target; may be given several times. Default: all.", show_default=False
        ),
    ] = None,
    most: Annotated[int, typer.Option(help="Groups to leave out, strongest first.")] = 20,
    verify: Annotated[bool, typer.Option(help="With a study: leave groups out and retrain.")] = True,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings without each group.")] = 10,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Add up an attribution over groups of training examples, and leave the groups out to check.

    Example: whence apply groups runs/pets.attribution --study my_study:study --by sources.json
    """
    from whence.applications import groups as find
    from whence.attribution import Attribution

    scores, subject = Attribution.load(attribution), loaded(study)
    found = find(
        scores,
        subject,
        by if by == "class" else _read(by),
        targets=target_ids(target, scores),
        most=most,
        retrainings=retrainings,
        seed=seed,
        to=None if to is None else to / "groups.zarr",
        progress=not as_json,
        verify=verify,
    )
    conclude(found, scores, subject, report, as_json)


def _read(path: str) -> Any:
    from whence.errors import InputError

    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"--by is {path!r}, which is neither class nor a JSON file: {problem}.") from None
    if not isinstance(found, list | dict):
        raise InputError(f"--by names {path!r}, which holds neither a list nor an object.")
    return found
