"""Watching a run: the same run, read at the end of each epoch; threshold classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import whence
from tests.training.studies import CLASSES, N, study
from whence.errors import InputError
from whence.study.variants import self_targets, with_outputs
from whence.training import dynamics


@pytest.mark.parametrize("model", ["logistic", "conv"])
def test_the_last_epoch_is_the_trained_network(model):
    subject = study(model, label_smoothing=0.1, augment=whence.Augment(translate=1))
    found = dynamics(subject, runs=2, seed=5)
    assert found.margin.shape == found.probability.shape == (2, 3, N)
    assert found.classes.shape == (N, CLASSES) and found.classes.sum(1) == pytest.approx(np.ones(N), abs=1e-5)
    own = with_outputs(self_targets(subject), ["margin_max"])
    runs = own.trainer().train(np.ones((2, N), bool), np.array([5, 6]))
    final = [run.outputs["margin_max"] for run in runs]
    assert np.array_equal(found.margin[:, -1], np.stack(final))  # watching disturbs nothing
    assert (found.probability[found.margin > 0] > 1 / CLASSES).all()
    assert found.counts.all() and not found.has_threshold_class
    assert found.train_ids.tolist() == subject.train_ids.tolist()


def test_earlier_epochs_are_those_of_a_shorter_run():
    """With a constant rate a run of one epoch is the beginning of a run of three."""
    long = study(schedule=whence.Constant())
    short = study(schedule=whence.Constant(), epochs=1)
    assert np.array_equal(dynamics(long).margin[0, 0], dynamics(short).margin[0, 0])


def test_the_user_s_random_state_is_left_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    dynamics(study("mlp"))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_threshold_class_takes_another_part_of_the_examples_in_each_run():
    found = dynamics(study("mlp", epochs=10), runs=CLASSES + 1, threshold_class=True)
    assert found.has_threshold_class and ((~found.counts).sum(0) == 1).all()
    assert set((~found.counts).sum(1)) == {N // (CLASSES + 1)}
    assert found.classes.shape == (N, CLASSES)
    area = found.margin.mean(1)
    # labels that are right are learnt sooner than a class without a meaning
    assert np.median(area[found.counts]) > np.median(area[~found.counts])


def test_other_rows_of_the_widened_layer_are_as_they_were():
    from whence.training.dynamics import _one_class_more

    def make(last=4):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.ModuleDict({"head": nn.Linear(5, last)})["head"])

    plain, wide = make(), _one_class_more(make, 4)
    x = torch.randn(6, 3)
    assert torch.equal(wide(x)[:, :4], plain(x)) and wide(x).shape == (6, 5)
    alone = _one_class_more(lambda: nn.Linear(3, 4, bias=False), 4)
    assert alone.out_features == 5 and alone.bias is None
    with pytest.raises(InputError, match=r"ends in a torch\.nn\.Linear with 4 outputs"):
        _one_class_more(lambda: make(6), 4)


def test_bad_input():
    with pytest.raises(InputError, match="runs is 0"):
        dynamics(study(), runs=0)
    for runs in (1, CLASSES + 2):
        with pytest.raises(InputError, match="threshold class it must be 2 to 4"):
            dynamics(study(), runs=runs, threshold_class=True)
    with pytest.raises(InputError, match="needs a study with a Recipe"):
        dynamics(whence.Study.from_function(lambda mask, seed: mask[:2], n=4, targets=2))
    none = study()
    none.recipe = replace(none.recipe, drop_last=True, batch_size=N + 1)
    with pytest.raises(InputError, match="leaves no step"):
        dynamics(none)
