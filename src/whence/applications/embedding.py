"""Embedding: targets placed by the training examples that they lean on, and whether the picture is causal.

Ilyas et al. 2022 (arXiv 2202.00622), section 4.3: neighbours, principal components, subpopulations.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.causal import Pull, pulls
from whence.applications.components import (
    Components,
    chance_purity,
    nearest,
    principal_components,
    purity,
    spectral_clusters,
)
from whence.errors import InputError
from whence.finding import Chart, Examples, Series, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

SHOWN = 8  # examples in a strip
STRIPS = 3  # components, clusters and neighbours with pictures
MOST = 8  # series that a map tells apart


@dataclass(frozen=True)
class Embedding(Applied):
    """Where targets lie by what they lean on.

    Attributes
    ----------
    attribution : whose rows were embedded.
    components : principal components (`whence.applications.components.Components`).
    neighbours, cosines : ``(t, k)`` positions of the nearest other targets, nearest first.
    clusters : ``(t,)`` cluster of each target, or None. purity, chance : share of targets of their cluster's
        commonest label, and the same with labels shuffled; None without clusters or labels.
    pulls : what removing a component's heaviest training examples did (`Pull`), after `verify`.
    """

    clusters: np.ndarray | None = None
    purity: float | None = None
    chance: float | None = None
    neighbours: np.ndarray = field(kw_only=True)
    cosines: np.ndarray = field(kw_only=True)
    pulls: tuple[Pull, ...] = ()
    components: Components = field(repr=False, compare=False, kw_only=True)
    attribution: Attribution = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        *,
        components: Sequence[int] = (0, 1),
        remove: int | None = None,
        ends: int | None = None,
        retrainings: int = 20,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Embedding:
        """Remove the training examples at either end of a component, retrain, and see whether the two ends of
        the targets move apart.

        Parameters
        ----------
        components : numbers of components, from 0.
        remove : training examples removed at a time; default a twentieth of the training set.
        ends : targets at either end whose outputs are averaged; default a tenth of them.
        retrainings : fresh seeds for each removed set, at least 2.
        seed : of the retrainings and of the random sets that are removed for comparison.
        to : path of the bank that keeps the retrainings, so that the check resumes; default a temporary one.
        """
        found = pulls(
            self.attribution,
            self.components,
            study,
            components,
            remove,
            ends,
            retrainings,
            seed,
            to,
            workers,
            progress,
        )
        aimed = [pull for pull in found if pull.end != "random"]
        apart = [pull for pull in aimed if pull.as_predicted]
        number = len({pull.component for pull in found})
        verified = (
            f"{aimed[0].removed} training example{'s' * (aimed[0].removed > 1)} at either end of {number} "
            f"component{'s' if number > 1 else ''} removed in {retrainings} fresh retrainings each: the two "
            f"ends of the targets moved apart as predicted in {len(apart)} of {len(aimed)} removals (95 % "
            "intervals exclude 0)."
        )
        rows = [
            (
                f"component {pull.component}",
                pull.end,
                pull.removed,
                pull.upper,
                pull.lower,
                pull.apart,
                f"{pull.interval[0]:.3f} to {pull.interval[1]:.3f}",
            )
            for pull in found
        ]
        columns = ("component", "removed end", "removed", "change above", "change below", "apart", "95 %")
        return replace(self, verified=verified, table=Table(columns, rows), pulls=tuple(found))


def embedding(
    attribution: Attribution,
    study: Study | None = None,
    *,
    components: int = 10,
    clusters: int | None = None,
    neighbours: int = 5,
    normalise: bool = True,
    labels: Sequence[Any] | np.ndarray | None = None,
    check: Sequence[int] = (0, 1),
    retrainings: int = 20,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
    verify: bool = True,
) -> Embedding:
    """Embed targets by their rows of weights: principal components, neighbours and subpopulations.

    Targets near each other are those whose outputs lean on the same training examples. With a study, the
    components named by `check` are tested by retraining (`Embedding.verify`).

    Parameters
    ----------
    attribution : of a scalar output; rows are the points.
    study : what is retrained, unless `verify` is False; gives labels, where `labels` are not passed, for the
        purity of clusters and the map's colours.
    components : number of principal components.
    clusters : number of subpopulations to look for by spectral clustering (scikit-learn); None for none.
    neighbours : nearest targets to list for each.
    normalise : scale rows to length 1 before the components.
    labels : of the targets, to hold clusters against: classes, superclasses, sources.
    check, retrainings, seed, to, workers, progress : see `Embedding.verify`.

    Raises
    ------
    InputError : a vector output, too few targets, labels of another length.
    """
    if attribution.output_ids is not None:
        raise InputError(
            f"attribution explains a vector output ({attribution.output}); an embedding needs a scalar one "
            "such as margin."
        )
    weight = attribution.weight * (-1.0 if attribution.lower_is_better else 1.0)
    named = _labels(attribution, study, labels)
    found = principal_components(weight, components, normalise)
    order, cosines = nearest(weight, neighbours)
    groups = None if clusters is None else spectral_clusters(weight, clusters, seed=seed)
    pure = chance = None
    if groups is not None and named is not None:
        pure, chance = purity(groups, named), chance_purity(groups, named, seed)
    share = float(found.explained.sum())
    statement = (
        f"{components} components explain {share:.0%} of how {len(weight):,} targets differ in what they "
        f"lean on, the first {found.explained[0]:.0%}"
    )
    if pure is not None and groups is not None:
        statement += (
            f"; {groups.max() + 1} clusters have purity {pure:.2f} ({chance:.2f} with labels shuffled)"
        )
    finding = Embedding(
        title="Embedding of the targets",
        statement=statement + ".",
        table=_table(found, groups, named),
        chart=_map(found, groups, named, attribution),
        examples=_strips(found, groups, order, cosines),
        meaning=attribution.meaning,
        provenance={
            "method": attribution.method,
            "components": components,
            "normalised": normalise,
            "targets without weight": found.silent,
            "seed": seed,
            "study": attribution.provenance.get("study", ""),
        },
        attribution=attribution,
        components=found,
        neighbours=order,
        cosines=cosines,
        clusters=groups,
        purity=pure,
        chance=chance,
    )
    if study is None or not verify:
        return finding
    return finding.verify(
        study,
        components=check,
        retrainings=retrainings,
        seed=seed,
        to=to,
        workers=workers,
        progress=progress,
    )


def _labels(attribution: Attribution, study: Study | None, labels: Any) -> np.ndarray | None:
    if labels is None:
        if study is None or study.target_labels is None:
            return None
        at = {identity: i for i, identity in enumerate(np.asarray(study.target_ids).tolist())}
        missing = [identity for identity in attribution.target_ids.tolist() if identity not in at]
        if missing:
            raise InputError(
                f"attribution explains {len(missing)} targets that the study lacks, for example {missing[0]}."
            )
        found = np.asarray(study.target_labels)[[at[i] for i in attribution.target_ids.tolist()]]
        classes = getattr(study, "classes", None)
        return found if not classes else np.array([classes[int(label)] for label in found], dtype=object)
    found = np.asarray(labels)
    if found.shape != (len(attribution.target_ids),):
        raise InputError(
            f"labels has shape {found.shape}, but it must be one for each of "
            f"{len(attribution.target_ids)} targets."
        )
    return found


def _table(found: Components, groups: np.ndarray | None, labels: np.ndarray | None) -> Table:
    if groups is None:
        shares = [(f"component {i}", f"{share:.1%}") for i, share in enumerate(found.explained)]
        return Table(("component", "variance explained"), shares)
    rows = []
    for cluster in range(groups.max() + 1):
        inside = groups == cluster
        common, share = "–", None
        if labels is not None:
            values, counts = np.unique(labels[inside].astype(str), return_counts=True)
            common, share = str(values[counts.argmax()]), float(counts.max() / counts.sum())
        rows.append((f"cluster {cluster}", int(inside.sum()), common, share))
    return Table(("cluster", "targets", "commonest label", "of that label"), rows)


def _map(
    found: Components, groups: np.ndarray | None, labels: np.ndarray | None, attribution: Attribution
) -> Chart:
    """Targets on the first two components, coloured by label, else by cluster."""
    first = found.projections[:, 0]
    second = found.projections[:, 1] if found.projections.shape[1] > 1 else np.zeros(len(first))
    ids = attribution.target_ids.astype(str)
    kinds = labels.astype(str) if labels is not None else np.full(len(first), "targets")
    if labels is None and groups is not None:
        kinds = np.array([f"cluster {group}" for group in groups])
    values, counts = np.unique(kinds, return_counts=True)
    told_apart = values[np.argsort(-counts, kind="stable")][:MOST]
    series = [(str(value), np.flatnonzero(kinds == value)) for value in sorted(told_apart)]
    series.append(("others", np.flatnonzero(~np.isin(kinds, told_apart))))
    return Chart(
        "scatter",
        [
            Series(name, first[chosen].tolist(), second[chosen].tolist(), labels=ids[chosen].tolist())
            for name, chosen in series
            if len(chosen)
        ],
        "component 0",
        "component 1",
    )


def _strips(
    found: Components, groups: np.ndarray | None, order: np.ndarray, cosines: np.ndarray
) -> list[Examples]:
    strips = []
    for c in range(min(STRIPS, len(found.directions))):
        for sign, end in ((1, "upper"), (-1, "lower")):
            targets = _end(sign * found.projections[:, c])
            train = _end(sign * found.directions[c])
            strips += [
                Examples(
                    f"Component {c}, {end} end: targets",
                    targets.tolist(),
                    "target",
                    [f"{found.projections[i, c]:+.2f}" for i in targets],
                ),
                Examples(
                    f"Component {c}, {end} end: training examples they lean on",
                    train.tolist(),
                    "train",
                    [f"{found.directions[c, i]:+.3f}" for i in train],
                ),
            ]
    if groups is not None:
        for cluster in range(groups.max() + 1):
            members = np.flatnonzero(groups == cluster)
            shown = members[np.argsort(-(cosines[members, 0]), kind="stable")[:SHOWN]]
            strips.append(Examples(f"Cluster {cluster} ({len(members)} targets)", shown.tolist(), "target"))
    closest = np.argsort(-cosines[:, 0], kind="stable")[:STRIPS]
    for target in closest:
        pair = [int(target), *order[target].tolist()]
        notes = ["itself", *(f"{value:.2f}" for value in cosines[target])]
        strips.append(Examples("A target and its nearest neighbours", pair, "target", notes))
    return strips


def _end(values: np.ndarray) -> np.ndarray:
    """Positions of the largest values, none of which is also among the smallest."""
    return np.argsort(-values, kind="stable")[: min(SHOWN, len(values) // 2)]
