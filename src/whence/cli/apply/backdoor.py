"""``whence apply backdoor``: a group of training examples that stands out by how its members support each
other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Scores, Seed, StudyName, conclude, loaded


def backdoor(
    attribution: Scores,
    study: StudyName = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            help="The retrainings it was estimated from: the group must show up in either half of them.",
            show_default=False,
        ),
    ] = None,
    triggered: Annotated[
        str | None,
        typer.Option(
            help="A study (module:attribute) of the same training set with triggered targets under the label "
            "that the attack wants: success before and after removal.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[float, typer.Option(help="Of the test: how often clean data may be accused.")] = 0.05,
    restarts: Annotated[int, typer.Option(help="Random sets that each search starts from.")] = 64,
    verify: Annotated[
        bool, typer.Option(help="With a study: remove the members of what was found, and retrain.")
    ] = True,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings of each training set.")] = 10,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Look in a train x train attribution for a group that is too strong to be a natural one.

    Such a group may be a backdoor, or near-duplicates, or a rare kind: the page (--report) shows its members.

    Example: whence apply backdoor runs/pets-self.attribution --study my_study:self_study --report found.html
    """
    from whence.applications import backdoor as find
    from whence.attribution import Attribution
    from whence.bank import Bank

    scores, subject = Attribution.load(attribution), loaded(study)
    found = find(
        scores,
        subject,
        bank=None if bank is None else Bank.open(bank),
        level=level,
        restarts=restarts,
        triggered=loaded(triggered),
        retrainings=retrainings,
        seed=seed,
        to=None if to is None else to / "backdoor",
        progress=not as_json,
        verify=verify,
    )
    conclude(found, scores, subject, report, as_json)
