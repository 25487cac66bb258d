"""Supports on learners in closed form, where the smallest set is known by trying every subset."""

import itertools
import json

import numpy as np
import pytest
import torch

import whence
from whence.applications import Calibration, calibrate, compare_support, support
from whence.applications.calibration import Verified, crossing
from whence.applications.flips import Open
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.intervals import wilson

N, TARGETS = 12, 8
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(TARGETS, N))
BASE = np.linspace(0.4, 2.5, TARGETS) - WEIGHT.sum(1)  # what a model trained on nothing would say
QUIET = {"workers": 0, "retrainings": 2, "controls": 2, "limit": N - 1}
TRAINED = []


def linear(mask, seed):
    """Deterministic and linear: the best set of k is the first k of the true weights."""
    TRAINED.append(int(mask.sum()))
    return BASE + WEIGHT @ mask


@pytest.fixture(scope="module")
def study():
    return whence.Study.from_function(linear, n=N, targets=TARGETS, outputs=["margin"])


def truth(study, **changes):
    given = {"bias": BASE, "target_ids": study.target_ids, "train_ids": study.train_ids, "calibrated": True}
    return Attribution(**{"weight": WEIGHT, **given, **changes})


def smallest(target):
    """Fewest examples whose removal makes the target's output negative, over all subsets."""
    for k in range(1, N):
        for gone in itertools.combinations(range(N), k):
            if BASE[target] + WEIGHT[target].sum() - WEIGHT[target, list(gone)].sum() < 0:
                return k
    return None


def test_the_true_weights_find_the_smallest_set_of_all(study):
    found = support(truth(study), study, targets=list(range(TARGETS)), steps=12, **QUIET)
    assert [row.support for row in found.rows] == [smallest(t) for t in range(TARGETS)]
    for row in found.rows:
        gone = np.isin(study.train_ids, row.examples)
        assert row.margin == pytest.approx(linear(~gone, 0)[row.target], abs=1e-5) and row.margin_se == 0
        assert len(row.examples) == row.support
    assert found.trained == 2 + 2 * sum(len(row.trials) for row in found.rows)


def test_without_a_study_it_is_a_prediction_that_verify_confirms(study):
    predicted = support(truth(study), targets=list(range(TARGETS)), limit=N - 1)
    assert predicted.verified is None and "predicted" in predicted.statement
    assert [row.estimate for row in predicted.rows] == [smallest(t) for t in range(TARGETS)]
    found = predicted.verify(study, **QUIET, steps=12)
    assert [row.support for row in found.rows] == [row.estimate for row in predicted.rows]
    assert found.settings.limit == N - 1 and found.verified


def test_one_target_says_what_was_removed(study):
    found = support(truth(study), study, target=3, steps=12, **QUIET)
    assert found.title == "Support of target 3" and found.curve.targets == 1
    assert found.examples[0].indices == np.argsort(-WEIGHT[3])[: smallest(3)].tolist()
    predicted = found.chart.series[1]
    assert predicted.y == pytest.approx(
        BASE[3] + WEIGHT[3].sum() - np.r_[0, np.cumsum(np.sort(WEIGHT[3])[::-1])][list(predicted.x)], abs=1e-5
    )
    json.dumps(found.to_dict(), allow_nan=False)
    assert "target 3" in str(found)


def test_what_does_not_flip_is_censored(study):
    limit = smallest(TARGETS - 1) - 1
    found = support(truth(study), study, target=TARGETS - 1, **{**QUIET, "limit": limit}, steps=9)
    (row,) = found.rows
    assert row.support is None and row.tried == limit and row.words == f"> {limit}" and row.examples == ()
    assert found.curve.censored == 1 and "does not flip" in found.statement


def test_a_ranking_that_names_few_is_tried_no_further(study):
    weight = np.where(np.arange(N) < 3, 1.0, -1.0) * np.ones((TARGETS, 1))
    found = support(truth(study, weight=weight, calibrated=False), study, target=TARGETS - 1, **QUIET)
    assert found.rows[0].cap == 3
    nobody = support(truth(study, weight=-np.ones((TARGETS, N)), calibrated=False), study, target=1, **QUIET)
    assert nobody.rows[0].cap == 0 and nobody.rows[0].support is None and nobody.trained == 2


def test_search_narrows_any_bracket_to_ten_per_cent():
    for flips_at in (1, 2, 5, 37, 150, 400, 401):
        one = Open(0, np.arange(500), cap=400)
        stages = 0
        while (size := one.next(20)) is not None:
            assert one.low < size <= 400 and (one.high is None or size <= one.high)
            one.take(size, np.array([-1.0 if size >= flips_at else 1.0]))
            stages += 1
        if flips_at <= 400:
            assert one.low < flips_at <= one.high and (one.high - one.low <= 1 or one.high <= 1.1 * one.low)
        else:
            assert one.high is None and one.low == 400
        assert stages <= 12


def test_a_set_that_flips_by_luck_only_is_not_believed():
    one = Open(0, np.arange(100), cap=64)
    lucky = {20}  # flips a target whose true support is 30, but once only
    while (size := one.next(20)) is not None:
        flips = size >= 30 or size in lucky
        lucky -= {size}
        one.take(size, np.array([-1.0 if flips else 1.0]))
    assert 27 < one.high <= 33 and [size for size, _ in one.trials].count(20) == 2
    assert one.confirmed is one.trials[-1][1]


def test_a_failed_confirmation_does_not_jump_to_the_cap():
    one = Open(0, np.arange(500), cap=120)
    lucky = {6, 8}  # the true support is 11, and after these few trials the search was to end
    while (size := one.next(5)) is not None:
        flips = size >= 11 or size in lucky
        lucky -= {size}
        one.take(size, np.array([-1.0 if flips else 1.0]))
    assert 11 <= one.high <= 22


def test_nothing_confirmed_is_censored_at_the_cap():
    one = Open(0, np.arange(100), cap=10)
    one.take(10, np.array([-1.0]))
    while (size := one.next(1)) is not None:
        one.take(size, np.array([1.0]))
    assert one.high is None and one.confirmed is None and one.low == 10


def test_a_search_that_begins_at_an_estimate_grows_and_shrinks():
    for flips_at in (3, 90):
        one = Open(0, np.arange(500), cap=400, first=20)
        assert one.next(20) == 20
        while (size := one.next(20)) is not None:
            one.take(size, np.array([-1.0 if size >= flips_at else 1.0]))
        assert one.low < flips_at <= one.high


# --- Calibration ---


def verified(slope, spread, count=60, cap=300, seed=0):
    """Targets whose true sizes follow the model of the calibration."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        drops = np.cumsum(np.sort(rng.exponential(0.05, cap))[::-1])
        base = rng.uniform(0.5, 4)
        size = float(crossing(base, drops, slope)) * np.exp(spread * rng.normal())
        high = int(np.ceil(size))
        out.append(Verified(base, drops, min(high - 1, cap), high if high <= cap else None))
    return out


def test_calibration_finds_slope_and_spread_of_its_own_model():
    found = calibrate(verified(0.6, 0.3))
    assert found.slope == pytest.approx(0.6, rel=0.1) and found.spread == pytest.approx(0.3, rel=0.35)
    assert found.targets == 60


def test_censored_targets_are_not_left_out():
    # capping the search hides the large ones; a fit that dropped them would call the slope too steep
    known = verified(0.4, 0.6, count=300)
    cap = 25
    capped = [
        Verified(v.base, v.drops[:cap], min(v.low, cap), v.high if (v.high or 999) <= cap else None)
        for v in known
    ]
    dropped = [v for v in capped if v.high is not None]
    assert 0.2 < len(dropped) / len(known) < 0.8
    whole = calibrate(known).slope
    assert abs(np.log(calibrate(capped).slope / whole)) < abs(np.log(calibrate(dropped).slope / whole))


def test_calibrated_sizes_flip_as_often_as_promised():
    known = verified(0.3, 0.3, count=400, cap=900)
    fit = calibrate(known[:40])
    for certainty in (0.5, 0.9):
        sizes = [fit.size(v.base, v.drops, certainty) for v in known[40:]]
        flips = np.mean([(s or 1e9) >= (v.high or 1e9) for s, v in zip(sizes, known[40:], strict=True)])
        assert flips == pytest.approx(certainty, abs=0.12)


def test_size_by_hand():
    drops = np.array([1.0, 1.5, 1.75])
    exact = Calibration(slope=1.0, spread=0.0, targets=10, method="")
    assert [exact.size(base, drops) for base in (0.9, 1.0, 1.2, 1.75, 1.8)] == [1, 1, 2, 3, None]
    assert Calibration(2.0, 0.0, 10, "").size(1.9, drops) == 1
    with pytest.raises(InputError, match="between 0 and 1"):
        exact.size(1.0, drops, 1.0)


def test_too_few_flips_make_no_calibration():
    with pytest.raises(InputError, match="received 3 of 3"):
        calibrate(verified(0.6, 0.3, count=3))


def test_each_target_is_calibrated_without_itself(study):
    ids = list(range(TARGETS))
    found = support(truth(study), study, targets=ids, steps=12, **QUIET)
    assert found.calibration.targets == TARGETS
    without = [row for row in found.rows if row.target != 2]
    again = support(truth(study), study, targets=[row.target for row in without], steps=12, **QUIET)
    place = found.rows[2]
    drops = np.cumsum(np.sort(WEIGHT[2])[::-1][: place.cap])
    assert place.calibrated == again.calibration.size(place.base, drops)


def test_certify_retrains_the_predicted_sizes(study):
    found = support(truth(study), study, targets=list(range(TARGETS)), steps=12, **QUIET)
    exact = found.certify(study, inflation=1.0)
    assert exact.share == 1 and exact.targets == TARGETS
    assert exact.size == np.mean([smallest(t) for t in range(TARGETS)])
    assert found.certify(study).share == 1
    assert wilson(8, 8)[0] == pytest.approx(8 / (8 + 1.96**2), abs=1e-3) and wilson(8, 8)[1] == 1


# --- Relabelling ---

X = np.random.default_rng(2).normal(size=(30, 2)).astype(np.float32)
Y = np.arange(30) % 3
X += np.array([[2, 0], [-2, 0], [0, 2]], np.float32)[Y]
QX = np.array([[1.2, 0.1], [0.1, 1.3]], np.float32)
QY = np.array([0, 2])


def centroids(inputs, labels, seed):
    """Nearest class mean; deterministic."""
    means = torch.stack([inputs[labels == c].mean(0) for c in range(3)])
    return lambda x: -(torch.cdist(x, means) ** 2)


def margins(labels):
    logits = centroids(torch.tensor(X), torch.tensor(labels), 0)(torch.tensor(QX))
    rest = logits.clone()
    rest[[0, 1], QY] = -torch.inf
    return (logits[[0, 1], QY] - torch.logsumexp(rest, 1)).numpy(), rest.argmax(1).numpy()


def test_mislabelling_support_by_trying_every_prefix():
    study = whence.Study.from_training_function(centroids, (X, Y), (QX, QY))
    near = whence.methods.Similarity("pixels", "l2", class_conditioned=True).attribute(study)
    found = support(near, study, targets=[0, 1], action="relabel", steps=12, **{**QUIET, "limit": 9})
    _, runner_up = margins(Y)
    for row in found.rows:
        order = np.argsort(-near.weight[row.target])[:9]
        flips = []
        for k in range(1, 10):
            labels = Y.copy()
            labels[order[:k]] = runner_up[row.target]
            flips.append(margins(labels)[0][row.target] < 0)
        first = flips.index(True) + 1
        assert all(flips[first - 1 :]), "the check is of a monotone case"
        assert row.support == first and row.examples == tuple(order[:first].tolist())
    assert "relabelled" in found.statement and found.title.startswith("Mislabelling")
    certain = found.certify(study, None) if found.calibration else None
    assert certain is None  # two targets are too few to calibrate on


# --- Comparison ---


def test_comparison_ranks_the_truth_before_noise(study):
    rng = np.random.default_rng(5)
    rankers = {
        "random": truth(study, weight=np.abs(rng.normal(size=WEIGHT.shape)), calibrated=False),
        "truth": truth(study),
        "scaled": truth(study, weight=WEIGHT * 7, calibrated=False),
    }
    found = compare_support(
        rankers, study, targets=list(range(TARGETS)), cost={"truth": 100}, **QUIET, steps=12
    )
    assert found.reference == "random" and found.tests["truth"].ahead
    alone = support(truth(study), study, targets=list(range(TARGETS)), steps=12, **QUIET)
    assert [r.support for r in found.supports["truth"].rows] == [r.support for r in alone.rows]
    assert [r.support for r in found.supports["scaled"].rows] == [r.support for r in alone.rows]
    assert (
        found.table.rows[-1][0] == "random" and found.chart.kind == "steps" and len(found.chart.series) == 3
    )
    assert found.trained == 2 + sum(s.trained for s in found.supports.values())
    again = found.verify(study, workers=0)
    assert [r.support for r in again.supports["truth"].rows] == [r.support for r in alone.rows]
    json.dumps(found.to_dict(), allow_nan=False)


# --- Bad input ---


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target": 99}, "no target id is 99"),
        ({"targets": [1, 1]}, "none of them twice"),
        ({"targets": 0}, "targets is 0"),
        ({"target": 1, "targets": 3}, "both given"),
        ({"action": "burn"}, "action is 'burn'"),
        ({"retrainings": 1}, "at least 2"),
        ({"limit": 0}, "limit is 0"),
        ({"certainty": 1.5}, "certainty is 1.5"),
        ({"steps": 0}, "steps=0"),
        ({"action": "relabel"}, "no labelled inputs"),
    ],
)
def test_bad_input_is_one_sentence_before_any_training(study, changes, sentence):
    TRAINED.clear()
    with pytest.raises(InputError, match=sentence):
        support(truth(study), study, **{**QUIET, **changes})
    assert not TRAINED


def test_attributions_that_cannot_be_used(study):
    TRAINED.clear()
    for scores, sentence in [
        (truth(study, provenance={"study": "0" * 64}), "another study"),
        (truth(study, weight=np.zeros((TARGETS, 2, N)), bias=None), "vector output"),
        (truth(study, train_ids=[f"x{i}" for i in range(N)]), "other training examples"),
    ]:
        with pytest.raises(InputError, match=sentence):
            support(scores, study, **QUIET)
        with pytest.raises(InputError, match=sentence):
            compare_support({"a": scores, "b": scores}, study, **QUIET)
    with pytest.raises(InputError, match="only up to scale"):
        support(truth(study, calibrated=False), target=1)
    with pytest.raises(InputError, match="no target id is 99"):
        compare_support({"a": truth(study), "b": truth(study)}, study, targets=[99], **QUIET)
    with pytest.raises(InputError, match="'b' lacks target"):
        short = truth(study, weight=WEIGHT[:3], bias=BASE[:3], target_ids=study.target_ids[:3])
        compare_support({"a": truth(study), "b": short}, study, **QUIET)
    with pytest.raises(InputError, match="two or more"):
        compare_support({"a": truth(study)}, study)
    with pytest.raises(InputError, match="'b' is not among"):
        compare_support({"a": truth(study), "c": truth(study)}, study, cost={"b": 1})
    assert not TRAINED


def test_a_loss_does_not_flip():
    study = whence.Study.from_function(
        lambda mask, seed: {"loss": -linear(mask, seed)}, n=N, targets=TARGETS, outputs=["loss"]
    )
    with pytest.raises(InputError, match="attribute the output 'margin'"):
        support(truth(study, output="loss"), study, target=1)


def test_a_misclassified_target_is_refused_before_any_removal(study):
    wrong = whence.Study.from_function(
        lambda mask, seed: linear(mask, seed) - 1, n=N, targets=TARGETS, outputs=["margin"]
    )
    TRAINED.clear()
    with pytest.raises(InputError, match=r"target 0 is misclassified already: its mean margin is -0\.60"):
        support(truth(wrong), wrong, target=0, **QUIET)
    assert set(TRAINED) == {N}
    with pytest.raises(InputError, match="misclassified already"):
        support(truth(wrong, bias=BASE - 1), target=0)
    with pytest.raises(InputError, match="are right by more than 2 standard errors"):
        support(truth(wrong), wrong, targets=TARGETS, **QUIET)


def test_it_resumes(study, tmp_path):
    first = support(truth(study), study, targets=[1, 2], to=tmp_path / "run", **QUIET)
    TRAINED.clear()
    again = support(truth(study), study, targets=[1, 2], to=tmp_path / "run", **QUIET)
    assert not TRAINED and again.rows == first.rows
