"""Embeddings: components against the SVD, planted subpopulations found, a planted direction causal."""

import json

import numpy as np
import pytest

import whence
from whence.applications.components import nearest, principal_components, purity, spectral_clusters
from whence.applications.embedding import embedding
from whence.attribution import Attribution
from whence.errors import InputError

N, TARGETS = 60, 30
GROUP = np.arange(TARGETS) % 3


def planted(seed: int = 0) -> np.ndarray:
    """Weights (30, 60): targets of group g lean on training examples 20 g to 20 g + 19, and are hurt by the
    next group's."""
    rng = np.random.default_rng(seed)
    owner = np.arange(N) // 20
    weight = 1.0 * (owner[None] == GROUP[:, None]) - 0.5 * (owner[None] == (GROUP[:, None] + 1) % 3)
    return weight + 0.3 * rng.normal(size=weight.shape)


def linear_study(weight: np.ndarray, noise: float = 0.5) -> whence.Study:
    def train_and_evaluate(mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        return {"margin": weight @ mask + noise * rng.normal(size=len(weight))}

    return whence.Study.from_function(train_and_evaluate, n=N, targets=TARGETS, outputs=["margin"])


def of(study: whence.Study, weight: np.ndarray) -> Attribution:
    return Attribution(weight, target_ids=study.target_ids, train_ids=study.train_ids, calibrated=True)


def test_components_are_those_of_the_singular_values():
    weight = planted()
    found = principal_components(weight, 4)
    rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    centred = rows - rows.mean(0)
    _, values, right = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(found.explained, (values**2 / (values**2).sum())[:4])
    assert np.allclose(np.abs(found.directions @ right[:4].T), np.eye(4), atol=1e-8)
    assert np.allclose(found.projections, centred @ found.directions.T)
    heaviest = np.abs(found.projections).argmax(0)
    assert (found.projections[heaviest, np.arange(4)] > 0).all()


def test_scale_of_rows_and_silent_targets_do_not_matter():
    weight = planted()
    found = principal_components(weight, 3)
    scaled = principal_components(weight * np.geomspace(0.01, 100, TARGETS)[:, None], 3)
    assert np.allclose(found.directions, scaled.directions)
    with_silence = principal_components(np.vstack([weight, np.zeros((2, N))]), 3)
    assert with_silence.silent == 2 and np.allclose(with_silence.projections[-2:], 0)
    assert np.allclose(np.abs(with_silence.directions @ found.directions.T), np.eye(3), atol=1e-8)


def test_neighbours_and_clusters_find_the_planted_groups():
    pytest.importorskip("sklearn")
    weight = planted()
    order, cosines = nearest(weight, 5)
    assert (GROUP[order] == GROUP[:, None]).all() and (np.diff(cosines, axis=1) <= 0).all()
    found = spectral_clusters(weight, 3)
    assert purity(found, GROUP) == 1.0
    shuffled = np.random.default_rng(1).permutation(TARGETS)
    again = spectral_clusters(weight[shuffled], 3)
    assert purity(again, found[shuffled]) == purity(found[shuffled], again) == 1.0


def test_a_finding_says_what_there_is():
    pytest.importorskip("sklearn")
    study = linear_study(planted())
    found = embedding(of(study, planted()), components=3, clusters=3, labels=GROUP)
    assert found.purity == 1.0 and 0.3 < found.chance < 0.7 and found.verified is None
    assert "3 clusters have purity 1.00" in found.statement and "Not verified" in str(found)
    assert {len(series.x) for series in found.chart.series} == {10}
    facts = json.loads(json.dumps(found.to_dict()))
    assert facts["purity"] == 1.0 and len(facts["neighbours"]) == 30 and "attribution" not in facts
    few = embedding(Attribution(planted()[:6]), components=2, neighbours=2)
    upper, lower = (set(few.examples[i].indices) for i in (0, 2))
    assert len(upper) == len(lower) == 3 and not upper & lower  # a target is shown at one end only
    plain = embedding(of(study, planted()), components=3)
    assert plain.clusters is None and plain.purity is None and len(plain.table.rows) == 3


def test_removing_an_end_moves_the_ends_apart(tmp_path):
    study = linear_study(planted())
    found = embedding(of(study, planted()), components=2)
    checked = found.verify(study, remove=10, ends=5, retrainings=8, to=tmp_path / "check.zarr")
    at_once = embedding(of(study, planted()), study, components=2, retrainings=2, check=(1,))
    assert {pull.component for pull in at_once.pulls} == {1} and at_once.verified
    by_end = {(pull.component, pull.end): pull for pull in checked.pulls}
    for component in (0, 1):
        above, below = by_end[component, "upper"], by_end[component, "lower"]
        assert above.upper < 0 < below.upper - below.lower and above.apart < 0 < below.apart
        assert above.as_predicted and below.as_predicted
        order = np.argsort(-found.components.directions[component], kind="stable")[:10]
        change = -planted()[:, order].sum(1)
        ends = np.argsort(-found.components.projections[:, component], kind="stable")
        truth = change[ends[:5]].mean() - change[ends[::-1][:5]].mean()
        assert above.interval[0] < truth < above.interval[1]
        assert abs(by_end[component, "random"].apart) < abs(above.apart)
    assert "4 of 4 removals" in checked.verified and len(checked.table.rows) == 6


def test_where_there_is_nothing_it_is_not_confirmed():
    noise = np.random.default_rng(3).normal(size=(TARGETS, N))
    study = linear_study(np.zeros((TARGETS, N)), noise=1.0)
    checked = embedding(of(study, noise), components=2).verify(study, remove=10, retrainings=6)
    assert sum(pull.as_predicted for pull in checked.pulls if pull.end != "random") <= 1


@pytest.mark.parametrize(
    "options, words",
    [
        ({"components": 0}, "components is 0"),
        ({"components": 30}, "components is 30"),
        ({"components": 3, "neighbours": 30}, "neighbours is 30"),
        ({"components": 3, "labels": [1, 2]}, r"labels has shape \(2,\)"),
    ],
)
def test_bad_input(options, words):
    study = linear_study(planted())
    with pytest.raises(InputError, match=words):
        embedding(of(study, planted()), **options)


def test_bad_input_of_the_check():
    study = linear_study(planted())
    found = embedding(of(study, planted()), components=2)
    for options, words in (
        ({"components": (2,)}, "there are 2, numbered from 0"),
        ({"remove": 40}, "remove=40"),
        ({"ends": 16}, "ends=16"),
        ({"retrainings": 1}, "retrainings is 1"),
    ):
        with pytest.raises(InputError, match=words):
            found.verify(study, **options)
    vector = Attribution(np.zeros((2, 3, 4)), output="logits")
    with pytest.raises(InputError, match="vector output"):
        embedding(vector)
    few = Attribution(np.vstack([np.ones((3, 4)), np.eye(4)]))
    with pytest.raises(InputError, match="span only"):
        embedding(few, components=5, neighbours=2)
