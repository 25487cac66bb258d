"""``whence report``: one self-contained HTML page about attributions and the bank that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._check import Remove, Retrainings, Targets, check
from whence.cli._output import Json, named, show


def report(
    attributions: Annotated[
        list[Path], typer.Argument(help="Folders that `whence attribute` wrote; the first is shown in full.")
    ],
    bank: Annotated[
        Path, typer.Option("--bank", help="Folder of the bank, for LDS, ceiling and predictions.")
    ],
    to: Annotated[Path, typer.Option("--to", help="File to write.")] = Path("report.html"),
    study: Annotated[
        str | None,
        typer.Option(help="The study as module:attribute, for pictures and labels.", show_default=False),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Words at the top. Default: the study's name.", show_default=False)
    ] = None,
    removals: Annotated[
        Path | None,
        typer.Option(
            "--check",
            help="Show removals, too: the bank of `whence evaluate --study ... --to`, with the same "
            "numbers; what is missing is retrained.",
            show_default=False,
        ),
    ] = None,
    targets: Targets = 5,
    remove: Remove = "10,20,40",
    retrainings: Retrainings = 10,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the drawing of targets.")] = 0,
    as_json: Json = False,
) -> None:
    """Write one HTML page that works without a network: LDS, ceiling, galleries, weights, provenance.

    Example: whence report runs/pets.attribution --bank runs/pets.zarr --study my_study:study
    """
    import whence
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.cli._study import load_study
    from whence.errors import InputError
    from whence.evaluate import compare

    if removals is not None and study is None:
        raise InputError("--check needs --study as module:attribute, because removals are retrained.")
    loaded_study = None if study is None else load_study(study)
    opened = Bank.open(bank, loaded_study)
    loaded = {name: Attribution.load(path) for name, path in named(attributions).items()}
    first = next(iter(loaded.values()))
    items: list[Any] = [first, compare(loaded, opened, seed=seed)]
    if removals is not None and loaded_study is not None:
        items.append(
            check(first, loaded_study, targets, remove, retrainings, seed, removals, progress=not as_json)
        )
    written = whence.report(items, to=to, title=title, study=loaded_study, bank=opened)
    show(f"The report is in {written}", {"path": str(written)}, as_json)
