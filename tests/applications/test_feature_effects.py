"""Effects of transforms on learners whose answer to a pixel is known."""

import math

import numpy as np
import pytest
import torch

import whence
from whence.applications import feature_effects
from whence.applications.transforms import Patch
from whence.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 100, (30, 4, 4), dtype=np.uint8)
IMAGES[:, 0, 0] = 0
LABELS = np.arange(30) % 2
ON = Patch(0, 0, 1, 1)
ONE_PIXEL = {"half": ON.at(0.5), "whole": ON}


def study(gain: float, noise: float = 0.2, targets: slice = slice(20)) -> whence.Study:
    """Models with ``log odds of class 1 = gain * corner pixel + noise``, whatever they are trained on."""

    def train(inputs, labels, seed):
        offset = noise * np.random.default_rng(seed).normal()

        def model(x):
            odds = gain * x[:, 0, 0].float() / 255 + offset
            return torch.stack([torch.zeros_like(odds), odds], 1)

        return model

    return whence.Study.from_training_function(
        train, (IMAGES, LABELS), (IMAGES[targets], LABELS[targets]), classes=["no", "yes"]
    )


def effects(*gains, transforms=ON, label="yes", retrainings=12, **options):
    studies = {f"gain {gain:g}": study(gain) for gain in gains}
    return feature_effects(studies, transforms, label, retrainings=retrainings, workers=0, **options)


def test_effects_are_those_of_the_known_models():
    found = effects(2.0, 0.0, transforms=ONE_PIXEL)
    assert found.targets == 10 and found.class_name == "yes" and found.recipes == ("gain 2", "gain 0")
    for name, odds in (("half", 2 * 128 / 255), ("whole", 2.0)):
        row = found.row("gain 2", name)
        expected = 1 / (1 + math.exp(-odds)) - 0.5
        assert row.interval[0] - 0.01 < expected < row.interval[1] + 0.01 and row.positive == 1
        assert row.before == pytest.approx(0.5, abs=0.1)
        assert found.row("gain 0", name).effect == 0
    ((growth, interval),) = found.steps("gain 2")
    assert growth == pytest.approx(found.row("gain 2", "whole").effect - found.row("gain 2", "half").effect)
    assert 0 < interval[0] < growth < interval[1]
    assert "20" not in found.table().rows[0] and len(found.table().rows) == 4
    assert [len(series.x) for series in found.chart().series] == [2, 2] and "12 fresh models" in str(found)
    assert (np.asarray(found.changed["whole"])[:, 0, 0] == 255).all()
    other = effects(2.0, label=0).row("gain 2", str(ON))
    assert other.effect < -0.3  # of the other class


def test_a_contrast_says_what_the_intervals_allow():
    found = effects(2.0, 0.0, 0.25)
    name = found.transforms[0]
    blind = found.contrast("gain 2", "gain 0", name)
    assert blind.verdict == "distinguishes" and blind.ratio == math.inf and blind.interval[0] == math.inf
    assert found.contrast("gain 0", "gain 2", name).verdict == "does not"
    weak = found.contrast("gain 2", "gain 0.25", name)
    assert weak.verdict == "does not"  # the second moves by 0.06
    assert weak.interval[0] < weak.ratio < weak.interval[1] < 8 and weak.interval[0] > 4
    assert found.contrast("gain 2", "gain 0.25", name, delta=0.3, epsilon=0.1).verdict == "distinguishes"
    edge = found.contrast("gain 2", "gain 0", name, delta=found.row("gain 2", name).effect, epsilon=0.0)
    assert edge.verdict == "undecided"
    assert math.isnan(found.contrast("gain 0", "gain 0", name).ratio)


def test_named_targets_and_a_bank_that_is_kept(tmp_path):
    found = effects(2.0, targets=[3, 5], to=tmp_path / "kept", retrainings=4)
    assert found.targets == 2 and found.shown == (3, 5)
    again = effects(2.0, targets=[3, 5], to=tmp_path / "kept", retrainings=4)
    assert (tmp_path / "kept" / "0.zarr").is_dir()
    np.testing.assert_array_equal(found.outputs["gain 2"], again.outputs["gain 2"])


def smaller(images):
    return images[:, 1:]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"transforms": smaller}, r"smaller returned uint8 of shape \(10, 3, 4\)"),
        ({"transforms": lambda x: x / 2}, "returned float64"),
        ({"transforms": ON.at(0.0)}, "left all 10 targets as they are"),
        ({"transforms": [ON, ON]}, "two transforms have the same name"),
        ({"transforms": []}, "transforms is empty"),
        ({"transforms": ["patch"]}, "must be functions of images"),
        ({"label": "maybe"}, "there is no class 'maybe'; classes are no, yes"),
        ({"label": 2}, "label is 2, but labels run from 0 to 1"),
        ({"targets": [99]}, "no target 99"),
        ({"targets": []}, "names no target"),
        ({"retrainings": 1}, "retrainings is 1"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(InputError, match=says):
        effects(1.0, **options)


def test_bad_studies_and_names():
    with pytest.raises(InputError, match="no labelled inputs"):
        plain = whence.Study.from_function(lambda mask, seed: np.zeros(3), n=4, targets=3)
        feature_effects({"plain": plain}, ON, 0)
    with pytest.raises(InputError, match="has other targets"):
        feature_effects({"a": study(1.0), "b": study(1.0, targets=slice(5, 25))}, ON, "yes")
    with pytest.raises(InputError, match="studies is empty"):
        feature_effects({}, ON, "yes")
    found = effects(1.0, retrainings=2)
    with pytest.raises(InputError, match="there is no effect of 'other'"):
        found.row("gain 1", "other")
    with pytest.raises(InputError, match="epsilon <= delta"):
        found.contrast("gain 1", "gain 1", found.transforms[0], delta=0.1, epsilon=0.2)
