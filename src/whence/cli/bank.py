"""``whence bank``: look at, check and merge banks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from whence.cli._output import Json

app = typer.Typer(no_args_is_help=True, help="Look at, check and merge banks of retrainings.")

BankPath = Annotated[Path, typer.Argument(help="Folder of the bank, for example runs/pets.zarr.")]


@app.command()
def info(bank: BankPath, as_json: Json = False) -> None:
    """Say what a bank holds: rows, parts, failures, size, time per model.

    Example: whence bank info runs/pets.zarr
    """
    from whence.bank import Bank

    found = Bank.open(bank).info()
    if as_json:
        typer.echo(json.dumps(found))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _lines(found):
        table.add_row(f"[bold]{name}[/]", value)
    Console(soft_wrap=True).print(table)


@app.command()
def verify(
    bank: BankPath,
    discard: Annotated[
        bool,
        typer.Option(
            "--discard", help="Take damaged blocks back, so that the next `whence retrain` makes them again."
        ),
    ] = False,
    remake: Annotated[
        str | None,
        typer.Option(
            "--remake", metavar="STUDY", help="Train damaged blocks again now; the study as module:attribute."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every committed row: files whole, checksums right, masks the ones that were drawn.

    Ends with exit code 1 when something is damaged and was not made again.

    Example: whence bank verify runs/pets.zarr --remake my_study:study
    """
    from whence.bank import Bank
    from whence.cli._study import load_study

    opened = Bank.open(bank)
    found = opened.verify()
    blocks = sorted({damage.block for damage in found.damaged})
    remade: list[int] = []
    if blocks and remake is not None:
        remade = opened.remake(load_study(remake), blocks)
    elif blocks and discard:
        opened.discard(blocks)
    whole = found.ok or (remake is not None and opened.verify().ok)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    **asdict(found),
                    "ok": found.ok,
                    "discarded": blocks if discard and not remade else [],
                    "remade": remade,
                }
            )
        )
    else:
        typer.echo(str(found))
        if remade:
            typer.echo(f"Made again: blocks {', '.join(map(str, remade))}.")
        elif blocks and discard:
            typer.echo(
                f"Taken back: blocks {', '.join(map(str, blocks))}. `whence retrain` will make them again."
            )
        elif blocks:
            typer.echo("Make them again with --remake module:attribute, or take them back with --discard.")
    if not whole:
        raise typer.Exit(1)


@app.command()
def merge(
    banks: Annotated[list[Path], typer.Argument(help="Banks of one study and plan, two or more.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of the new bank.")],
    as_json: Json = False,
) -> None:
    """Put banks that were filled apart into a new one.

    Example: whence bank merge left.zarr right.zarr --to both.zarr
    """
    from whence.bank import merge as merge_banks

    merged = merge_banks(banks, to)
    if as_json:
        typer.echo(json.dumps(merged.info()))
    else:
        typer.echo(f"{merged.rows_committed} of {merged.rows_wanted} retrainings are in {merged.path}.")


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    parts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found["parts"].items())
    lines = [
        ("bank", found["path"]),
        ("study", f"{found['study']} ({found['study_fingerprint'][:12]})"),
        ("retrainings", f"{found['rows_committed']:,} of {found['rows_wanted']:,} committed: {parts}"),
        ("subsets", f"{found['design']}, keep {found['keep']:g} of {found['n']:,}"),
        ("outputs", f"{', '.join(found['outputs'])} of {found['targets']:,} targets"),
        (
            "on disk",
            f"{found['bytes'] / 1e6:,.1f} MB, blocks of {found['block']}, {found['checkpoints']} checkpoints",
        ),
    ]
    if found["seconds_per_model"] is not None:
        total = found["seconds_total"]
        spent = f"{total / 3600:,.1f} hours" if total >= 3600 else f"{total:,.0f} seconds"
        lines.append(
            ("time", f"{found['seconds_per_model']:.3g} s per model (median), {spent} of work in all")
        )
    if found["rows_failed"]:
        reasons = "; ".join(f"{why} ({count}x)" for why, count in found["failures"].items())
        lines.append(("failed", f"{found['rows_failed']:,}, kept apart: {reasons}"))
    lines += [("made by", words) for words in found["versions"] if words]
    lines += [("made on", words) for words in found["machines"] if words]
    return lines
