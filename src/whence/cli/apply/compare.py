"""``whence apply compare``: what one training recipe learns that another does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Seed, conclude, loaded
from whence.cli.attribute import PenaltyName

_SIDE = "as module:attribute; with both studies the data are compared and the finding is verified."


def compare(
    first: Annotated[Path, typer.Argument(help="Folder of the first recipe's bank.")],
    second: Annotated[
        Path, typer.Argument(help="Of the second's, with the same training examples and targets.")
    ],
    study: Annotated[
        str | None, typer.Option("--study", help=f"First study {_SIDE}", show_default=False)
    ] = None,
    other: Annotated[
        str | None, typer.Option("--other", help=f"Second study {_SIDE}", show_default=False)
    ] = None,
    names: Annotated[str, typer.Option(help="Names of the two recipes, with a comma between.")] = "A,B",
    output: Annotated[
        str | None, typer.Option(help="Recorded output to explain. Default: the first.", show_default=False)
    ] = None,
    penalty: Annotated[PenaltyName, typer.Option(help="Of the datamodels.")] = PenaltyName.ridge,
    components: Annotated[int, typer.Option(help="Candidates in each direction.")] = 10,
    splits: Annotated[int, typer.Option(help="Ways to split each bank into halves.")] = 5,
    transform: Annotated[
        str | None,
        typer.Option(
            help="A suspected feature as module:attribute, a function of images (or a list, weakest first): "
            "test it on fresh models of both recipes.",
            show_default=False,
        ),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--class", help="Class whose probability the feature should change.", show_default=False
        ),
    ] = None,
    used_by: Annotated[
        str | None,
        typer.Option(help="Recipe that should react to the feature. Default: the first.", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="With studies: remove the ends of what passed and retrain both recipes.")
    ] = True,
    retrainings: Annotated[
        int | None,
        typer.Option(
            help="Fresh retrainings of each recipe. Default: 20 without each end, 50 for a feature.",
            show_default=False,
        ),
    ] = None,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare two training recipes: what do the targets lean on in one and not in the other?

    Fits datamodels to both banks and to halves of them, so that noise is not taken for a difference.

    Example: whence apply compare runs/a.zarr runs/b.zarr --study my_study:a --other my_study:b
    """
    from whence.applications import Halves, compare_recipes
    from whence.bank import Bank
    from whence.cli._study import load_object
    from whence.errors import InputError
    from whence.methods import Datamodel

    both = tuple(name.strip() for name in names.split(","))
    if len(both) != 2:
        raise InputError(f"--names is {names!r}, but it must be two names with a comma between.")
    if transform is not None and (study is None or other is None or label is None):
        raise InputError("--transform needs --study, --other and --class as well.")
    change: Any = None if transform is None else load_object(transform, "transform")
    one, two = loaded(study), loaded(other)
    banks = [Bank.open(path) for path in (first, second)]
    method = Datamodel(penalty.value)
    a, b = (Halves.of(method, bank, output, splits=splits, seed=seed) for bank in banks)
    found = compare_recipes(
        a,
        b,
        one,
        two,
        names=both,
        components=components,
        retrainings=retrainings or 20,
        seed=seed,
        to=None if to is None else to / "compare",
        progress=not as_json,
        verify=verify and change is None,
    )
    if change is not None and one is not None and two is not None and label is not None:
        found = found.test(
            change,
            one,
            two,
            int(label) if label.isdigit() else label,
            used_by=used_by,
            retrainings=retrainings or 50,
            seed=seed,
            to=None if to is None else to / "transform",
            progress=not as_json,
        )
    conclude(found, a.whole, one, report, as_json)
