"""``whence evaluate``: judge attributions by retrainings that they never saw, or by removing examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._check import Remove, Retrainings, Targets, check
from whence.cli._output import Json, named, show


def evaluate(
    attributions: Annotated[
        list[Path], typer.Argument(help="Folders that `whence attribute` wrote; several are compared.")
    ],
    bank: Annotated[
        Path, typer.Option("--bank", help="Folder of the bank whose held-out part is predicted.")
    ],
    part: Annotated[str, typer.Option(help="held_out, validation or train.")] = "held_out",
    rank: Annotated[str, typer.Option(help="spearman or pearson.")] = "spearman",
    study: Annotated[
        str | None,
        typer.Option(
            help="The study as module:attribute: also remove examples, retrain, and compare.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="Bank to keep the removals' retrainings in, so that they resume.", show_default=False
        ),
    ] = None,
    targets: Targets = 5,
    remove: Remove = "10,20,40",
    retrainings: Retrainings = 10,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the drawing of targets.")] = 0,
    as_json: Json = False,
) -> None:
    """Say how well attributions predict retrainings that they never saw: LDS, interval, noise ceiling.

    Several are compared on the same retrainings. With --study, removals are carried out for the first one.

    Example: whence evaluate runs/pets.attribution --bank runs/pets.zarr
    """
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.cli._study import load_study
    from whence.evaluate import compare, prediction_error

    opened = Bank.open(bank)
    loaded = {name: Attribution.load(path) for name, path in named(attributions).items()}
    loaded_study = None if study is None else load_study(study)
    comparison = compare(loaded, opened, part, rank=rank, seed=seed)  # type: ignore[arg-type]
    results: dict[str, Any] = {"lds": {name: score.to_dict() for name, score in comparison.scores.items()}}
    if len(loaded) == 1:
        text = [str(next(iter(comparison.scores.values())))]
    else:
        text = [str(comparison)]
        results["differences"] = [difference.to_dict() for difference in comparison.differences]
    for name, scores in loaded.items():
        if scores.calibrated:
            error = prediction_error(scores, opened, part, seed=seed)
            results.setdefault("prediction_error", {})[name] = error.to_dict()
            text.append(str(error) if len(loaded) == 1 else f"{name}: {error}")
    if loaded_study is not None:
        first = next(iter(loaded.values()))
        checked = check(first, loaded_study, targets, remove, retrainings, seed, to, progress=not as_json)
        results["counterfactual"] = checked.to_dict()
        text.append(str(checked))
    show("\n\n".join(text), results, as_json)
