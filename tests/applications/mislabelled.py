"""A study with wrong labels that are known, and a learner that takes no time."""

import numpy as np
import torch

import whence
from whence.study.variants import self_targets, with_outputs

N, CLASSES, WRONG = 90, 3, 12
CENTRES = 4 * np.eye(CLASSES)


def points(count, seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    return (CENTRES[labels] + rng.normal(size=(count, CLASSES))).astype(np.float32), labels


X, TRUTH = points(N, 0)
FLIPPED = np.random.default_rng(1).permutation(N)[:WRONG]
GIVEN = TRUTH.copy()
GIVEN[FLIPPED] = (TRUTH[FLIPPED] + 1) % CLASSES
IS_WRONG = GIVEN != TRUTH
HELD_OUT = points(60, 2)


def means(inputs, labels, seed):
    """Nearest class mean, a little different for every seed."""
    noise = torch.randn(CLASSES, CLASSES, generator=torch.Generator().manual_seed(seed)) * 0.1
    centres = torch.stack([inputs[labels == c].mean(0) for c in range(CLASSES)]) + noise
    return lambda x: -torch.cdist(x, centres)


def study(**changes):
    names = {"classes": ["red", "green", "blue"], **changes}
    made = whence.Study.from_training_function(means, (X, GIVEN), HELD_OUT, **names)
    return made


def bank(path, outputs=("logits",), rows=40, keep=0.5):
    asked = with_outputs(self_targets(study()), outputs)
    return whence.retrain(asked, rows, to=path, keep=keep, workers=0, progress=False)
