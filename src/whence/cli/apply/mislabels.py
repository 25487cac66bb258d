"""``whence apply mislabels``: training examples whose labels look wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli._output import Json, named
from whence.cli.apply._options import Folder, Page, Seed, StudyName, conclude, loaded


def mislabels(
    attributions: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Folders that `whence attribute` wrote of a study whose targets are its training examples.",
            show_default=False,
        ),
    ] = None,
    study: StudyName = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            help="Bank of a study whose targets are its training examples, with logits or margins.",
            show_default=False,
        ),
    ] = None,
    dynamics: Annotated[
        int, typer.Option(help="Train so many networks on everything and watch them learn; needs --study.")
    ] = 0,
    by: Annotated[
        str | None,
        typer.Option(help="Ranking to go by. Default: the best that there is.", show_default=False),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(help="Labels to take for wrong. Default: the estimated number.", show_default=False),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(help="With a study: retrain without the suspects and with their labels changed."),
    ] = True,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings of each of four training sets.")] = 20,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Rank training examples by the suspicion that their label is wrong.

    Pass at least one of attributions, --bank and --dynamics.

    Example: whence apply mislabels --bank runs/self.zarr --study my_study:study --report labels.html
    """
    from whence.applications import mislabels as find
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.errors import InputError

    scores = {name: Attribution.load(path) for name, path in named(attributions or []).items()}
    subject = loaded(study)
    watched = None
    if dynamics:
        if subject is None:
            raise InputError("--dynamics trains, so it needs --study as module:attribute.")
        from whence.training import dynamics as watch

        watched = watch(subject, dynamics, seed=seed)
    found = find(
        next(iter(scores.values())) if len(scores) == 1 else scores or None,
        subject,
        bank=None if bank is None else Bank.open(bank),
        dynamics=watched,
        by=by,
        count=count,
        retrainings=retrainings,
        seed=seed,
        to=None if to is None else to / "mislabels.zarr",
        progress=not as_json,
        verify=verify,
    )
    # the page shows training examples alone: attributions of other targets than the study's have no place
    conclude(found, None, subject, report, as_json)
