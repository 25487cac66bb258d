"""Matching: towards each point's own target, and what it refuses."""

import numpy as np
import pytest
import torch

import whence
from tests.applications.unlearning.studies import FORGET, N, attribution, bases, study
from whence.applications.unlearning import (
    DatamodelDirect,
    DatamodelMatching,
    OracleMatching,
    Request,
    examined,
    fit_scale,
    two_class_logits,
)
from whence.applications.unlearning.objectives import centred
from whence.attribution import Attribution
from whence.errors import InputError
from whence.subsets import Subsets
from whence.training.finetune import Finetuner


def at(tuner, models, points):
    return centred(tuner.logits(tuner.load(models), points))


def test_matching_reaches_its_targets():
    subject = study()
    models, tuner = bases(subject), Finetuner(subject)
    scores = attribution(subject)
    method = DatamodelMatching(attribution=scores, lr=1e-2, epochs=300, keeping=2, decay=0.99)
    found = method.unlearn(models, subject, FORGET, seeds=[0, 1, 2])
    points = Request.of(subject, FORGET).drawn([0, 1, 2], 1, 6)
    assert points[:, :3].tolist() == [FORGET] * 3
    change = scores.effect_of_removing(FORGET)
    change = torch.as_tensor(change - change.mean(1, keepdims=True)).float()[points]
    goal = at(tuner, models, points) + change
    error, before = (at(tuner, m, points) - goal for m in (found, models))
    assert error.square().mean() < 1e-3 * before.square().mean()
    # the wrapper says the same there, without a change of weights
    direct = DatamodelDirect(attribution=scores).predict(models, subject, FORGET)
    torch.testing.assert_close(direct[:, FORGET], goal[:, :3], rtol=1e-4, atol=1e-4)


def test_a_constant_added_to_all_logits_of_an_attribution_changes_nothing():
    subject = study()
    models, scores = bases(subject, 1), attribution(subject)
    shifted = Attribution(
        scores.weight + np.random.default_rng(1).normal(size=(len(subject.target_ids), 1, N)),
        target_ids=scores.target_ids,
        train_ids=scores.train_ids,
        output_ids=scores.output_ids,
        output="logits",
        calibrated=True,
    )
    one, other = (
        DatamodelMatching(attribution=a, epochs=2).unlearn(models, subject, FORGET)[0]
        for a in (scores, shifted)
    )
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=1e-4, atol=1e-5)


def test_examples_that_stay_are_asked_for_a_share():
    subject = study()
    models, scores = bases(subject, 1), attribution(subject)
    tuner = Finetuner(subject)
    before = centred(tuner.logits(tuner.load(models)))
    none, half, whole = (
        DatamodelDirect(attribution=scores, staying=staying).predict(models, subject, FORGET)
        for staying in (0.0, 0.5, 1.0)
    )
    stay = np.isin(subject.target_ids, subject.train_ids) & ~np.isin(subject.target_ids, FORGET)
    torch.testing.assert_close(none[:, stay], before[:, stay], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(half - none, (whole - none) / 2, rtol=1e-4, atol=1e-5)
    assert (whole - before)[:, stay].abs().max() > 0.01
    for found in (none, half):  # forgotten examples and those never trained on move all the way
        torch.testing.assert_close(found[:, ~stay], whole[:, ~stay], rtol=1e-5, atol=1e-5)
    for kind in (DatamodelDirect, DatamodelMatching):
        with pytest.raises(InputError, match="staying must be a share from 0 to 1, received 1"):
            kind(attribution=scores, staying=1.5).predict(models, subject, FORGET)


def test_ids_decide_not_positions():
    subject = study()
    scores, order = attribution(subject), np.random.default_rng(3)
    rows, columns = order.permutation(len(subject.target_ids)), order.permutation(N)
    turned = Attribution(
        scores.weight[rows][:, :, columns],
        target_ids=subject.target_ids[rows],
        train_ids=subject.train_ids[columns],
        output_ids=scores.output_ids,
        output="logits",
        calibrated=True,
    )
    models = bases(subject, 1)
    one, other = (DatamodelDirect(attribution=a).predict(models, subject, FORGET) for a in (scores, turned))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def oracles(tmp_path_factory):
    subject = study()
    return whence.retrain(
        subject, 6, subsets=Subsets.leaving_out(N, [FORGET]), seeds=6, workers=0, progress=False,
        to=tmp_path_factory.mktemp("oracles") / "oracles.zarr",
    )  # fmt: skip


def test_oracle_matching_goes_to_the_oracles(oracles):
    subject = study()
    models, tuner = bases(subject, 2), Finetuner(subject)
    options = {"lr": 1e-2, "epochs": 300, "keeping": 2, "decay": 0.99}
    every = OracleMatching(oracles=oracles, each=6, **options)
    found = every.unlearn(models, subject, FORGET)
    mean = torch.as_tensor(oracles.outputs_of("logits").mean(0))[FORGET]
    there = at(tuner, found, torch.tensor([FORGET] * 2))
    torch.testing.assert_close(there, centred(mean).expand_as(there), rtol=0.1, atol=0.1)
    # one oracle each: of the rows that were allowed
    state, request = tuner.load(models), Request.of(subject, FORGET)
    points = request.drawn([0, 1], 1, 6)
    one = OracleMatching(oracles=oracles, rows=(4,)).targets(tuner, state, request, [0, 1], points)
    own = centred(torch.as_tensor(oracles.outputs_of("logits", rows=[4])[0]))
    torch.testing.assert_close(one, own[points])
    assert every.cost(subject, FORGET).before == 6


def test_oracles_of_another_request_are_refused(oracles):
    subject = study()
    method = OracleMatching(oracles=oracles)
    with pytest.raises(InputError, match="without exactly the 2 examples"):
        method.unlearn(bases(subject, 1), subject, FORGET[:2])
    with pytest.raises(InputError, match="of another study"):
        method.unlearn(bases(subject, 1), study(epochs=2), FORGET)


def test_attributions_that_cannot_serve_are_refused_before_anything_is_trained():
    subject = study()

    def refused(sentence, scores, forget=FORGET):
        for method in (DatamodelMatching(attribution=scores), DatamodelDirect(attribution=scores)):
            with pytest.raises(InputError, match=sentence):
                method.predict([], subject, forget)

    margins = Attribution(
        np.ones((len(subject.target_ids), N)), target_ids=subject.target_ids, train_ids=subject.train_ids,
        calibrated=True,
    )  # fmt: skip
    refused("explains margin, but matching needs the logits", margins)
    refused("right only up to scale", attribution(subject, calibrated=False))
    refused("another study", attribution(subject, provenance={"study": "f" * 64}))
    refused("other training examples", attribution(subject, train_ids=range(1, N + 1)))
    refused("lacks 1 training examples", attribution(subject, target_ids=[-1, *subject.target_ids[1:]]))
    refused("the training set lacks", attribution(subject), [N + 1])
    few = attribution(subject)
    two = Attribution(
        few.weight[:, :2], target_ids=few.target_ids, train_ids=few.train_ids, output="logits",
        calibrated=True,
    )  # fmt: skip
    refused("has 2 logits, but the study has 3", two)


def test_examined_is_of_one_form():
    plain = study()
    assert examined(plain) is plain
    assert plain.target_ids[:N].tolist() == plain.train_ids.tolist()
    np.testing.assert_array_equal(plain.target_inputs[:N], plain.train_inputs)


def test_the_plain_study_will_do():
    plain = two_classes()
    full = examined(plain)
    rng = np.random.default_rng(0)
    scores = Attribution(
        rng.normal(size=(23, 2, 20)), target_ids=full.target_ids, train_ids=full.train_ids,
        output_ids=["0", "1"], output="logits", calibrated=True, provenance={"study": full.fingerprint},
    )  # fmt: skip
    network = whence.training.train(plain)
    method = DatamodelMatching(attribution=scores, epochs=2)
    one, other = (method.unlearn(network, study, [1, 4]).state_dict() for study in (plain, full))
    assert all(torch.equal(one[key], other[key]) for key in one)


def two_classes():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    recipe = whence.Recipe(
        lambda: whence.networks.logistic_regression(4, 2), epochs=5, batch_size=4, optimizer=whence.SGD(0.2)
    )
    return whence.Study((x, y), (x[:3] + 1, y[:3]), recipe)


def test_margins_of_two_classes_tell_the_logits(tmp_path):
    subject = examined(two_classes())
    bank = whence.retrain(subject, 60, to=tmp_path / "b.zarr", workers=0, progress=False)
    fit = whence.methods.Datamodel("ols")
    logits, margins = fit.attribute(bank, "logits"), fit.attribute(bank, "margin")
    told = two_class_logits(margins, subject)
    own = logits.weight - logits.weight.mean(1, keepdims=True)
    np.testing.assert_allclose(told.weight, own, atol=1e-4)
    with pytest.raises(InputError, match="only the margin of two classes"):
        two_class_logits(logits, subject)
    with pytest.raises(InputError, match="3 classes"):
        two_class_logits(margins, study())


def test_a_scale_is_fitted_on_held_out_retrainings(tmp_path):
    rng = np.random.default_rng(1)
    effects = rng.normal(size=(5, 12))

    def run(mask, seed):
        return effects @ mask + 0.2 * np.random.default_rng(seed).normal(size=5)

    subject = whence.Study.from_function(run, n=12, targets=5)
    bank = whence.retrain(subject, 200, validation=0.2, to=tmp_path / "b.zarr", workers=0, progress=False)
    half = Attribution(
        effects / 2.5, output="output", target_ids=range(5), train_ids=range(12), method="half"
    )
    scaled = fit_scale(half, bank)
    told = scaled.provenance["scale"]
    assert told["interval"][0] < 2.5 < told["interval"][1] and told["value"] == pytest.approx(2.5, rel=0.05)
    assert scaled.calibrated and scaled.method == "half, scaled"
    np.testing.assert_allclose(scaled.weight, effects, rtol=0.05)
    masks = bank.select("held_out").masks
    np.testing.assert_allclose(scaled.predict(masks), masks @ effects.T, atol=0.5)
    wrong = Attribution(-effects, output="output", target_ids=range(5), train_ids=range(12))
    with pytest.raises(InputError, match="cannot be told from 0"):
        fit_scale(wrong, bank)
    constant = Attribution(np.zeros((5, 12)), output="output", target_ids=range(5), train_ids=range(12))
    with pytest.raises(InputError, match="the same for every mask"):
        fit_scale(constant, bank)
    few = whence.retrain(subject, 30, validation=0.2, to=tmp_path / "few.zarr", workers=0, progress=False)
    with pytest.raises(InputError, match="needs 8 or more"):
        fit_scale(half, few)
