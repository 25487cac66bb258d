"""The certificate: every number with its floor, what it says in words, its page, its check by retraining."""

import json

import numpy as np
import pytest
import torch

import whence
from whence.applications.unlearning import Certificate, Outputs, Part, certify, klom
from whence.applications.unlearning.measures import NOT_COVERED
from whence.errors import InputError

N, FORGOTTEN, MODELS = 60, 6, 40
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 8)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
VALID = RNG.normal(size=(20, 8)).astype(np.float32)
TRAINED = []


def loop(inputs, labels, seed):
    """One step from a random start: seeds matter, and so does every example, a little."""
    TRAINED.append(len(labels))
    rng = torch.Generator().manual_seed(seed % 2**31)
    weight = 0.5 * torch.randn(8, generator=rng)
    weight = weight + ((2 * labels - 1).to(inputs.dtype)[:, None] * inputs).mean(0)
    return lambda x: torch.stack([-(x @ weight), x @ weight], -1)


@pytest.fixture(scope="module")
def study():
    points = (np.concatenate([X, VALID]), np.concatenate([Y, (VALID[:, 0] > 0).astype(np.int64)]))
    ids = [f"train {i}" for i in range(N)] + [f"valid {i}" for i in range(20)]
    return whence.Study.from_training_function(
        loop, (X, Y), points, outputs=["logits"], train_ids=ids[:N], target_ids=ids
    )


def outputs(seed, models, points, shift=0.0):
    margin = 1 + shift + np.random.default_rng(seed).normal(size=(models, points))
    return Outputs(margin, margin > 0)


def made(shift=0.0, models=MODELS, again=True, before=True, ids=True):
    """Parts whose forget points lie `shift` standard deviations from the oracles'."""
    counts = {"forget": FORGOTTEN, "retain": N - FORGOTTEN, "validation": 20}
    names = {
        "forget": [f"train {i}" for i in range(FORGOTTEN)],
        "retain": [f"train {i}" for i in range(FORGOTTEN, N)],
        "validation": [f"valid {i}" for i in range(20)],
    }
    return {
        name: Part(
            unlearned=outputs(10 * k, models, count, shift if name == "forget" else 0.0),
            oracles=outputs(10 * k + 1, models, count),
            oracles_again=outputs(10 * k + 2, models, count) if again else None,
            before=outputs(10 * k + 3, models, count, 4.0 if name == "forget" else 0.0) if before else None,
            ids=names[name] if ids else None,
        )
        for k, (name, count) in enumerate(counts.items())
    }


FORGET = [f"train {i}" for i in range(FORGOTTEN)]
COST = {"method": "matching", "cost": 0.012, "attribution_cost": 300.0}


@pytest.fixture(scope="module")
def certificate(study):
    return certify(made(), study, FORGET, **COST)


def test_a_perfect_method_is_at_the_floor(certificate):
    found = certificate.measures
    assert set(found.klom) == set(found.before) == {"forget", "retain", "validation"}
    for name, distance in found.klom.items():
        assert distance.floor_models == (MODELS, MODELS) and distance.bins == 8
        # the few forget points leave much to chance
        assert abs(distance.forward.mean - distance.floor.mean) < (0.5 if name == "forget" else 0.08), name
    assert found.before["forget"].forward.p95 > 5
    assert found.ulira.interval[0] <= 0.5 <= found.ulira.interval[1] and found.ulira_before.accuracy > 0.95
    assert found.challenge.forget_quality > 0.1
    assert found.accuracy["forget"] == pytest.approx((0.84, 0.84), abs=0.06)


def test_a_method_that_does_nothing_is_not(study):
    found = certify(made(shift=4.0), study, FORGET, method="nothing", cost=0.0).measures
    assert found.klom["forget"].excess > 5 and not found.at_the_floor("forget")
    assert found.ulira.accuracy > 0.95 and found.challenge.forget_quality < 0.05
    assert found.attribution_cost is None


def test_every_number_stands_beside_its_floor(certificate):
    rows = {(row[0], row[1]): dict(zip(certificate.table.columns, row)) for row in certificate.table.rows}
    for name in ("forget", "retain", "validation"):
        for words in ("P95", "mean"):
            row = rows[(f"{words} of KL(unlearned || oracle)", name)]
            assert row["floor"] > 0 and row["models of the floor"] == "40 and 40"
            assert row["as many models as the floor"] == pytest.approx(row["unlearned"], rel=0.6)
            assert row["before, as many"] is not None
    assert rows[("U-LiRA accuracy", "forget")]["floor"] == pytest.approx(0.5, abs=0.1)
    assert 0 < rows[("forget quality of the challenge", "forget")]["floor"] <= 1
    assert rows[("accuracy (floor: of the oracles)", "retain")]["floor"] == pytest.approx(0.84, abs=0.03)
    assert rows[("cost, in retrainings", None)]["unlearned"] == 0.012
    assert rows[("attribution, in retrainings", None)]["unlearned"] == 300
    names = [series.name for series in certificate.chart.series]
    assert names == ["before", "unlearned", "floor (other oracles)"]


def test_without_a_second_set_the_halves_have_half_the_models(study):
    found = certify(made(again=False, before=False), study, FORGET, **COST)
    distance = found.measures.klom["forget"]
    assert distance.floor_models == (20, 20) and distance.bins == 4 and not found.measures.before
    assert "disjoint halves" in found.meaning and "before" not in found.statement
    # one number of bins for all parts
    assert {one.bins for one in found.measures.klom.values()} == {4}


def test_what_it_says(certificate):
    assert "6 training examples forgotten by matching" in certificate.statement
    assert "1.2 % of one retraining, its attribution 300 times" in certificate.statement
    assert "KL(unlearned || oracle)" in certificate.statement and "floor of" in certificate.statement
    assert certificate.verified == (
        "40 unlearned models against 40 retrainings without the forget set, at the same points"
    )
    assert all(words in certificate.meaning for words in NOT_COVERED)
    assert "6 forget, 54 retain, 20 validation points" in certificate.meaning
    read = json.loads(json.dumps(certificate.to_dict(), allow_nan=False))
    assert read["measures"]["klom"]["forget"]["floor_models"] == [40, 40]
    assert "parts" not in read and "P95 of KL" in str(certificate)


def test_its_page(certificate, study, tmp_path):
    page = whence.report([certificate], study=study, to=tmp_path / "page.html").read_text(encoding="utf-8")
    for words in ("Certificate of unlearning by matching", "U-LiRA accuracy", "Forgotten (6)", "Not covered"):
        assert words in page


def test_retraining_verifies_it(study):
    logits = []
    for seed in range(2 * MODELS):
        net = loop(torch.as_tensor(X[FORGOTTEN:]), torch.as_tensor(Y[FORGOTTEN:]), seed)
        logits.append(net(torch.as_tensor(np.asarray(study.target_inputs))).numpy())
    logits = np.stack(logits)
    places = {"forget": slice(0, FORGOTTEN), "retain": slice(FORGOTTEN, N), "validation": slice(N, None)}
    parts = {
        name: Part(
            Outputs.of(logits[:MODELS, at], study.target_labels[at]),
            Outputs.of(logits[MODELS:, at], study.target_labels[at]),
            ids=study.target_ids[at],
        )
        for name, at in places.items()
    }
    first = certify(parts, study, FORGET, method="retraining", cost=1.0)
    again = first.verify(study, workers=0)
    assert isinstance(again, Certificate) and "judged by 40 further retrainings" in again.verified
    distance = again.measures.klom["forget"]
    assert distance.floor_models == (MODELS, MODELS) and distance.oracles == MODELS
    for name in places:  # retrained with other seeds, unlearned models are perfect
        found = again.measures.klom[name]
        assert found.forward.mean - found.floor.mean < 0.35, name
    assert again.measures.cost == 1.0


def test_outputs_of_logits():
    logits = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float16)
    labels = np.array([0, 3, 2, 1, 1])
    found = Outputs.of(logits, labels)
    wide = logits.astype(np.float64)
    true = np.take_along_axis(wide, labels[None, :, None], 2)[..., 0]
    rest = np.log(np.exp(wide).sum(-1) - np.exp(true))
    np.testing.assert_allclose(found.margin, true - rest, atol=1e-4)
    np.testing.assert_array_equal(found.correct, wide.argmax(-1) == labels)


def changed(name, **changes):
    from dataclasses import replace

    parts = made()
    return {**parts, name: replace(parts[name], **changes)}


NAN = Outputs(np.full((MODELS, FORGOTTEN), np.nan), np.zeros((MODELS, FORGOTTEN), bool))


@pytest.mark.parametrize(
    ("make", "forget", "more", "sentence"),
    [
        (made, ["nobody"], {}, "which the training set lacks"),
        (made, [f"train {i}" for i in range(N)], {}, "names all 60"),
        (made, FORGET[:3], {}, "6 points, but only 3 examples are forgotten"),
        (lambda: {"forget": made()["forget"]}, FORGET, {}, "must have forget, retain, validation"),
        (made, FORGET, {"bins": 20}, "bins is 20 for 40 models"),
        (lambda: made(models=8), FORGET, {}, "smallest set to compare has 8 models"),
        (lambda: made(models=16, again=False), FORGET, {}, "oracles are halved"),
        (lambda: changed("forget", unlearned=NAN), FORGET, {}, "240 non-finite margins"),
        (made, FORGET, {"cost": -1.0}, "cost is -1.0"),
        (made, FORGET, {"attribution_cost": float("nan")}, "attribution_cost is nan"),
    ],
)
def test_bad_input(study, make, forget, more, sentence):
    TRAINED.clear()
    with pytest.raises(InputError, match=sentence):
        certify(make(), study, forget, **{**COST, **more})
    assert not TRAINED


def test_parts_that_do_not_fit():
    with pytest.raises(InputError, match="before has 3 points and oracles 6"):
        changed("forget", before=outputs(1, MODELS, 3))
    with pytest.raises(InputError, match="ids has 2 points"):
        changed("forget", ids=["a", "b"])
    with pytest.raises(InputError, match="must be \\(models, points\\)"):
        Outputs(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(InputError, match="labels run from 0 to 4"):
        Outputs.of(np.zeros((2, 2, 4)), [0, 4])
    with pytest.raises(InputError, match="logits has shape"):
        Outputs.of(np.zeros((2, 2)), [0, 1])


def test_verifying_needs_the_points(study):
    TRAINED.clear()
    with pytest.raises(InputError, match="has no ids"):
        certify(made(ids=False), study, FORGET, **COST).verify(study, workers=0)
    few = changed("retain", ids=[f"other {i}" for i in range(N - FORGOTTEN)])
    with pytest.raises(InputError, match="54 points of the retain part are no targets"):
        certify(few, study, FORGET, **COST).verify(study, workers=0)
    with pytest.raises(InputError, match="at least 2"):
        certify(made(), study, FORGET, **COST).verify(study, retrainings=1, workers=0)
    assert not TRAINED


def test_the_parts_agree_with_klom(certificate):
    part = made()["retain"]
    alone = klom(part.unlearned.margin, part.oracles.margin, oracles_again=part.again, bins=8)
    assert certificate.measures.klom["retain"] == alone
