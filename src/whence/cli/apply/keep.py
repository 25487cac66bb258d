"""``whence apply keep``: which kept fraction to retrain at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Seed, StudyName, conclude, loaded


def keep(
    banks: Annotated[list[Path], typer.Argument(help="Banks of one study, each at another kept fraction.")],
    study: StudyName = None,
    output: Annotated[
        str | None, typer.Option(help="Which recorded output. Default: the first.", show_default=False)
    ] = None,
    verify: Annotated[bool, typer.Option(help="With a study: judge by fresh retrainings, too.")] = True,
    masks: Annotated[int, typer.Option(help="Fresh subsets of the check, at each fraction.")] = 40,
    seeds: Annotated[int, typer.Option(help="Retrainings of each fresh subset.")] = 2,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Judge datamodels estimated at several kept fractions by retrainings at every other.

    Example: whence apply keep runs/pets-0.2.zarr runs/pets-0.5.zarr
    """
    from whence.applications import keep as find
    from whence.bank import Bank

    subject = loaded(study)
    found = find(
        [Bank.open(path) for path in banks],
        subject,
        output=output,
        masks=masks,
        seeds=seeds,
        seed=seed,
        to=to,
        progress=not as_json,
        verify=verify,
    )
    conclude(found, None, subject, report, as_json)
