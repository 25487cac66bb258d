"""``whence apply linearity``: how linear a model is in its data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Seed, StudyName, conclude, loaded


def linearity(
    bank: Annotated[Path, typer.Argument(help="Folder of a bank of retrainings on random subsets.")],
    study: StudyName = None,
    output: Annotated[
        str | None, typer.Option(help="Which recorded output. Default: the first.", show_default=False)
    ] = None,
    lds: Annotated[
        list[float] | None,
        typer.Option("--lds", help="An LDS to plan for; may be given several times.", show_default=False),
    ] = None,
    verify: Annotated[bool, typer.Option(help="With a study: split fresh retrainings, too.")] = True,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings of the check.")] = 400,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Split the variance of a model's outputs into linear, non-linear and seed parts, and plan with it.

    Example: whence apply linearity runs/pets.zarr --lds 0.7 --report linear.html
    """
    from whence.applications import linearity as find
    from whence.bank import Bank

    subject = loaded(study)
    found = find(
        Bank.open(bank),
        subject,
        output=output,
        lds=lds or None,
        retrainings=retrainings,
        seed=seed,
        to=None if to is None else to / "linearity.zarr",
        progress=not as_json,
        verify=verify,
    )
    conclude(found, None, subject, report, as_json)
