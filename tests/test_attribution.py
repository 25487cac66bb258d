"""Attribution: sign, ids, prediction, round trips, and one clear sentence for bad input."""

import json

import numpy as np
import pytest

from whence.attribution import Attribution, Effect
from whence.errors import InputError


@pytest.fixture
def weight():
    return np.array([[0.5, -1.0, 0.0, 2.0], [0.0, 0.25, -0.5, 0.125]], np.float32)


@pytest.fixture
def scores(weight):
    return Attribution(
        weight,
        bias=[1.0, -1.0],
        target_ids=["test/3", "b"],
        train_ids=["a", "b", "c", "d"],
        calibrated=True,
        method="lasso",
        keep=0.5,
        standard_error=np.full((2, 4), 0.1),
        diagnostics={"penalty": [0.1, 0.2], "nonzeros": [3, 3]},
        provenance={"rows": 100},
    )


def test_predict_is_masks_times_weights_plus_bias(scores, weight):
    masks = np.array([[1, 0, 1, 1], [0, 0, 0, 0]], bool)
    np.testing.assert_allclose(scores.predict(masks), masks @ weight.T + [1.0, -1.0], rtol=1e-6)
    np.testing.assert_allclose(scores.predict(masks[0]), scores.predict(masks)[0])
    np.testing.assert_allclose(scores.predict(np.full(4, 0.5)), weight.sum(1) / 2 + [1.0, -1.0], rtol=1e-6)


def test_effect_of_removing_is_the_change_of_the_prediction(scores):
    everything, without = np.ones(4), np.array([1, 0, 1, 0])
    change = scores.predict(without) - scores.predict(everything)
    np.testing.assert_allclose(scores.effect_of_removing(["d", "b", "d"]), change, rtol=1e-6)
    np.testing.assert_allclose(scores.effect_of_removing("d"), [-2.0, -0.125])
    np.testing.assert_array_equal(scores.effect_of_removing([]), [0.0, 0.0])


def test_top_by_sign(scores):
    assert scores.top("test/3", 2) == [Effect("d", 3, 2.0), Effect("a", 0, 0.5)]
    assert scores.top("test/3", 10, "harmful") == [Effect("b", 1, -1.0)]


def test_for_a_loss_helpful_means_lowering_it(weight):
    losses = Attribution(weight, output="loss", train_ids=[10, 20, 30, 40], target_ids=[0, 1])
    assert losses.top(0, 1, "helpful") == [Effect(20, 1, -1.0)]
    assert losses.top(0, 1, "harmful") == [Effect(40, 3, 2.0)]
    assert "raises the target's loss (it harms" in losses.meaning


def test_meaning_states_sign_output_units_and_calibration(scores, weight):
    assert scores.meaning == (
        "+0.8 = including this example in training raises the target's margin by 0.8 on average. "
        "Units: margin per example, calibrated."
    )
    loose = Attribution(weight, output="probability").meaning
    assert loose.startswith("a positive weight = including this example in training raises the target's prob")
    assert loose.endswith("Units: probability per example, right only up to scale (not calibrated).")


def test_self_influence_is_found_by_id(scores, weight):
    own = scores.self_influence()
    assert own["train"].values.tolist() == ["b"] and own.values == weight[1, 1]
    with pytest.raises(InputError, match="no id is both"):
        Attribution(weight).self_influence()


def test_vector_outputs():
    weight = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 10
    ids = {"output_ids": ["cat", "dog", "owl"], "train_ids": [3, 2, 1, 0], "target_ids": [0, 9]}
    scores = Attribution(weight, output="logits", **ids)
    assert scores.data["weight"].dims == ("target", "output", "train") and scores.bias.shape == (2, 3)
    assert scores.predict(np.ones((5, 4))).shape == (5, 2, 3) and scores.predict(np.ones(4)).shape == (2, 3)
    np.testing.assert_allclose(scores.predict(np.ones(4)), weight.sum(-1))
    np.testing.assert_allclose(scores.effect_of_removing([2]), -weight[:, :, 1])
    assert scores.top(9, 1, output="owl") == [Effect(0, 3, 13.0)]
    np.testing.assert_array_equal(scores.self_influence().values, weight[:1, :, 3])
    assert scores.to_pandas().shape == (6, 4) and scores.to_pandas().loc[(9, "owl"), 0] == 13.0
    with pytest.raises(InputError, match="output is missing"):
        scores.top(0)


@pytest.mark.parametrize("ids", [["a", "ß", "c c", "d/4"], [7, 5, 3, 1]], ids=["str", "int"])
def test_save_and_load(tmp_path, weight, ids):
    saved = Attribution(
        weight, bias=[1, 2], train_ids=ids, target_ids=[5, 6], keep=0.25, calibrated=True, method="m",
        standard_error=weight**2, diagnostics={"penalty": [0.5, 1.5]}, provenance={"seeds": [1, 2]},
    )  # fmt: skip
    saved.save(tmp_path / "deep" / "scores.zarr")
    loaded = Attribution.load(tmp_path / "deep" / "scores.zarr")
    for name in ("weight", "bias", "standard_error", "target_ids", "train_ids"):
        np.testing.assert_array_equal(getattr(saved, name), getattr(loaded, name))
        assert getattr(saved, name).dtype == getattr(loaded, name).dtype
    np.testing.assert_array_equal(loaded.diagnostics["penalty"], [0.5, 1.5])
    assert (loaded.meaning, loaded.keep, loaded.provenance) == (saved.meaning, 0.25, {"seeds": [1, 2]})
    assert loaded.top(5, 1) == saved.top(5, 1)
    loaded.save(tmp_path / "deep" / "scores.zarr")  # onto the store it reads from
    np.testing.assert_array_equal(Attribution.load(tmp_path / "deep" / "scores.zarr").weight, weight)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["scores.zarr"]
    assert json.loads((tmp_path / "deep" / "scores.zarr" / "zarr.json").read_text())["zarr_format"] == 3


def test_save_and_load_vector_output_without_keep(tmp_path):
    saved = Attribution(np.ones((2, 3, 4)), output="logits", output_ids=["x", "y", "z"])
    saved.save(tmp_path / "s")
    loaded = Attribution.load(tmp_path / "s")
    assert loaded.keep is None and loaded.output_ids.tolist() == ["x", "y", "z"]
    assert loaded.weight.dtype == np.float64


def test_save_leaves_foreign_files_alone(tmp_path, scores):
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="is not an attribution"):
        scores.save(tmp_path / "notes")
    with pytest.raises(InputError, match="is not an attribution"):
        Attribution.load(tmp_path / "missing")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"weight": np.zeros(3)}, "must be \\(target, train\\)"),
        ({"weight": np.array([[np.nan, 1.0]])}, "1 non-finite"),
        ({"bias": [0.0]}, "bias has shape \\(1,\\)"),
        ({"train_ids": ["a", "a", "b", "c"]}, "train_ids holds a more than once"),
        ({"train_ids": ["a"]}, "there are 4"),
        ({"train_ids": [1, "a", 2, 3.5]}, None),
        ({"target_ids": [0.5, 1.5]}, "must all be str or all be int"),
        ({"standard_error": np.zeros((4, 2))}, "standard_error has shape"),
        ({"diagnostics": {"penalty": [1, 2, 3]}}, "penalty"),
        ({"diagnostics": {"bias": [1, 2]}}, "reserved name"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, sentence, weight):
    if sentence is None:  # numpy turns a mixed list into strings; as an object array it stays mixed
        arguments = {"train_ids": np.array(arguments["train_ids"], dtype=object)}
        sentence = "must all be str or all be int"
    with pytest.raises(InputError, match=sentence) as caught:
        Attribution(**{"weight": weight, **arguments})
    assert "\n" not in str(caught.value)


def test_unknown_ids_are_named(scores):
    with pytest.raises(InputError, match="no train id is zebra; ids look like 'a'"):
        scores.effect_of_removing(["a", "zebra"])
    with pytest.raises(InputError, match="no target id is 99"):
        scores.top(99)
    with pytest.raises(InputError, match="masks has shape"):
        scores.predict(np.ones(3))
    with pytest.raises(InputError, match="order"):
        scores.top("b", order="best")
