"""Wrong labels that are known: found by every kind of evidence, cleaned by retraining; bad input."""

import json
from dataclasses import replace

import numpy as np
import pytest

import whence
from tests.applications import mislabelled as world
from whence.applications import mislabels
from whence.attribution import Attribution
from whence.errors import InputError
from whence.study.variants import self_targets, with_train
from whence.training import dynamics

MLP = whence.Recipe(
    lambda: whence.networks.mlp(3, 3, (8,)), epochs=10, batch_size=15, optimizer=whence.SGD(0.1)
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return world.bank(tmp_path_factory.mktemp("labels") / "bank.zarr", rows=64)


@pytest.fixture(scope="module")
def learner():
    return whence.Study((world.X, world.GIVEN), world.HELD_OUT, MLP)


@pytest.fixture(scope="module")
def scores(learner):
    return whence.methods.GradDot(1).attribute(self_targets(learner))


def test_every_kind_of_evidence_finds_them(bank, learner, scores):
    watched = dynamics(learner, runs=2, threshold_class=True)
    found = mislabels(scores, bank=bank, dynamics=watched)
    judged = found.against(world.IS_WRONG)
    assert {"out-of-fold margin", "AUM", "data map", "self-influence", "self-confidence"} <= set(
        found.rankings
    )
    for row in judged.rows:
        # of blobs that hardly overlap everything but what fits wrong labels as well tells them apart
        assert row.auc > (0.9 if row.ranking != "memorisation" else 0.5), row.ranking
        assert row.auc_interval[0] <= row.auc <= row.auc_interval[1]
        assert 0 <= row.precision <= 1 and row.behind == pytest.approx(judged.row(found.by).auc - row.auc)
    assert judged.row(found.by).behind == 0 and judged.wrong == world.WRONG
    assert [row.auc for row in judged.rows] == sorted((row.auc for row in judged.rows), reverse=True)
    assert "12 of 90 labels are wrong" in str(judged)


def test_the_finding_names_suspects_and_their_likely_labels(bank):
    found = mislabels(bank=bank)
    assert found.by == "out-of-fold margin" and found.verified is None
    assert found.estimated == pytest.approx(world.WRONG, abs=4)
    assert len(found.suspects) == round(found.estimated)
    first = found.suspects[0]
    assert world.IS_WRONG[first.place] and first.ranks[found.by] == 1 and first.chance < 0.2
    assert {first.given, first.suggested} <= {"red", "green", "blue"} and first.given != first.suggested
    judged = found.against(world.TRUTH)
    assert judged.corrected > 0.9 and judged.precision > 0.7 and judged.recall > 0.7
    assert found.against(world.IS_WRONG).corrected is None
    strip = found.examples[0]
    assert strip.indices[0] == first.place and strip.notes[0] == f"rather {first.suggested}"
    assert {e.caption.split(" (")[0] for e in found.examples[1:]} <= {
        "Labelled red", "Labelled green", "Labelled blue",
    }  # fmt: skip
    assert "confident learning" in found.statement
    json.dumps(found.to_dict(), allow_nan=False)
    assert "Not verified" in str(found)


def test_probabilities_of_one_s_own(bank):
    own = np.eye(3)[world.TRUTH] * 0.9 + 0.1 / 3
    found = mislabels(None, world.study(), probabilities=own, count=world.WRONG, verify=False)
    assert found.by == "self-confidence" and found.estimated == pytest.approx(world.WRONG, abs=2)
    assert found.estimates["confident learning"] == pytest.approx(world.WRONG)
    assert {one.place for one in found.suspects} == set(world.FLIPPED)
    both = mislabels(bank=bank, probabilities=own)
    assert both.rankings["self-confidence"] == pytest.approx(found.rankings["self-confidence"])


def test_evidence_may_come_in_another_order(bank, scores):
    shuffled = np.random.default_rng(0).permutation(world.N)
    turned = Attribution(
        scores.weight[:, shuffled], target_ids=scores.target_ids, train_ids=scores.train_ids[shuffled]
    )
    a, b = mislabels(scores, bank=bank), mislabels(turned, bank=bank)
    assert a.rankings["self-influence"] == pytest.approx(b.rankings["self-influence"])


def test_attributions_by_name_and_rankings_by_choice(bank, scores):
    several = {"gradients": scores, "noise": whence.methods.Random().attribute(self_targets(world.study()))}
    found = mislabels(several, bank=bank, by="self-influence, gradients", count=7)
    assert found.by == "self-influence, gradients" and len(found.suspects) == 7
    judged = found.against(world.IS_WRONG)
    assert 0.2 < judged.row("self-influence, noise").auc < 0.8
    alone = mislabels(scores)
    assert alone.estimated is None and len(alone.suspects) == round(0.05 * world.N)
    assert "not known" in alone.statement and alone.suspects[0].given is None
    with pytest.raises(InputError, match="pass booleans"):
        alone.against(world.TRUTH)


def test_a_threshold_class_estimates_the_number(learner):
    found = mislabels(None, learner, dynamics=dynamics(learner, 2, threshold_class=True), verify=False)
    assert found.by == "AUM" and "the threshold class" in found.statement
    assert found.suggested is not None and 0 < found.estimated < world.N / 2


def test_cleaning_is_measured_by_retraining(bank, tmp_path):
    subject = world.study()
    found = mislabels(bank=bank, study=subject, retrainings=4, to=tmp_path / "kept.zarr", workers=0)
    cleaning = found.cleaning
    assert [arm.what for arm in cleaning.arms] == ["as it is", "removed", "relabelled", "random removed"]
    assert cleaning.targets == 60 and cleaning.suspects == len(found.suspects)
    assert "held-out accuracy" in found.verified and (tmp_path / "kept.zarr").is_dir()
    for arm in cleaning.arms:
        assert arm.change_interval[0] <= arm.change <= arm.change_interval[1]
    assert cleaning.arm("as it is").change == 0 and cleaning.arm("random removed").ahead == 0
    assert cleaning.arm("removed").change == pytest.approx(
        cleaning.arm("removed").accuracy - cleaning.arm("as it is").accuracy
    )
    with pytest.raises(InputError, match="no training set is called"):
        cleaning.arm("kept")
    json.dumps(found.to_dict(), allow_nan=False)


def test_cleaning_trains_on_the_sets_that_it_names(bank):
    """A learner whose accuracy is the share of right labels that it was given, and their number."""
    subject = world.study()
    key = {tuple(row): label for row, label in zip(world.X, world.TRUTH, strict=True)}
    seen = []

    def learn(inputs, labels, seed):
        right = [key[tuple(row)] == int(label) for row, label in zip(inputs.numpy(), labels, strict=True)]
        seen.append((len(right), sum(right)))
        return lambda x: -(x[:, :, None] - x[:, None, :]).abs().sum(-1)

    watched = whence.Study.from_training_function(learn, (world.X, world.GIVEN), world.HELD_OUT)
    places = world.FLIPPED
    found = replace(mislabels(bank=bank), suspects=())
    exact = mislabels(None, subject, probabilities=np.eye(3)[world.TRUTH], count=world.WRONG, verify=False)
    assert {one.place for one in exact.suspects} == set(places) and not found.suspects
    exact.verify(watched, retrainings=2, workers=0)
    n, wrong = world.N, world.WRONG
    assert {(n, n - wrong), (n - wrong, n - wrong), (n, n)} <= set(seen)
    others = set(seen) - {(n, n - wrong), (n - wrong, n - wrong), (n, n)}
    assert others and all(size == n - wrong for size, _ in others)  # random ones are left out too
    with pytest.raises(InputError, match="0 suspects"):
        found.verify(subject, retrainings=2)


def test_the_report_shows_given_and_suggested_labels(bank, tmp_path):
    found = mislabels(bank=bank)
    page = whence.report([found], to=tmp_path / "labels.html", study=world.study()).read_text()
    assert f"rather {found.suspects[0].suggested}" in page and "Labels that look wrong" in page


def test_bad_input(bank, scores, learner, tmp_path):
    with pytest.raises(InputError, match="nothing to judge labels by"):
        mislabels()
    with pytest.raises(InputError, match="nothing to judge labels by"):
        mislabels(None, world.study(), verify=False)
    with pytest.raises(InputError, match="pass the study"):
        mislabels(probabilities=np.eye(3)[world.TRUTH])
    with pytest.raises(InputError, match="pass the study"):
        mislabels(scores, probabilities=np.eye(3)[world.TRUTH])
    for wrong in (
        np.eye(3),
        np.eye(2)[world.TRUTH % 2],
        np.eye(3)[world.TRUTH] * 2,
        np.full((world.N, 3), np.nan),
    ):
        with pytest.raises(InputError, match="probabilities"):
            mislabels(bank=bank, probabilities=wrong)
    with pytest.raises(InputError, match="by is 'magic'"):
        mislabels(bank=bank, by="magic")
    for count in (0, world.N):
        with pytest.raises(InputError, match=f"count is {count}"):
            mislabels(bank=bank, count=count)
    with pytest.raises(InputError, match="give 12 training examples different labels"):
        mislabels(None, with_train(world.study(), (world.X, world.TRUTH)), bank=bank, verify=False)
    other = Attribution(np.zeros((5, 5)), target_ids=range(5), train_ids=range(5))
    with pytest.raises(InputError, match="not the same as the other evidence"):
        mislabels(other, bank=bank)
    with pytest.raises(InputError, match="not held out"):
        mislabels(bank=bank, study=self_targets(world.study()))
    with pytest.raises(InputError, match="at least 2"):
        mislabels(bank=bank, study=world.study(), retrainings=1)
    function = whence.Study.from_function(lambda mask, seed: mask[:2], n=world.N, targets=2)
    with pytest.raises(InputError, match="no labels whose accuracy"):
        mislabels(scores, function)
    found = mislabels(bank=bank)
    for known in (world.IS_WRONG[:5], np.zeros(world.N), np.zeros(world.N, bool), np.ones(world.N, bool)):
        with pytest.raises(InputError, match="known"):
            found.against(known)
    with pytest.raises(InputError, match="other training examples"):
        found.verify(world.study(train_ids=[f"t{i}" for i in range(world.N)]), retrainings=2)
