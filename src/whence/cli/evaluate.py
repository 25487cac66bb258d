"""``whence evaluate``: judge attributions by retrainings that they never saw, or by removing examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._output import Json, numbers, show


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
            help="The study as module:attribute: also remove examples, retrain, and compare the change with the "
            "prediction.",
            show_default=False,
        ),
    ] = None,
    targets: Annotated[int, typer.Option(help="With --study: how many targets to check.")] = 5,
    remove: Annotated[
        str, typer.Option(help="With --study: how many examples to remove, with commas.")
    ] = "10,20,40",
    retrainings: Annotated[int, typer.Option(help="With --study: fresh retrainings of each removal.")] = 10,
    keep_in: Annotated[
        Path | None,
        typer.Option(
            "--to", help="With --study: bank of the check's retrainings, so that it resumes.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and of the drawing of targets.")] = 0,
    as_json: Json = False,
) -> None:
    """Say how well attributions predict retrainings that they never saw: LDS, interval, noise ceiling.

    Several attributions are compared on the same retrainings. With --study, removals are carried out as well.

    Example: whence evaluate runs/pets.attribution --bank runs/pets.zarr
    """
    from whence import evaluate as judge
    from whence.attribution import Attribution
    from whence.bank import Bank

    opened = Bank.open(bank)
    loaded = {_name(path, attributions): Attribution.load(path) for path in attributions}
    comparison = judge.compare(loaded, opened, part, rank=rank, seed=seed)  # type: ignore[arg-type]
    results: dict[str, Any] = {"lds": {name: score.to_dict() for name, score in comparison.scores.items()}}
    text = [str(comparison) if len(loaded) > 1 else str(next(iter(comparison.scores.values())))]
    if len(loaded) > 1:
        results["differences"] = [difference.to_dict() for difference in comparison.differences]
    errors = {
        name: judge.prediction_error(scores, opened, part, seed=seed)
        for name, scores in loaded.items()
        if scores.calibrated
    }
    if errors:
        results["prediction_error"] = {name: error.to_dict() for name, error in errors.items()}
        text += [f"{name}: {error}" if len(loaded) > 1 else str(error) for name, error in errors.items()]
    if study is not None:
        from whence.cli._study import load_study

        loaded_study = load_study(study)
        sizes = numbers(remove, "--remove")
        results["counterfactual"] = {}
        for name, scores in loaded.items():
            checked = judge.counterfactual(
                scores,
                loaded_study,
                targets=targets,
                k=sizes,
                retrainings=retrainings,
                seed=seed,
                to=keep_in if keep_in is None or len(loaded) == 1 else keep_in / name,
                progress=not as_json,
            )
            results["counterfactual"][name] = checked.to_dict()
            text.append(f"{name}: {checked}" if len(loaded) > 1 else str(checked))
    show("\n\n".join(text), results, as_json)


def _name(path: Path, among: list[Path]) -> str:
    """The folder's name, or the whole path where two folders are called the same."""
    name = path.resolve().name
    return name if sum(other.resolve().name == name for other in among) == 1 else str(path)
