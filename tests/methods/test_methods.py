"""Methods on a stand-in bank: what they recover, what they report, what they refuse."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest

from whence import methods
from whence.errors import InputError
from whence.methods.difference import difference_of_means
from whence.methods.similarity import similarity


@dataclass
class Bank:
    """As much of a bank as methods read: two parts of made-up retrainings of a linear truth."""

    n: int = 40
    t: int = 6
    classes: int = 0
    rows: tuple[int, int] = (400, 80)
    outputs: tuple[str, ...] = ("margin", "loss")
    study_fingerprint: str = "abc"
    plan: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(subsets=SimpleNamespace(keep=0.5)))

    def __post_init__(self):
        generator = np.random.default_rng(0)
        self.train_ids = np.array([f"train/{i}" for i in range(self.n)])
        self.target_ids = np.arange(self.t)
        columns = self.t * max(self.classes, 1)
        self.truth = generator.standard_normal((columns, self.n)) * (
            generator.random((columns, self.n)) < 0.2
        )
        self.parts = {}
        for part, count in zip(("train", "validation"), self.rows, strict=True):
            masks = np.argsort(generator.random((count, self.n)), axis=1) < self.n // 2
            outputs = masks @ self.truth.T + 5 + 0.5 * generator.standard_normal((count, columns))
            shape = (count, self.t, self.classes) if self.classes else (count, self.t)
            self.parts[part] = SimpleNamespace(masks=masks, outputs=outputs.astype(np.float32).reshape(shape))

    def select(self, part, output):
        return self.parts[part]


PENALTIES = ["lasso", "ridge", "elastic_net", "ols", "auto", "best"]


@pytest.mark.parametrize("penalty", PENALTIES)
def test_datamodel_recovers_the_truth(penalty):
    bank = Bank()
    scores = methods.Datamodel(penalty).attribute(bank)
    assert np.abs(scores.weight - bank.truth).mean() < 0.12 and scores.weight.dtype == np.float32
    assert np.corrcoef(scores.weight.ravel(), bank.truth.ravel())[0, 1] > 0.97
    assert scores.calibrated and scores.output == "margin" and scores.keep == 0.5
    assert scores.provenance["study"] == "abc" and scores.provenance["train_rows"] == 400
    assert scores.target_ids.tolist() == list(range(6)) and scores.train_ids[1] == "train/1"
    np.testing.assert_allclose(
        scores.predict(bank.parts["train"].masks).mean(0), bank.parts["train"].outputs.mean(0), atol=0.1
    )


def test_auto_takes_the_better_of_lasso_and_ridge_on_validation():
    assert methods.Datamodel("auto").attribute(Bank()).method == "datamodel (LASSO)"
    dense = Bank()
    generator = np.random.default_rng(1)
    effects = 0.3 * generator.standard_normal((6, 40))
    for part in dense.parts.values():
        noise = generator.standard_normal(part.outputs.shape)
        part.masks, part.outputs = part.masks[:60], (part.masks @ effects.T + noise).astype(np.float32)[:60]
    assert methods.Datamodel("auto").attribute(dense).method == "datamodel (ridge)"


def test_diagnostics_and_standard_errors():
    sparse = methods.Datamodel(bootstrap=10).attribute(Bank())
    assert set(sparse.diagnostics) == {"penalty", "nonzeros", "validation_error", "gap"}
    assert sparse.standard_error.shape == sparse.shape and (sparse.standard_error >= 0).all()
    assert methods.Datamodel().attribute(Bank()).standard_error is None
    assert methods.Datamodel("ridge").attribute(Bank()).standard_error.shape == (6, 40)


@pytest.mark.parametrize(
    "method", [methods.Datamodel(), methods.Datamodel("ridge"), methods.DifferenceOfMeans()]
)
def test_vector_outputs_are_solved_entry_by_entry(method):
    bank = Bank(t=2, classes=3, outputs=("logits",))
    scores = method.attribute(bank)
    assert scores.data["weight"].dims == ("target", "output", "train") and scores.shape == (2, 3, 40)
    flat = Bank(t=2, classes=3)
    for part in flat.parts.values():
        part.outputs = part.outputs.reshape(len(part.outputs), 6)
    flat.target_ids = np.arange(6)
    np.testing.assert_allclose(scores.weight.reshape(6, 40), method.attribute(flat).weight, atol=1e-5)


def test_models_uses_the_first_retrainings():
    bank, small = Bank(), Bank()
    small.parts["train"].masks = small.parts["train"].masks[:100]
    small.parts["train"].outputs = small.parts["train"].outputs[:100]
    np.testing.assert_array_equal(
        methods.Datamodel(models=100).attribute(bank).weight, methods.Datamodel().attribute(small).weight
    )
    with pytest.raises(InputError, match="models is 401, but the train part has 400"):
        methods.Datamodel(models=401).attribute(bank)


def test_array_entry_is_the_same_fit():
    bank = Bank()
    train, validation = bank.parts["train"], bank.parts["validation"]
    fit = methods.Datamodel("ridge").fit(train.masks, train.outputs, validation.masks, validation.outputs)
    np.testing.assert_allclose(fit.weight, methods.Datamodel("ridge").attribute(bank).weight, rtol=1e-5)


def test_difference_of_means_and_its_standard_error():
    bank = Bank()
    masks, outputs = bank.parts["train"].masks, bank.parts["train"].outputs.astype(np.float64)
    fit = difference_of_means(masks, outputs)
    inside, outside = outputs[masks[:, 7]], outputs[~masks[:, 7]]
    np.testing.assert_allclose(fit.weight[:, 7], inside.mean(0) - outside.mean(0))
    welch = np.sqrt(inside.var(0, ddof=1) / len(inside) + outside.var(0, ddof=1) / len(outside))
    np.testing.assert_allclose(fit.standard_error[:, 7], welch)
    masks = masks.copy()
    masks[:, 0] = True
    fit = difference_of_means(masks, outputs)
    assert (fit.weight[:, 0] == 0).all() and np.isinf(fit.standard_error[:, 0]).all()
    scores = methods.DifferenceOfMeans().attribute(bank)
    assert not scores.calibrated and scores.provenance["train_rows"] == 480


def test_random_is_seeded_and_of_unit_variance():
    first, again, other = (methods.Random(seed).attribute(Bank()).weight for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all() and 0.8 < first.std() < 1.2


@pytest.fixture
def study():
    generator = np.random.default_rng(0)
    return SimpleNamespace(
        train_ids=np.arange(8), target_ids=np.arange(3), fingerprint="f", outputs=("margin", "loss"),
        train_inputs=generator.random((8, 2, 2)), target_inputs=generator.random((3, 2, 2)),
        train_labels=np.array([0, 1] * 4), target_labels=np.array([0, 1, 1]),
    )  # fmt: skip


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_similarity_is_highest_for_the_same_example(metric, study):
    study.target_inputs = study.train_inputs[[2, 4, 6]] * 1.0
    scores = methods.Similarity("pixels", metric, signed=False).attribute(study)
    if metric != "dot":
        assert scores.weight.argmax(1).tolist() == [2, 4, 6]
    x, y = study.train_inputs.reshape(8, -1), study.target_inputs.reshape(3, -1)
    expected = {
        "dot": y @ x.T,
        "l2": -np.linalg.norm(y[:, None] - x[None], axis=2),
        "cosine": (y @ x.T) / np.linalg.norm(y, axis=1)[:, None] / np.linalg.norm(x, axis=1),
    }[metric]
    np.testing.assert_allclose(scores.weight, expected, atol=1e-3)
    assert similarity(x, y, metric).shape == (3, 8)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2"])
def test_signed_similarity_follows_the_class_and_turns_for_a_loss(metric, study):
    scores = methods.Similarity(metric=metric).attribute(study)
    same = study.target_labels[:, None] == study.train_labels[None]
    assert (scores.weight[same] >= 0).all() and (scores.weight[~same] <= 0).all()
    np.testing.assert_array_equal(
        methods.Similarity(metric=metric).attribute(study, "loss").weight, -scores.weight
    )


def test_similarity_of_given_features(study):
    pair = np.eye(8, 3), np.eye(3)
    by_arrays = methods.Similarity(pair, signed=False).attribute(study)
    by_function = methods.Similarity(lambda study: pair, signed=False).attribute(study)
    np.testing.assert_array_equal(by_arrays.weight, np.eye(3, 8))
    np.testing.assert_array_equal(by_function.weight, by_arrays.weight)
    with pytest.raises(InputError, match="8 training examples and 3 targets"):
        methods.Similarity((np.eye(7, 3), np.eye(3))).attribute(study)


def test_everything_missing_is_said_in_one_sentence(study):
    with pytest.raises(InputError) as caught:
        methods.Datamodel().attribute(study, output="speed")
    message = str(caught.value)
    assert "retrainings (pass a Bank" in message and "'speed' (recorded: margin, loss)" in message
    assert "\n" not in message and message.count(". ") == 0
    study.train_inputs = study.train_labels = None
    with pytest.raises(InputError, match=r"lacks the examples themselves .*; class labels"):
        methods.Similarity(signed=True).attribute(study)


def test_bad_settings_and_too_few_models():
    with pytest.raises(InputError, match="penalty is 'l0'"):
        methods.Datamodel("l0")
    with pytest.raises(InputError, match="metric is 'l7'"):
        methods.Similarity(metric="l7")
    with pytest.raises(InputError, match="features is 'colour'"):
        methods.Similarity("colour")
    with pytest.raises(InputError, match="10 retrainings to fit and 80 to validate"):
        methods.Datamodel().attribute(Bank(rows=(10, 80)))
    with pytest.raises(InputError, match="least squares on 40 examples needs 42"):
        methods.Datamodel("ols").attribute(Bank(rows=(20, 5)))
    with pytest.raises(InputError, match="non-finite"):
        bank = Bank()
        bank.parts["train"].outputs[3, 2] = np.inf
        methods.Datamodel().attribute(bank)
