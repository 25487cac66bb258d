"""Sums of weights over groups, their errors, and leaving groups out of a learner in closed form."""

import json

import numpy as np
import pytest

import whence
from whence.applications import groups
from whence.attribution import Attribution
from whence.errors import InputError

N, TARGETS = 24, 5
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(TARGETS, N))
ERROR = RNG.uniform(0.1, 0.3, size=(TARGETS, N))
SOURCES = np.array(["a", "b", "c"])[np.arange(N) % 3]
TRAINED = []


def learner(mask, seed):
    """Linear, with noise that all targets share."""
    TRAINED.append(mask)
    return 1 + WEIGHT @ mask + 0.2 * np.random.default_rng(seed).normal()


@pytest.fixture(scope="module")
def study():
    return whence.Study.from_function(learner, n=N, targets=TARGETS, outputs=["margin"])


@pytest.fixture(scope="module")
def scores():
    return Attribution(
        WEIGHT, standard_error=ERROR, target_ids=range(TARGETS), train_ids=range(N), calibrated=True
    )


def test_effects_are_sums_and_errors_add_in_squares(scores):
    found = groups(scores, by=SOURCES)
    for row in found.rows:
        member = SOURCES == row.group
        assert row.size == member.sum()
        assert row.effect == pytest.approx(WEIGHT[:, member].sum(1).mean(), abs=1e-5)
        assert row.standard_error == pytest.approx(np.sqrt((ERROR[:, member] ** 2).sum(1)).mean(), abs=1e-5)
    assert found.weight.shape == (TARGETS, 3) and found.groups == ("a", "b", "c")
    assert sum(found.weight.T) == pytest.approx(WEIGHT.sum(1), abs=1e-5)
    sizes = [abs(row.effect) for row in found.rows]
    assert sizes == sorted(sizes, reverse=True) and found.verified is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_one_target_and_overlapping_groups(scores):
    found = groups(scores, by={"first": range(4), "all but one": range(1, N)}, targets=[2])
    by_name = {row.group: row for row in found.rows}
    assert by_name["first"].effect == pytest.approx(WEIGHT[2, :4].sum(), abs=1e-5)
    assert by_name["all but one"].effect == pytest.approx(WEIGHT[2, 1:].sum(), abs=1e-5)
    assert "1 targets" in found.statement or "1 target" in found.statement


def test_some_examples_may_be_in_no_group(scores):
    by = [None] * N
    by[3] = by[5] = "odd"
    found = groups(scores, by=by)
    assert [row.size for row in found.rows] == [2]


def test_classes_are_named(scores):
    x, y = np.zeros((N, 2), np.float32), np.arange(N) % 2
    named = whence.Study.from_training_function(
        lambda *_: None, (x, y), (x[:TARGETS], y[:TARGETS]), classes=["cat", "dog"]
    )
    found = groups(scores, named, verify=False)
    assert {row.group: row.size for row in found.rows} == {"cat": N // 2, "dog": N // 2}


def test_leaving_groups_out_confirms_a_linear_learner(study, scores):
    found = groups(scores, study, SOURCES, retrainings=20, workers=0)
    assert found.agreement.slope == pytest.approx(1, abs=0.1) and found.agreement.spearman > 0.9
    assert found.agreement.rows == 3 * TARGETS
    for row in found.rows:
        assert row.realised == pytest.approx(-row.effect, abs=5 * row.realised_se)
        # the noise is common to all targets, so averaging over targets does not help
        assert row.realised_se == pytest.approx(0.2 * np.sqrt(1 / 20 + 1 / 40), rel=0.6)
    assert "3 groups left out whole" in found.verified


def test_without_errors_there_are_none(study):
    plain = Attribution(WEIGHT, target_ids=range(TARGETS), train_ids=range(N))
    found = groups(plain, study, SOURCES, retrainings=2, most=1, workers=0)
    assert found.rows[0].standard_error is None and found.rows[0].realised is not None
    assert found.rows[1].realised is None and found.standard_error is None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"by": "class"}, "study with labels"),
        ({"by": "source"}, "by is 'source'"),
        ({"by": ["a"] * 3}, "3 values"),
        ({"by": {"none": []}}, "group 'none' is empty"),
        ({"by": {}}, "names no group"),
        ({"by": [None] * N}, "names no group"),
        ({"by": {"x": [99]}}, "no train id is 99"),
        ({"by": SOURCES, "targets": []}, "at least one target"),
        ({"by": SOURCES, "targets": [77]}, "no target id is 77"),
        ({"by": SOURCES, "retrainings": 1}, "at least 2"),
        ({"by": {"everything": range(N)}}, "holds all 24"),
    ],
)
def test_bad_input_before_any_training(study, scores, changes, sentence):
    TRAINED.clear()
    with pytest.raises(InputError, match=sentence):
        groups(scores, study, workers=0, **changes)
    assert not TRAINED


def test_other_attributions(study):
    with pytest.raises(InputError, match="vector output"):
        groups(Attribution(np.zeros((2, 3, 4))), by=[1, 1, 2, 2])
    wrong = Attribution(WEIGHT, target_ids=range(TARGETS), train_ids=range(N), provenance={"study": "0" * 64})
    with pytest.raises(InputError, match="another study"):
        groups(wrong, study, SOURCES)
