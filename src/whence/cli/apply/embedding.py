"""``whence apply embedding``: which targets lean on the same training examples."""

from __future__ import annotations

from typing import Annotated

import typer

from whence.cli._output import Json
from whence.cli.apply._options import Folder, Page, Scores, Seed, StudyName, conclude, loaded


def embedding(
    attribution: Scores,
    study: StudyName = None,
    components: Annotated[int, typer.Option(help="Principal components.")] = 10,
    clusters: Annotated[
        int | None,
        typer.Option(help="Subpopulations to look for. Default: none.", show_default=False),
    ] = None,
    neighbours: Annotated[int, typer.Option(help="Nearest targets to list for each.")] = 5,
    check: Annotated[
        list[int] | None,
        typer.Option(
            help="Number of a component to test by retraining; may be given several times. Default: 0 and 1.",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[bool, typer.Option(help="With a study: remove a component's ends and retrain.")] = True,
    retrainings: Annotated[int, typer.Option(help="Fresh retrainings without each end.")] = 20,
    to: Folder = None,
    report: Page = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Place targets by the training examples that they lean on: components, clusters, neighbours.

    Example: whence apply embedding runs/pets.attribution --study my_study:study --clusters 20
    """
    from whence.applications import embedding as find
    from whence.attribution import Attribution

    scores, subject = Attribution.load(attribution), loaded(study)
    found = find(
        scores,
        subject,
        components=components,
        clusters=clusters,
        neighbours=neighbours,
        check=check or (0, 1),
        retrainings=retrainings,
        seed=seed,
        to=None if to is None else to / "embedding.zarr",
        progress=not as_json,
        verify=verify,
    )
    conclude(found, scores, subject, report, as_json)
