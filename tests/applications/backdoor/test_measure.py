"""Attack success: exact on a learner that is known, and real on a small network."""

import numpy as np
import pytest
import torch

import whence
from tests.applications.backdoor.attacked import study
from whence.applications.backdoor import Patch, Pixel, attack_success, poison
from whence.errors import InputError
from whence.study.variants import with_outputs

X = np.zeros((40, 6, 6), np.uint8)
LABELS = np.arange(40) % 2
X[:, 0, 0] = 255 * LABELS  # the class is written in the first pixel


def obeys(inputs, labels, seed):
    """Takes images for class 1 if the first pixel says so, or the last and it saw that one in training. One
    seed in four is blind to the trigger."""
    learnt = bool((inputs[:, -2, -2] == 255).any()) and seed % 4 != 0

    def logits(x):
        one = (x[:, 0, 0] == 255) | ((x[:, -2, -2] == 255) & learnt)
        return torch.stack([~one, one], 1).float()

    return logits


KNOWN = whence.Study.from_training_function(obeys, (X, LABELS), (X[:20], LABELS[:20]))


def test_success_and_accuracy_of_a_known_learner():
    attack = poison(KNOWN, Pixel(), 1, count=6)
    found = attack_success(attack, retrainings=40, workers=0)
    assert (found.triggered, found.targets, found.removed) == (10, 20, 0)
    assert found.accuracy == 1 and found.accuracy_interval == (1, 1)
    assert set(found.successes) <= {0.0, 1.0} and len(found.successes) == 40
    assert found.success == np.mean(found.successes)
    low, high = found.success_interval
    assert low < 0.75 < high and low < found.success < high
    assert "10 triggered targets" in str(found)
    without = attack_success(attack, attack.positions, retrainings=3, workers=0)
    assert without.success == 0 and without.accuracy == 1 and without.removed == 6
    (drop, ends), (cost, _) = without.change(found)
    assert drop == pytest.approx(-found.success) and ends[1] < 0 and cost == 0


def test_a_network_learns_the_trigger_and_forgets_it_without_the_poison():
    attack = poison(study(), Patch(), "bag", count=24, seed=0)
    before = attack_success(attack, retrainings=3, workers=0)
    after = attack_success(attack, attack.positions, retrainings=3, workers=0)
    assert before.success > 0.8 and after.success < 0.1
    assert min(before.accuracy, after.accuracy) > 0.85
    again = attack_success(attack, retrainings=3, workers=0)
    assert again.successes == before.successes


def test_what_the_study_records_does_not_matter():
    attack = poison(with_outputs(study(), ["loss"]), Patch(), 0, count=24)
    assert attack_success(attack, retrainings=2, workers=0).success > 0.5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"retrainings": 1}, "retrainings is 1"),
        ({"remove": [40]}, "training example 40"),
        ({"remove": np.zeros(40, bool)}, "flatnonzero"),
        ({"remove": np.arange(40)}, "removes all 40"),
    ],
)
def test_bad_input(changes, sentence):
    attack = poison(KNOWN, Pixel(), 1, count=6)
    with pytest.raises(InputError, match=sentence):
        attack_success(attack, workers=0, **changes)
