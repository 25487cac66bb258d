"""``whence demo``: the whole way from images to verified datamodels, on bundled data, in a few minutes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from whence.cli._output import Json, show

if TYPE_CHECKING:
    from whence.study import Study

TRAIN = 1_000  # images that each retraining draws half of
MODELS = 1_170  # 720 to fit, 90 to tune, 90 held-out masks with 4 seeds each
HELD_OUT_SEEDS = 4
TARGETS, REMOVED, RETRAININGS = 8, (30, 100), 10  # the counterfactual check
SUSPECTS = 12  # pairs shown that may be duplicates


def study() -> Study:
    """The demo's study: a small conv net on 1,000 Fashion-MNIST images, its margins on 500 test images."""
    import whence

    data = whence.datasets.fashion_mnist_sample()
    return whence.Study(
        train=(data.train_x[:TRAIN], data.train_y[:TRAIN]),
        targets=(data.test_x, data.test_y),
        outputs=["margin"],
        classes=data.classes,
        name="Fashion-MNIST, a small conv net",
        recipe=whence.Recipe(
            model=partial(whence.networks.conv_net, (1, 28, 28), 10),
            epochs=8,
            batch_size=125,
            optimizer=whence.SGD(lr=0.1, momentum=0.9, weight_decay=5e-4),
            precision="auto",
        ),
    )


def demo(
    to: Annotated[Path, typer.Option(help="Folder for the bank and the report.")] = Path("demo"),
    models: Annotated[int, typer.Option(min=200, help="Retrainings on random halves.")] = MODELS,
    workers: Annotated[
        int | None, typer.Option(help="Processes. Default: one on each core.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Retrain a small conv net many times, fit datamodels, check them by retraining, write a report.

    Uses images that come with whence; takes about three minutes on two cores, and resumes when interrupted.

    Example: whence demo --to demo
    """
    results = run(to, models, workers, quiet=as_json)
    show(f"Done in {results['seconds']:.0f} s. Open {results['report']}", results, as_json)


def run(to: Path, models: int = MODELS, workers: int | None = None, quiet: bool = False) -> dict[str, Any]:
    """The demo as a function: fills `to` and returns what was found, JSON-able."""
    import whence
    from whence.evaluate import compare, counterfactual, learning_curve
    from whence.methods import Datamodel, Random, Similarity

    began, say = perf_counter(), (lambda text: None) if quiet else typer.echo
    subject = study()
    say(f"1/4  Retraining {models:,} times on random halves of {subject.n:,} images")
    bank = whence.retrain(
        subject,
        models,
        keep=0.5,
        held_out_seeds=HELD_OUT_SEEDS,
        to=to / "bank.zarr",
        workers=workers,
        progress=not quiet,
    )
    say("2/4  Fitting datamodels, and what they have to beat")
    method = Datamodel("best")
    scores = method.attribute(bank)
    rivals = {
        "penultimate features": Similarity("penultimate").attribute(subject),
        "pixels": Similarity("pixels").attribute(subject),
        "random": Random().attribute(subject),
    }
    comparison = compare({"datamodels": scores, **rivals}, bank)
    say(f"\n{comparison}\n")
    have = len(bank.select("train").seed) + len(bank.select("validation").seed)
    curve = learning_curve(method, bank, models=[have >> 2, have >> 1, have])
    say(f"3/4  Removing the named examples of {TARGETS} targets and retraining")
    checked = counterfactual(
        scores,
        subject,
        targets=TARGETS,
        k=REMOVED,
        retrainings=RETRAININGS,
        to=to / "removals.zarr",
        workers=workers,
        progress=not quiet,
    )
    say(f"\n{checked}\n")
    linear = whence.applications.linearity(bank)
    leaked = whence.applications.leakage(scores, subject, top=SUSPECTS, verify=False)
    say(f"{linear.statement}\n")
    say("4/4  Writing the report")
    seconds = perf_counter() - began
    page = whence.report(
        [scores, comparison, checked, curve, linear, leaked],
        to=to / "report.html",
        study=subject,
        bank=bank,
        reproduce="whence demo",
        details={"seconds": round(seconds)},
    )
    return {
        "seconds": round(seconds, 1),
        "retrainings": bank.rows_committed + checked.trained,
        "comparison": comparison.to_dict(),
        "counterfactual": checked.to_dict(),
        "learning_curve": curve.to_dict(),
        "linearity": linear.to_dict(),
        "leakage": leaked.to_dict(),
        "report": str(page),
    }
