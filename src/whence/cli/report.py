"""``whence report``: one self-contained HTML page about a bank and its attributions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._output import Json, show


def report(
    attributions: Annotated[
        list[Path], typer.Argument(help="Folders that `whence attribute` wrote; the first is shown in full.")
    ],
    bank: Annotated[Path, typer.Option("--bank", help="Folder of the bank.")],
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("report.html"),
    study: Annotated[
        str | None,
        typer.Option(help="The study as module:attribute, for its pictures and labels.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write one HTML page that works without a network: LDS, ceiling, galleries, weights, provenance.

    Example: whence report runs/pets.attribution --bank runs/pets.zarr --study my_study:study
    """
    raise NotImplementedError
