"""Experiments: base models, oracles and unlearned models in banks that resume, and their certificate."""

import numpy as np
import pytest

from tests.applications.unlearning.studies import FORGET, TARGETS, N, attribution, study
from whence.applications.unlearning import (
    Ascent,
    DatamodelDirect,
    DatamodelMatching,
    Experiment,
    OracleMatching,
    Retraining,
)
from whence.errors import InputError


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return Experiment(study(), 20, spare=20, to=tmp_path_factory.mktemp("experiment"), together=5, workers=0)


def test_unlearned_models_are_the_base_models_changed(experiment):
    method = Ascent(1e-2, 2)
    bank = experiment.unlearned(method, FORGET, checkpoints=2)
    bases = experiment.bases()
    seeds = bases.select().seed
    assert bank.select().seed.tolist() == seeds.tolist()
    alone = method.unlearn([bases.checkpoint(1)], experiment.study, FORGET, seeds=[int(seeds[1])])
    for key, value in bank.checkpoint(1).items():
        np.testing.assert_allclose(value, alone[0][key], rtol=1e-3, atol=1e-5)
    logits = method.predict([bases.checkpoint(7)], experiment.study, FORGET, seeds=[int(seeds[7])])
    labels = experiment.study.target_labels
    import torch

    from whence.study.outputs import margin

    own = margin(logits[0], torch.as_tensor(labels))
    np.testing.assert_allclose(bank.outputs_of("margin", rows=[7])[0], own, rtol=1e-3, atol=1e-4)


def test_it_resumes_and_knows_settings_apart(experiment, tmp_path):
    first = experiment.unlearned(Ascent(1e-2, 2), FORGET)
    again = Experiment(study(), 20, spare=20, to=experiment.folder, together=5, workers=0)
    second = again.unlearned(Ascent(1e-2, 2), FORGET)
    assert again._tuner is None  # nothing was trained again
    assert first.path == second.path
    other = again.unlearned(Ascent(2e-2, 2), FORGET)
    assert other.path != first.path
    assert not np.array_equal(other.outputs_of("margin"), first.outputs_of("margin"))


def test_a_stopped_request_goes_on(experiment):
    bank = experiment.unlearned(Ascent(3e-2, 2), FORGET)
    whole = bank.outputs_of("margin")
    bank.discard([1, 3])
    np.testing.assert_array_equal(experiment.unlearned(Ascent(3e-2, 2), FORGET).outputs_of("margin"), whole)


def test_parts_are_of_the_right_points(experiment):
    parts = experiment.parts(DatamodelDirect(attribution=attribution(experiment.study)), FORGET)
    assert {name: part.points for name, part in parts.items()} == {
        "forget": 3,
        "retain": N - 3,
        "validation": TARGETS,
    }
    assert list(parts["forget"].ids) == FORGET
    for part in parts.values():
        sides = (part.unlearned, part.oracles, part.oracles_again, part.before)
        assert all(len(side.margin) == 20 for side in sides)
    bases = experiment.bases().outputs_of("margin")
    np.testing.assert_array_equal(parts["forget"].before.margin, bases[:, FORGET])
    right = experiment.bases().outputs_of("logits").argmax(-1) == experiment.study.target_labels
    np.testing.assert_array_equal(parts["validation"].before.correct, right[:, N:])


def test_a_certificate_of_each(experiment):
    oracles = experiment.oracles(FORGET)
    assert oracles.rows_committed == 40 and not oracles.masks()[:, FORGET].any()
    scores = attribution(experiment.study)
    for method in (
        DatamodelMatching(attribution=scores, epochs=2),
        OracleMatching(oracles=oracles, rows=experiment.spare_rows, epochs=2),
        Retraining(),
    ):
        found = experiment.certify(method, FORGET)
        assert found.method == method.name and found.measures.klom["forget"].unlearned == 20
        assert found.measures.cost == method.cost(experiment.study, FORGET).share
        assert "Unlearning took" in found.statement
    assert found.measures.cost == 1


def test_bad_input(experiment, tmp_path):
    for wrong in ({"models": 1}, {"spare": -1}, {"together": 0}):
        with pytest.raises(InputError, match="must be at least"):
            Experiment(study(), **{"models": 5, "to": tmp_path, **wrong})
    with pytest.raises(InputError, match="the training set lacks"):
        experiment.parts(Ascent(), [999])
    with pytest.raises(InputError, match="changes no weights"):
        experiment.unlearned(DatamodelDirect(attribution=attribution(experiment.study)), FORGET, 1)
    with pytest.raises(InputError, match="right only up to scale"):
        experiment.parts(
            DatamodelMatching(attribution=attribution(experiment.study, calibrated=False)), FORGET
        )
    import whence

    plain = whence.Study.from_function(lambda mask, seed: mask[:2] * 1.0, n=4, targets=2)
    with pytest.raises(InputError, match="needs a Recipe"):
        Experiment(plain, 5, to=tmp_path)
