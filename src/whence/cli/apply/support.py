"""``whence apply support``: the smallest set whose removal flips a prediction, by one ranker or several."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._output import Json, named
from whence.cli.apply._options import Folder, Page, Seed, StudyName, conclude, loaded, target_ids


class ActionName(StrEnum):
    """What is done to the examples."""

    remove = "remove"
    relabel = "relabel"


def support(
    attributions: Annotated[
        list[Path], typer.Argument(help="Folders that `whence attribute` wrote; several are compared.")
    ],
    study: StudyName = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target", help="Id of a target; may be given several times.", show_default=False),
    ] = None,
    targets: Annotated[
        int | None,
        typer.Option(help="Draw so many clearly right targets. Default: up to 20.", show_default=False),
    ] = None,
    action: Annotated[
        ActionName, typer.Option(help="Leave examples out, or give them the runner-up's label.")
    ] = ActionName.remove,
    limit: Annotated[
        int | None,
        typer.Option(help="Largest set to try. Default: a fifth of the training set.", show_default=False),
    ] = None,
    certainty: Annotated[
        float, typer.Option(help="With which the calibrated size shall flip its target.")
    ] = 0.95,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings of each set.")] = 5,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Of several: the one the others are tested against. Default: the last.", show_default=False
        ),
    ] = None,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find the smallest set of training examples whose removal flips a prediction, and verify it.

    Several attributions are compared on the same targets: share flipped against set size, log-rank tests.

    Example: whence apply support runs/pets.attribution --study my_study:study --target test/17
    """
    from whence.applications import compare_support
    from whence.applications import support as find
    from whence.attribution import Attribution
    from whence.errors import InputError

    scores = {name: Attribution.load(path) for name, path in named(attributions).items()}
    first = next(iter(scores.values()))
    subject = loaded(study)
    ids = target_ids(target, first)
    if ids is not None and targets is not None:
        raise InputError("--target and --targets are both given; name targets, or draw them.")
    wanted: Any = ids if ids is not None else targets
    options: dict[str, Any] = {
        "action": action.value, "limit": limit, "certainty": certainty, "retrainings": retrainings,
        "to": to, "seed": seed, "progress": not as_json,
    }  # fmt: skip
    if len(scores) == 1:
        found: Any = find(first, subject, targets=wanted, **options)
    elif subject is None:
        raise InputError("a comparison is made by retraining; pass --study as module:attribute.")
    else:
        found = compare_support(scores, subject, targets=wanted, reference=reference, **options)
    conclude(found, first, subject, report, as_json)
