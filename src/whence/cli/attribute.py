"""``whence attribute``: estimate from a bank how each training example shaped each target."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whence.cli._output import Json, show

if TYPE_CHECKING:
    from whence.bank import Bank


class MethodName(StrEnum):
    """The methods that need nothing but a bank, and the two simple baselines."""

    datamodel = "datamodel"
    difference_of_means = "difference-of-means"
    random = "random"
    pixels = "pixel-similarity"
    features = "feature-similarity"


class PenaltyName(StrEnum):
    """Penalties of the datamodel regression."""

    auto = "auto"
    lasso = "lasso"
    ridge = "ridge"
    elastic_net = "elastic_net"
    ols = "ols"


def attribute(
    bank: Annotated[Path, typer.Argument(help="Folder of the bank, for example runs/pets.zarr.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write the attribution to.")],
    method: Annotated[MethodName, typer.Option(help="How to estimate.")] = MethodName.datamodel,
    penalty: Annotated[
        PenaltyName, typer.Option(help="Of the datamodel; auto takes what predicts the validation part best.")
    ] = PenaltyName.auto,
    output: Annotated[
        str | None, typer.Option(help="Recorded output to explain. Default: the first.", show_default=False)
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="The study as module:attribute; the similarities look at its examples.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of random attributions and of feature training.")] = 0,
    as_json: Json = False,
) -> None:
    """Estimate from a bank of retrainings how each training example shaped each target.

    Writes an attribution: weights (target x train) with ids, units, sign and where they came from.

    Example: whence attribute runs/pets.zarr --method datamodel --to runs/pets.attribution
    """
    from whence.bank import Bank

    opened = Bank.open(bank)
    scores = _estimate(opened, method, penalty, output, study, seed)
    scores.save(to)
    facts = {
        "path": str(to),
        "method": scores.method,
        "shape": list(scores.shape),
        "output": scores.output,
        "units": scores.units,
        "calibrated": scores.calibrated,
        "keep": scores.keep,
        "meaning": scores.meaning,
    }
    show(f"{scores!r} is in {to}\n{scores.meaning}", facts, as_json)


def _estimate(
    bank: Bank, method: MethodName, penalty: PenaltyName, output: str | None, study: str | None, seed: int
) -> Any:
    from whence import methods
    from whence.cli._study import load_study
    from whence.errors import InputError

    if method is MethodName.datamodel:
        return methods.Datamodel(penalty=penalty.value).attribute(bank, output=output)
    if method is MethodName.difference_of_means:
        return methods.DifferenceOfMeans().attribute(bank, output=output)
    if method is MethodName.random:
        return methods.Random(seed=seed).attribute(bank, output=output)
    if study is None:
        raise InputError(
            f"--study is missing, but {method.value} looks at the examples; pass it as module:attribute."
        )
    similarity = methods.Similarity("pixels" if method is MethodName.pixels else "penultimate", seed=seed)
    return similarity.attribute(load_study(study), output=output)
