"""``whence apply unlearn``: make models forget, and certify it."""

from __future__ import annotations

import json
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Page, Seed, conclude, loaded

if TYPE_CHECKING:
    from whence.applications.unlearning import Experiment, Unlearn


class MethodName(StrEnum):
    """How the models are made to forget."""

    matching = "matching"
    kernel = "kernel"
    direct = "direct"
    oracles = "oracles"
    descent = "descent"
    ascent = "ascent"
    ascent_descent = "ascent-descent"
    scrub = "scrub"
    ssd = "ssd"
    random_labels = "random-labels"
    distillation = "distillation"
    retraining = "retraining"


def unlearn(
    forget: Annotated[
        Path, typer.Argument(help="JSON file: a list of the ids of training examples to forget.")
    ],
    study: Annotated[str, typer.Option("--study", help="The study as module:attribute.")],
    to: Annotated[Path, typer.Option("--to", help="Keep all models there, so that a stopped run resumes.")],
    method: Annotated[MethodName, typer.Option(help="The way to unlearn.")] = MethodName.matching,
    attribution: Annotated[
        Path | None,
        typer.Option(
            help="Of the logits of the examined study, for matching, kernel, direct (see the how-to page).",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        Path | None,
        typer.Option(
            help="Bank on whose validation part the scale of an uncalibrated attribution is fitted.",
            show_default=False,
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A hyper-parameter as NAME=NUMBER; may be given several times.", show_default=False
        ),
    ] = None,
    models: Annotated[int, typer.Option(help="Base models, and as many oracles, to judge by.")] = 100,
    spare: Annotated[
        int | None,
        typer.Option(
            help="Further oracles, for the floor and for oracle matching. Default: as many again.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Weights of a model of your own (safetensors, by name), to unlearn as well.",
            show_default=False,
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Where to write that model afterwards.", show_default=False)
    ] = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make models of a study forget training examples, and compare them with retrained ones.

    Prints the certificate: distances to models retrained without the forget set, with their floor, and what
    unlearning cost.

    Example: whence apply unlearn forget.json --study my_study:study --attribution runs/pets.attribution --to
    runs/forget
    """
    from whence.applications.unlearning import Experiment
    from whence.errors import InputError

    if (model is None) != (save is None):
        raise InputError("--model and --save belong together: pass both, or neither.")
    subject = loaded(study)
    assert subject is not None
    ids = _ids(forget)
    second = models if spare is None else spare
    experiment = Experiment(subject, models, spare=second, seed=seed, to=to, progress=not as_json)
    made = _method(method, experiment, ids, attribution, scale, _settings(setting or []))
    if model is not None and save is not None:
        _own(made, experiment, ids, model, save)
    conclude(experiment.certify(made, ids), None, experiment.study, report, as_json)


def _method(
    name: MethodName,
    experiment: Experiment,
    ids: list[Any],
    attribution: Path | None,
    scale: Path | None,
    settings: dict[str, Any],
) -> Unlearn:
    from whence.applications import unlearning as ways
    from whence.attribution import Attribution
    from whence.bank import Bank
    from whence.errors import InputError

    kinds: dict[str, Any] = {
        "matching": ways.DatamodelMatching, "kernel": ways.KernelMatching, "direct": ways.DatamodelDirect,
        "oracles": ways.OracleMatching,
        "descent": ways.Descent, "ascent": ways.Ascent, "ascent-descent": ways.AscentDescent,
        "scrub": ways.Scrub, "ssd": ways.SSD, "random-labels": ways.RandomLabels,
        "distillation": ways.Distillation, "retraining": ways.Retraining,
    }  # fmt: skip
    kind = kinds[name.value]
    if name in (MethodName.matching, MethodName.kernel, MethodName.direct):
        if attribution is None:
            raise InputError(f"{name.value} needs --attribution, the folder of an attribution of the logits.")
        scores = Attribution.load(attribution)
        if scale is not None:
            scores = ways.fit_scale(scores, Bank.open(scale))
        settings["attribution"] = scores
    elif attribution is not None or scale is not None:
        raise InputError(f"{name.value} uses no attribution; leave --attribution and --scale out.")
    known = {field.name for field in fields(kind) if field.init} - {"oracles", "rows"}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InputError(
            f"--set names {unknown[0]!r}, but {name.value} has "
            f"{', '.join(sorted(known - {'attribution'})) or 'no hyper-parameters'}."
        )
    if name is MethodName.oracles:
        settings |= {"oracles": experiment.oracles(ids), "rows": experiment.spare_rows}
    return kind(**settings)


def _settings(words: list[str]) -> dict[str, Any]:
    from whence.errors import InputError

    found: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        try:
            number = float(text)
        except ValueError:
            raise InputError(f"--set must be NAME=NUMBER, for example lr=0.001; received {word!r}.") from None
        found[name.replace("-", "_")] = int(number) if text.lstrip("-").isdigit() else number
    return found


def _ids(path: Path) -> list[Any]:
    from whence.errors import InputError

    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{str(path)!r} is no JSON file with a list of ids: {problem}.") from None
    if not isinstance(found, list):
        raise InputError(f"{str(path)!r} holds a {type(found).__name__}, not a list of ids.")
    return found


def _own(made: Unlearn, experiment: Experiment, ids: list[Any], model: Path, save: Path) -> None:
    from safetensors.torch import load_file, save_file

    from whence.applications.unlearning import Edit
    from whence.errors import InputError

    if not isinstance(made, Edit):
        raise InputError(f"{made.name} changes no weights, so there is no model to save; choose another way.")
    if not model.is_file():
        raise InputError(f"--model names {str(model)!r}, which is no file.")
    changed = made.unlearn([load_file(model)], experiment.study, ids)[0]
    save_file(changed, save)
