"""Embeddings of targets on real data: are clusters pure, are neighbours of one class, are components causal?

For each study and attribution: purity of spectral clusters and agreement of nearest neighbours with the
class, beside what chance gives; then the training examples at either end of the first components are removed
and the model retrained. The banks are those of `python -m benchmarks methods`; retrainings of the check lie
beside them, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import numpy as np

from benchmarks.harness import RUNS, Result
from benchmarks.kept import Kept
from benchmarks.methods import COUNTS, MODELS, RIDGES
from benchmarks.studies import BENCHES, QUICK, Bench
from whence.applications import Embedding, embedding
from whence.attribution import Attribution
from whence.evaluate.learning_curve import first_models
from whence.methods import TRAK, Datamodel, GuidedDatamodel, Random, Similarity

STUDIES = ("mnist-mlp", "cifar2")
CHECKED = "guided datamodel"  # whose components are removed and retrained
CHECK = {"components": (0, 1, 2), "retrainings": 20}


def run(quick: bool = False) -> Result:
    result = Result("embedding", {"components": 10, "neighbours": 5, **CHECK, "seed": 0})
    for bench in [QUICK] if quick else [BENCHES[name] for name in STUDIES]:
        _study(result, bench, CHECK | ({"components": (0, 1), "retrainings": 6} if quick else {}))
    return result


def _study(result: Result, bench: Bench, check: dict) -> None:
    study = bench.study()
    labels = np.asarray(study.target_labels)
    clusters = 2 * len(np.unique(labels))
    for name, scores in _attributions(bench).items():
        found = embedding(scores, study, clusters=clusters, verify=False)
        nearest = float((labels[found.neighbours] == labels[:, None]).mean())
        result.row(
            study=bench.name,
            attribution=name,
            clusters=clusters,
            purity=found.purity,
            purity_by_chance=found.chance,
            neighbours_of_the_class=nearest,
            of_the_class_by_chance=float(np.mean([(labels == label).mean() for label in labels])),
            explained_by_the_first=float(found.components.explained[0]),
            explained_by_ten=float(found.components.explained.sum()),
        )
        if name == CHECKED:
            _causal(result, bench, found, check)


def _causal(result: Result, bench: Bench, found: Embedding, check: dict) -> None:
    checked = found.verify(bench.study(), **check, to=RUNS / f"embedding-{bench.name}.zarr", progress=True)
    for pull in checked.pulls:
        result.row(
            study=bench.name,
            component=pull.component,
            removed_end=pull.end,
            removed=pull.removed,
            change_above=pull.upper,
            change_below=pull.lower,
            apart=pull.apart,
            low=pull.interval[0],
            high=pull.interval[1],
            average=pull.average,
            between_seeds=pull.spread,
            retrainings=pull.retrainings,
        )
    aimed = [pull for pull in checked.pulls if pull.end != "random"]
    share = sum(pull.as_predicted for pull in aimed) / len(aimed)
    result.claim(f"{bench.name}: removals that move the ends apart as predicted", share, at_least=1)
    strongest = max(abs(pull.apart) for pull in checked.pulls if pull.end == "random")
    weakest = min(abs(pull.apart) for pull in aimed)
    result.claim(
        f"{bench.name}: weakest of these against the strongest random removal",
        weakest / strongest,
        at_least=1,
    )


def _attributions(bench: Bench) -> dict[str, Attribution]:
    """Those of the comparison of methods where it has run, made now where not."""
    study, bank, kept = bench.study(), bench.bank(), Kept(bench)
    counts, models = (COUNTS[:2], MODELS[1]) if bench is QUICK else (COUNTS, MODELS[-1])
    trak = TRAK(bank, projection=bench.projection)
    path = kept.several("TRAK", lambda: trak.path(study, RIDGES, counts=counts))
    priors = [scores for scores, _ in path][-len(RIDGES) :]
    early = first_models(bank, models, "margin")
    return {
        CHECKED: kept.one(f"guided, {models}", lambda: GuidedDatamodel(priors).attribute(early))[0],
        "ridge": kept.one(f"ridge, {models}", lambda: Datamodel("ridge").attribute(early))[0],
        "TRAK": priors[RIDGES.index(3e-4)],
        "penultimate similarity": kept.one(
            "penultimate similarity", lambda: Similarity("penultimate").attribute(study)
        )[0],
        "pixel similarity": kept.one("pixel similarity", lambda: Similarity("pixels").attribute(study))[0],
        "random": kept.one("random", lambda: Random().attribute(study))[0],
    }
