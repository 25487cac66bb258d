"""The counterfactual check, by retraining a learner whose true effects are known."""

import json

import numpy as np
import pytest

import whence
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate import counterfactual

N, TARGETS = 60, 12
WEIGHT = np.random.default_rng(0).normal(size=(TARGETS, N))
CALLS = []


def learner(mask, seed):
    """Linear in the mask, with noise from the seed."""
    CALLS.append(seed)
    return mask @ WEIGHT.T + 0.5 * np.random.default_rng(seed).normal(size=TARGETS)


def loss_learner(mask, seed):
    return {"loss": learner(mask, seed)}


@pytest.fixture(scope="module")
def study():
    return whence.Study.from_function(learner, n=N, targets=TARGETS, outputs=["output"])


def attribution(study, weight=WEIGHT, **changes):
    given = {
        "output": "output",
        "target_ids": study.target_ids,
        "train_ids": study.train_ids,
        "calibrated": True,
    }
    return Attribution(weight, **{**given, **changes})


def check(scores, study, **changes):
    given = {"targets": 6, "k": (5, 15), "retrainings": 3, "workers": 1, "bootstrap": 200}
    return counterfactual(scores, study, **{**given, **changes})


def test_truth_is_confirmed(study):
    result = check(attribution(study), study)
    assert len(result.rows) == 6 * 3 * 2 and result.failed == 0
    assert result.controls >= 18 and result.trained == 36 * 3 + result.controls
    assert result.spearman > 0.95 and result.slope == pytest.approx(1, abs=0.05)
    assert result.overall.slope_interval[0] < 1 < result.overall.slope_interval[1]
    assert result.all_targets.slope == pytest.approx(1, abs=0.05) and result.all_targets.rows == 36 * TARGETS
    assert result.attainable > 0.99
    z = [(row.realised - row.predicted) / row.realised_se for row in result.rows]
    assert 0.5 < np.std(z) < 1.8  # standard errors are about right (from 3 seeds each)


def test_sets_are_what_their_kind_says(study):
    result = check(attribution(study), study, targets=[3, 7])
    position = {identity: i for i, identity in enumerate(study.train_ids.tolist())}
    for row in result.rows:
        weights = WEIGHT[study.target_ids.tolist().index(row.target)]
        removed = [position[identity] for identity in row.removed]
        assert len(set(removed)) == row.k
        assert row.predicted == pytest.approx(-weights[removed].sum(), abs=1e-4)
        if row.kind == "top":
            assert set(removed) == set(np.argsort(-weights)[: row.k])
        if row.kind == "bottom":
            assert set(removed) == set(np.argsort(weights)[: row.k])
    assert {row.target for row in result.rows} == {3, 7} and result.overall.spearman_interval is None


def test_scale_is_found_and_nonsense_exposed(study):
    halved = check(attribution(study, WEIGHT / 2, calibrated=False), study)
    assert halved.slope == pytest.approx(2, abs=0.1) and "not calibrated" in str(halved)
    noise = np.random.default_rng(1).normal(size=WEIGHT.shape)
    assert check(attribution(study, noise), study).by_kind["top"].pearson < 0.6


def test_train_ids_in_another_order_and_few_targets(study):
    order = np.random.default_rng(2).permutation(N)
    shuffled = attribution(
        study, WEIGHT[2:9][:, order], train_ids=study.train_ids[order], target_ids=study.target_ids[2:9]
    )
    result = check(shuffled, study, targets=4)
    assert result.slope == pytest.approx(1, abs=0.05)


def test_ties_are_broken_at_random(study):
    result = check(attribution(study, np.zeros_like(WEIGHT)), study, kinds=("top",), k=(10,))
    assert len({row.removed for row in result.rows}) == 6 and result.slope == 0 and result.spearman == 0


def test_helpful_lowers_a_loss():
    study = whence.Study.from_function(loss_learner, n=N, targets=TARGETS, outputs=["loss"])
    result = check(attribution(study, output="loss"), study)
    assert all(row.predicted > 0 for row in result.rows if row.kind == "top")
    assert result.slope == pytest.approx(1, abs=0.05)


def test_resumes_from_its_bank_and_repeats_itself(study, tmp_path):
    first = check(attribution(study), study, to=tmp_path / "check.zarr", workers=0)
    trained = len(CALLS)
    again = check(attribution(study), study, to=tmp_path / "check.zarr", workers=0)
    assert trained >= first.trained and len(CALLS) == trained
    assert again.to_dict() == first.to_dict()


def test_prints_and_becomes_json(study):
    result = check(attribution(study), study, kinds=("top", "random"))
    assert "Spearman" in str(result) and "top 15" in str(result) and "6 targets" in str(result)
    assert json.loads(json.dumps(result.to_dict()))["rows"][0]["kind"] == "top"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"targets": 13}, "targets is 13"),
        ({"targets": ["nobody"]}, "nobody"),
        ({"targets": [1, 1]}, "none of them twice"),
        ({"k": (0,)}, "whole number from 1 to 59"),
        ({"k": (60,)}, "whole number from 1 to 59"),
        ({"kinds": ("best",)}, "kinds is"),
        ({"retrainings": 1}, "at least 2"),
    ],
)
def test_bad_input(study, changes, sentence):
    with pytest.raises(InputError, match=sentence):
        check(attribution(study), study, **changes)


def test_attribution_of_something_else(study):
    with pytest.raises(InputError, match="scalar"):
        check(Attribution(np.zeros((TARGETS, 2, N))), study)
    with pytest.raises(InputError, match="records 'output'"):
        check(attribution(study, output="margin"), study)
    with pytest.raises(InputError, match="other training examples"):
        check(attribution(study, train_ids=[f"x{i}" for i in range(N)]), study)
    with pytest.raises(InputError, match="targets that the study lacks"):
        check(attribution(study, target_ids=[f"x{i}" for i in range(TARGETS)]), study)
    with pytest.raises(InputError, match="another study"):
        check(attribution(study, provenance={"study": "0" * 64}), study)
