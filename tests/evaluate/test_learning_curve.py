"""Learning curves: the right rows are seen, in the order of the plan, and the curve rises to the ceiling."""

import json

import numpy as np
import pytest

import whence
from tests.evaluate.banks import LinearBank
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate import learning_curve
from whence.evaluate.learning_curve import first_models, fitting_models


class DifferenceOfMeans:
    """Empirical influence, the plainest estimator there is."""

    def __init__(self):
        self.seen = []

    def attribute(self, bank, output):
        samples = [bank.select(part, "margin") for part in ("train", "validation")]
        self.seen.append(np.concatenate([s.mask_index for s in samples]))
        masks = np.concatenate([s.masks for s in samples]).astype(float)
        outputs = np.concatenate([s.outputs for s in samples])
        weight = outputs.T @ (masks / masks.sum(0) - (1 - masks) / (1 - masks).sum(0))
        return Attribution(
            weight, target_ids=bank.target_ids, train_ids=bank.train_ids, method="difference of means"
        )


def test_rises_with_models_and_carries_the_ceiling():
    bank = LinearBank(models=3000, noise=0.7)
    method = DifferenceOfMeans()
    curve = learning_curve(method, bank, models=(50, 400, 3000))
    assert curve.models == [50, 400, 3000]
    assert curve.lds[0] + 0.1 < curve.lds[1] and curve.lds[1] + 0.05 < curve.lds[2] < curve.ceiling + 0.02
    assert all(low < value < high for low, value, high in zip(curve.low, curve.lds, curve.high, strict=True))
    assert [len(seen) for seen in method.seen] == [50, 400, 3000]
    for seen, count in zip(method.seen, curve.models, strict=True):
        assert sorted(seen) == list(range(count))  # the first rows of the plan
    assert "3,000" in str(curve) and "noise ceiling" in str(curve) and json.dumps(curve.to_dict())


def test_view_leaves_held_out_rows_and_the_rest_of_the_bank_alone():
    bank = LinearBank(models=100)
    view = first_models(bank, 30, "margin")
    assert len(view.select("held_out", "margin").masks) == 120
    assert view.target_ids is bank.target_ids and fitting_models(view, "margin") == 30
    assert (
        len(view.select("train", "margin").masks) == 24
        and len(view.select("validation", "margin").masks) == 6
    )


def test_default_doubles_up_to_everything():
    curve = learning_curve(DifferenceOfMeans(), LinearBank(models=640), bootstrap=0)
    assert curve.models == [40, 80, 160, 320, 640] and curve.low == [None] * 5


def test_more_models_than_there_are():
    with pytest.raises(InputError, match="has 200 retrainings"):
        learning_curve(DifferenceOfMeans(), LinearBank(), models=(50, 201))


def test_with_a_bank_on_disk_and_the_methods_of_the_library(tmp_path):
    weight = np.random.default_rng(0).normal(size=(4, 20))

    def learner(mask, seed):
        return mask @ weight.T + np.random.default_rng(seed).normal(size=4)

    study = whence.Study.from_function(learner, n=20, targets=4)
    bank = whence.retrain(study, 400, to=tmp_path / "bank.zarr", workers=0, progress=False)
    for method in (whence.methods.Datamodel("lasso"), whence.methods.DifferenceOfMeans()):
        curve = learning_curve(method, bank, models=(40, 300), bootstrap=0)
        assert curve.lds[0] < curve.lds[1] <= curve.ceiling + 0.05
        direct = whence.evaluate.lds(method.attribute(first_models(bank, 300, "output")), bank, bootstrap=0)
        assert direct.mean == curve.lds[1]
    view = first_models(bank, 50, "output")
    masks = [view.select(part).masks for part in ("train", "validation")]
    assert sum(map(len, masks)) == 50
    np.testing.assert_array_equal(view.masks("train"), masks[0])
    assert len(view.outputs_of("output", "train")) == len(masks[0]) == len(view.packed_masks("train"))
    np.testing.assert_array_equal(view.by_mask("held_out").masks, bank.by_mask("held_out").masks)
    with pytest.raises(InputError, match="single retrainings"):
        view.by_mask("train")
