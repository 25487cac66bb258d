"""``whence retrain``: fill a bank, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def retrain(
    study: Annotated[
        str,
        typer.Argument(
            help="The study, as module:attribute; my_study:study is the variable `study` in my_study.py."
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder of the bank; what is there is resumed.")],
    models: Annotated[int, typer.Option("--models", "-n", help="Retrainings there shall be.")] = 1000,
    keep: Annotated[float, typer.Option(help="Share of the training set that each model sees.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of the subsets and of training.")] = 0,
    validation: Annotated[float, typer.Option(help="Share of the subsets for tuning.")] = 0.1,
    held_out: Annotated[float, typer.Option(help="Share of the subsets for reporting.")] = 0.1,
    held_out_seeds: Annotated[int, typer.Option(help="Training seeds for each held-out subset.")] = 2,
    executor: Annotated[str, typer.Option(help="Where to train: local.")] = "local",
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; 0 trains in this one. Default: a core each.", show_default=False),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: what there is.", show_default=False)
    ] = None,
    block: Annotated[
        int | None, typer.Option(help="Rows committed together. Default: measured.", show_default=False)
    ] = None,
    checkpoints: Annotated[int, typer.Option(help="Keep the weights of the first so many models.")] = 0,
    share: Annotated[
        str,
        typer.Option(
            help="i/k: every k-th block from the i-th, for machines without a common "
            "disk; merge the banks afterwards."
        ),
    ] = "0/1",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Retrain a study on random subsets and record the outputs of its targets.

    Interrupt it at any time; the same command resumes, and with more --models it goes on.

    Example: whence retrain my_study:study --models 2000 --keep 0.5 --to runs/pets.zarr
    """
    from whence.cli._study import load_study
    from whence.retraining import retrain as run

    bank = run(
        load_study(study),
        models,
        to=to,
        keep=keep,
        seed=seed,
        validation=validation,
        held_out=held_out,
        held_out_seeds=held_out_seeds,
        executor=executor,
        workers=workers,
        device=device,
        block=block,
        checkpoints=checkpoints,
        share=_share(share),
        progress=not quiet,
    )
    if as_json:
        typer.echo(json.dumps(bank.info()))
        return
    failed = len(bank.errors())
    typer.echo(
        f"{bank.rows_committed:,} of {bank.rows_wanted:,} retrainings are in {bank.path}"
        f"{f', {failed:,} of them without a usable output' if failed else ''}."
    )


def _share(text: str) -> tuple[int, int]:
    from whence.errors import InputError

    try:
        i, k = (int(part) for part in text.split("/"))
    except ValueError:
        raise InputError(
            f"share must be written i/k, for example 0/4 on the first of four machines; received {text!r}."
        ) from None
    return i, k
