"""Planted duplicates, the pixel search, suspicions that mean what they say, and the check by retraining."""

import json

import numpy as np
import pytest

import whence
from whence.applications import (
    Pair,
    best_matches,
    leakage,
    pixel_correlation,
    pixel_similarity,
    plant_duplicates,
)
from whence.applications.planting import ALTER
from whence.applications.suspicion import (
    average_precision,
    extremity,
    standardised,
    stretched,
    suspicion,
    tail,
)
from whence.attribution import Attribution
from whence.errors import InputError

RNG = np.random.default_rng(0)
N, TARGETS = 120, 60


def pictures(count, seed):
    """Smooth colour images, so that compression and cropping leave something to recognise."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (count, 4, 4, 3))
    return np.repeat(np.repeat(coarse, 8, 1), 8, 2).astype(np.uint8)


TRAIN, LABELS = pictures(N, 1), np.arange(N) % 2
QUERIES, CLASSES = pictures(TARGETS, 2), np.arange(TARGETS) % 2


# --- Planting ---


def test_planted_copies_replace_examples_of_their_class():
    planted = plant_duplicates((TRAIN, LABELS), (QUERIES, CLASSES), each=4, seed=3)
    images, labels = planted.train
    assert images.shape == TRAIN.shape and np.array_equal(labels, LABELS)
    assert len({p.target for p in planted.pairs}) == len({p.train for p in planted.pairs}) == 20
    assert sorted({p.kind for p in planted.pairs}) == sorted(ALTER)
    changed = np.flatnonzero((images != TRAIN).any((1, 2, 3)))
    assert set(changed) <= {p.train for p in planted.pairs}
    for p in planted.pairs:
        assert LABELS[p.train] == CLASSES[p.target]
        if p.kind == "exact":
            assert np.array_equal(images[p.train], QUERIES[p.target])
        if p.kind == "flipped":
            assert np.array_equal(images[p.train], QUERIES[p.target][:, ::-1])
    again = plant_duplicates((TRAIN, LABELS), (QUERIES, CLASSES), each=4, seed=3)
    assert np.array_equal(again.train[0], images) and again.pairs == planted.pairs


def test_re_encoding_keeps_flat_blocks_and_loses_little():
    flat = np.full((16, 16), 128, np.uint8)
    assert np.array_equal(ALTER["re-encoded"](flat, RNG), flat)
    grey = pictures(1, 5)[0, :, :30, 0]  # sides that are no multiple of 8
    coded = ALTER["re-encoded"](grey, RNG)
    assert coded.shape == grey.shape and 0 < np.abs(coded.astype(int) - grey).mean() < 12


def test_a_crop_is_a_part_of_the_image():
    ramp = np.tile(np.arange(32, dtype=np.uint8) * 8, (32, 1))
    cropped = ALTER["cropped"](ramp, RNG).astype(float)
    assert np.ptp(cropped) == pytest.approx(25 * 8, abs=1) and (np.diff(cropped, axis=1) > 0).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kinds": ["rotated"]}, "kinds is"),
        ({"kinds": []}, "kinds is"),
        ({"each": 0}, "each is 0"),
        ({"each": 40}, "need as many targets"),
        ({"train": (TRAIN.astype(float), LABELS)}, "uint8"),
        ({"train": (TRAIN[:, :8], LABELS)}, "of one size"),
        ({"train": (TRAIN, LABELS + 2)}, "too few examples of class"),
    ],
)
def test_bad_planting(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        plant_duplicates(**{"train": (TRAIN, LABELS), "targets": (QUERIES, CLASSES), **changes})


# --- Pixels ---


def test_pixel_correlation_is_blind_to_mirror_brightness_and_contrast():
    one = QUERIES[:1]
    altered = np.stack([one[0], one[0][:, ::-1], np.rint(one[0] * 0.7 + 20).astype(np.uint8), TRAIN[0]])
    correlation = pixel_correlation(altered, one)
    assert correlation[0, :3] == pytest.approx([1, 1, 1], abs=1e-3) and correlation[0, 3] < 0.9


def test_best_matches_are_those_of_the_whole_matrix():
    whole = pixel_correlation(TRAIN, QUERIES)
    found = best_matches(TRAIN, QUERIES, count=2)
    assert len(found) == 2 * TARGETS
    assert [c for *_, c in found] == sorted((c for *_, c in found), reverse=True)
    for target, train, value in found[:20]:
        assert value == pytest.approx(whole[target, train], abs=1e-6)
        assert value >= np.sort(whole[target])[-2] - 1e-6
    with pytest.raises(InputError, match="uint8"):
        best_matches(TRAIN.astype(float), QUERIES)


# --- Suspicion ---


def test_average_precision_by_hand_and_with_ties():
    positive = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), positive) == pytest.approx(0.5)  # ties are no order
    assert average_precision(np.ones(4), np.zeros(4, bool)) == 0
    metrics = pytest.importorskip("sklearn.metrics")
    score, known = np.random.default_rng(1).integers(0, 9, 200), np.random.default_rng(2).random(200) < 0.2
    assert average_precision(score, known) == pytest.approx(metrics.average_precision_score(known, score))


def test_extremity_is_known_for_gumbel_maxima():
    rng = np.random.default_rng(0)
    score = np.full((4000, 3), -50.0)
    score[:, 1] = 7 + 2 * rng.gumbel(size=4000)
    found = extremity(score).max(1)
    assert found == pytest.approx((score[:, 1] - 7) / 2, abs=0.3)
    for p in (0.2, 0.02):
        assert np.mean(tail(found) < p) == pytest.approx(p, rel=0.35)
    # maxima of normal scores have lighter tails: never called too often
    normal = tail(extremity(rng.normal(size=(4000, 300))).max(1))
    assert 0.1 < np.mean(normal < 0.2) < 0.25 and np.mean(normal < 0.02) < 0.02


def test_suspicion_counts_false_finds():
    rng = np.random.default_rng(3)
    score = rng.normal(size=(1000, 200))
    score[np.arange(50), rng.integers(0, 200, 50)] += rng.uniform(3, 9, 50)
    found = extremity(standardised(score)).max(1)
    order = np.argsort(-found)[:100]
    doubt = suspicion(found[order], order, 1000)
    assert (np.diff(doubt) <= 1e-12).all()
    for level in (0.5, 0.9):
        called = order[doubt >= level]
        assert len(called) > 20 and np.mean(called < 50) >= level - 0.1
    clean = extremity(standardised(rng.normal(size=(1000, 200)))).max(1)
    assert suspicion(np.sort(clean)[::-1], np.arange(1000), 1000).max() < 0.6


def test_a_target_with_many_pairs_is_one_find():
    extreme, owners = np.array([3.0, 2.9, 2.8, 2.0]), np.array([5, 5, 5, 1])
    found = suspicion(extreme, owners, 10)
    assert found[-1] == pytest.approx(max(0, 1 - 10 * float(tail(np.array(2.0))) / 2))


def test_likeness_up_to_one_is_stretched():
    found = stretched(np.array([[0.0, 0.5, 0.75, 1.0]]))[0]
    assert found[1] - found[0] == pytest.approx(found[2] - found[1], rel=0.05) and found[3] == -np.log(0.01)
    distances = -np.array([[0.5, 20.0]])
    assert stretched(distances) is distances


def test_standardised_survives_sparse_rows():
    rows = np.zeros((2, 50))
    rows[0, 3] = 2.0
    found = standardised(rows)
    assert np.isfinite(found).all() and found[0, 3] > 5 and not found[1].any()


def test_rows_a_little_more_than_half_of_which_are_not_zero_are_not_extreme():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 500)) * (rng.random((200, 500)) < 0.1)
    rows[7] = rng.normal(size=500) * 0.1  # 251 of them stay, of which one is nearly 0
    rows[7, np.argsort(np.abs(rows[7]))[:249]] = 0
    rows[11] *= 1e-4  # a target that hangs on nothing
    maxima = standardised(rows).max(1)
    assert maxima[7] < maxima.max() and maxima[11] < np.median(maxima)


# --- The application ---


@pytest.fixture(scope="module")
def world():
    planted = plant_duplicates((TRAIN, LABELS), (QUERIES, CLASSES), each=2, seed=0)
    effects = np.random.default_rng(4).normal(size=(TARGETS, N)) * 0.05
    for p in planted.pairs:
        effects[p.target, p.train] += 1.0

    def learner(inputs, labels, seed):
        raise AssertionError("not trained in this file")

    study = whence.Study.from_training_function(learner, planted.train, (QUERIES, CLASSES))
    scores = Attribution(effects, target_ids=study.target_ids, train_ids=study.train_ids)
    return planted, study, scores, effects


def test_planted_duplicates_come_first(world):
    planted, study, scores, _ = world
    found = leakage(scores, study, verify=False)
    true = {(p.target, p.train) for p in planted.pairs}
    assert {(s.target, s.train) for s in found.suspects[:10]} == true
    assert all(s.same_class and s.suspicion > 0.9 for s in found.suspects[:10])
    judged = found.against(planted.pairs)
    assert judged.average_precision["both"]["all"] == pytest.approx(1) and judged.recall == 1
    assert set(judged.average_precision) == {"datamodel", "similarity", "both"}
    assert set(judged.average_precision["both"]) == {"all", *ALTER}
    assert found.pairs.targets[:10] == [s.target for s in found.suspects[:10]]
    assert found.verified is None and "10 of 60 targets" in found.statement
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_loss_leaks_with_the_other_sign(world):
    _, study, scores, effects = world
    loss = Attribution(-effects, target_ids=study.target_ids, train_ids=study.train_ids, output="loss")
    a, b = leakage(loss), leakage(scores)
    assert [(s.target, s.train) for s in a.suspects] == [(s.target, s.train) for s in b.suspects]


def test_removing_the_suspects_is_measured(world):
    _, _, scores, effects = world

    def train(mask, seed):
        return 2 + effects @ mask + 0.1 * np.random.default_rng(seed).normal(size=TARGETS)

    study = whence.Study.from_function(train, n=N, targets=TARGETS, outputs=["margin"])
    found = leakage(scores, study, retrainings=5, workers=0)
    gone = sorted({s.train for s in found.suspects if s.suspicion >= 0.8})
    hit = sorted({s.target for s in found.suspects if s.suspicion >= 0.8})
    expected = -effects[np.ix_(hit, gone)].sum(1).mean()
    assert found.change["suspects"]["mean"] == pytest.approx(expected, abs=0.1) and expected < -0.8
    assert found.change["random"]["low"] < 0 < found.change["random"]["high"] + 0.2
    assert found.change["removed"] == len(gone) and "fresh retrainings" in found.verified
    with pytest.raises(InputError, match="nothing to remove"):
        found.verify(study, least=1.1)


def test_a_person_s_answers(world, tmp_path):
    _, study, scores, _ = world
    found = leakage(scores, study, verify=False)
    asked = found.suspects[:6]
    pairs = [{"target": str(s.target), "train": str(s.train), "same": i != 2} for i, s in enumerate(asked)]
    (tmp_path / "answers.json").write_text(json.dumps({"pairs": pairs}))
    judged = found.judge(tmp_path / "answers.json")
    assert (judged.pairs, judged.same, judged.targets) == (6, 5, 5)
    assert (asked[2].target, asked[2].train) not in judged.confirmed
    assert judged.expected == pytest.approx(np.mean([s.suspicion for s in asked]))
    for wrong in ({}, {"pairs": [{"target": 1}]}):
        with pytest.raises(InputError, match="what the report saves"):
            found.judge(wrong)
    with pytest.raises(InputError, match="none of the 1 answers"):
        found.judge({"pairs": [{"target": "x", "train": "y", "same": True}]})


def test_the_report_shows_pairs_side_by_side(world, tmp_path):
    _, study, scores, _ = world
    found = leakage(scores, study, verify=False)
    page = whence.report([scores, found], to=tmp_path / "leaks.html", study=study).read_text()
    first = found.suspects[0]
    assert f'data-target="{first.target}" data-train="{first.train}"' in page
    assert page.count('name="pair-0"') == 2 and "Save the answers" in page


def test_bad_input(world):
    _, study, scores, _ = world
    other = Attribution(np.ones((TARGETS, N)))
    with pytest.raises(InputError, match="other target ids"):
        leakage(scores, similarity=other)
    with pytest.raises(InputError, match="vector output"):
        leakage(Attribution(np.zeros((2, 3, 4))))
    with pytest.raises(InputError, match="top is 0"):
        leakage(scores, top=0)
    with pytest.raises(InputError, match="another study"):
        leakage(Attribution(np.zeros((TARGETS, N)), provenance={"study": "0" * 64}), study)
    found = leakage(scores)
    assert set(found.evidence) == {"datamodel"} and found.suspects[0].similarity is None
    for wrong in ([], [Pair(0, N, "exact")]):
        with pytest.raises(InputError, match="duplicates must name"):
            found.against(wrong)


def test_a_similarity_may_come_in_another_order(world):
    _, study, scores, _ = world
    similar = pixel_similarity(study)
    shuffled = np.random.default_rng(0).permutation(N)
    turned = Attribution(
        similar.weight[:, shuffled], target_ids=study.target_ids, train_ids=study.train_ids[shuffled]
    )
    a, b = leakage(scores, similarity=similar), leakage(scores, similarity=turned)
    assert a.suspects == b.suspects
