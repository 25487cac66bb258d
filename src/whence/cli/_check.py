"""The options of a counterfactual check, shared by the verbs that can carry one out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from whence.cli._output import numbers

if TYPE_CHECKING:
    from pathlib import Path

    from whence.attribution import Attribution
    from whence.evaluate import Counterfactual
    from whence.study import Study

Targets = Annotated[int, typer.Option(help="Of the removals: how many targets.")]
Remove = Annotated[str, typer.Option(help="Of the removals: how many examples, with commas.")]
Retrainings = Annotated[int, typer.Option(help="Of the removals: fresh retrainings of each.")]


def check(
    scores: Attribution,
    study: Study,
    targets: int,
    remove: str,
    retrainings: int,
    seed: int,
    to: Path | None,
    progress: bool,
) -> Counterfactual:
    """Remove helpful, harmful and random examples, retrain, compare; resumes from the bank at `to`."""
    from whence.evaluate import counterfactual

    sizes = numbers(remove, "--remove")
    return counterfactual(
        scores,
        study,
        targets=targets,
        k=sizes,
        retrainings=retrainings,
        seed=seed,
        to=to,
        progress=progress,
    )
