"""The forecast's closed form, and blocks found or not by simulation where it says so."""

import numpy as np
import pytest

from whence.applications.backdoor import expected_ratio, retrainings_needed
from whence.applications.backdoor.candidates import candidate
from whence.errors import InputError
from whence.methods.difference import difference_of_means


def test_closed_form():
    # analysis of the paper's setting: 64 p (sd / D)^2 at a half and a ratio of 4
    assert retrainings_needed(100, effect=2, spread=1, ratio=4) == 1600
    assert retrainings_needed(100, effect=2, spread=1, keep=0.2, ratio=4) == 2500
    assert expected_ratio(100, 2, 1, 1600) == pytest.approx(4)
    needed = retrainings_needed(37, 0.7, 1.3, 0.3)
    assert expected_ratio(37, 0.7, 1.3, needed, 0.3) >= 5 > expected_ratio(37, 0.7, 1.3, needed - 1, 0.3)


def overlap(ratio, seed, m=200, size=25, effect=1.0):
    """Share of a planted group that is found in weights from as many retrainings as the ratio asks for."""
    rng = np.random.default_rng(seed)
    k = retrainings_needed(size, effect, 1.0, ratio=ratio)
    masks = rng.random((k, m)) < 0.5
    outputs = rng.normal(size=(k, m))
    inside = rng.choice(m, size, replace=False)
    # the rest of the spread, so that the members' is 1 as well
    outputs[:, inside] *= np.sqrt(1 - effect**2 / size / 4)
    outputs[:, inside] += effect / size * (masks[:, inside] - 0.5).sum(1, keepdims=True)
    found = candidate(difference_of_means(masks, outputs).weight, np.arange(m), None, 16, 0)
    return len(np.intersect1d(found.members, inside)) / max(size, found.size)


def test_blocks_are_found_from_the_ratio_on():
    assert np.mean([overlap(6, seed) for seed in range(4)]) > 0.7
    assert np.mean([overlap(1.5, seed) for seed in range(4)]) < 0.4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 1}, "size is 1"),
        ({"effect": 0}, "effect is 0"),
        ({"spread": np.inf}, "spread is inf"),
        ({"keep": 1.0}, "keep is 1"),
        ({"ratio": 0}, "ratio is 0"),
    ],
)
def test_bad_input(changes, words):
    with pytest.raises(InputError, match=words):
        retrainings_needed(**{"size": 20, "effect": 1, "spread": 1, **changes})
    with pytest.raises(InputError, match="retrainings is 0"):
        expected_ratio(20, 1, 1, 0)
