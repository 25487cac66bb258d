"""The recorded step: made once for all trainers of a study, and (as on a GPU) in memory of its own."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.studies import CLASSES, masks, study, train
from whence.study import Adam
from whence.training import mlp, recorded, stacked


class Captured(recorded._Captured):
    """A captured step whose graph is the step itself: what surrounds a CUDA graph can be tested without."""

    def __init__(self, run, state, *others):
        self.state, self.others = recorded._copy(state), [tensor.clone() for tensor in others]
        self.run, self.graph = run, SimpleNamespace(replay=self.body)


@pytest.mark.parametrize("options", [{}, {"optimizer": Adam(1e-2)}, {"subset": "weighted"}])
@pytest.mark.parametrize("model", ["mlp", "conv"])
def test_a_captured_step_trains_as_a_recorded_one(model, options, monkeypatch):
    rows = masks(6)
    expected = train(study(model, **options), rows, range(6), stack=3)
    record = recorded._record
    made = []

    def captured(step, state, batch, weights):
        made.append(Captured(record(step, state, batch, weights), state, *batch, weights))
        return made[-1]

    monkeypatch.setattr(recorded, "_record", captured)
    monkeypatch.setattr(stacked, "own", recorded._copy)
    subject = study(model, **options)
    for _ in range(2):
        found = train(subject, rows, range(6), stack=3)  # two stacks, one after the other
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, other)
    assert len(made) == 1


def test_a_study_is_recorded_once_for_all_its_trainers(monkeypatch):
    made, record = [], recorded._record

    def counted(*given):
        made.append(given)
        return record(*given)

    monkeypatch.setattr(recorded, "_record", counted)
    subject, rows = study("mlp"), masks(4)
    first = train(subject, rows, range(4), stack=4)
    assert np.array_equal(train(subject, rows, range(4), stack=4), first) and len(made) == 1
    train(subject, rows, range(4), stack=2)  # another shape
    train(study("mlp"), rows, range(4), stack=4)  # another study
    assert len(made) == 3
    subject.recipe = study("mlp", optimizer=Adam(1e-2)).recipe
    assert not np.array_equal(train(subject, rows, range(4), stack=4), first) and len(made) == 4


def test_a_factory_that_makes_another_network_is_recorded_anew():
    width = [4]
    subject = study(lambda: mlp(64, CLASSES, (width[0],)))
    train(subject, masks(2), range(2), stack=2)
    width[0] = 6
    assert np.isfinite(train(subject, masks(2), range(2), stack=2)).all()


def test_a_choice_keeps_what_was_recorded_for_its_stack():
    subject, rows = study("mlp"), masks(8)
    choice = subject.trainer().choose(rows, np.arange(8))
    assert {key[0][0] for key in subject.trainer().step.recordings} <= {choice["stack"]}
