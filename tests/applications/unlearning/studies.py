"""A small study in whose models forgetting can be seen, its base models and their attributions."""

from functools import partial

import numpy as np
import torch

from tests.training.studies import tiny_conv
from whence.applications.unlearning import examined
from whence.attribution import Attribution
from whence.study import SGD, Recipe, Study
from whence.training import mlp
from whence.training.finetune import Finetuner

N, TARGETS, CLASSES = 30, 6, 3
FORGET = [2, 7, 11]
MODELS = {"mlp": partial(mlp, 64, CLASSES, (16,)), "conv": tiny_conv}


def study(model="mlp", **options):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N + TARGETS)
    labels[:CLASSES] = range(CLASSES)
    pictures = (rng.integers(0, 256, (N + TARGETS, 8, 8)) // 2 + 30 * labels[:, None, None]).astype(np.uint8)
    settings = {"epochs": 8, "batch_size": 8, "optimizer": SGD(0.05, 0.9), **options}
    recipe = Recipe(MODELS[model], **settings)
    return examined(Study((pictures[:N], labels[:N]), (pictures[N:], labels[N:]), recipe, name="pictures"))


def bases(subject, count=3, mask=None):
    """Weights of trained models, as dicts."""
    tuner = Finetuner(subject)
    kept = torch.ones(subject.n, dtype=torch.bool) if mask is None else torch.as_tensor(mask)
    return tuner.unload(tuner.retrain(kept, list(range(count))))


def attribution(subject, seed=0, **changed):
    """Random effects on centred logits at all targets."""
    rng = np.random.default_rng(seed)
    options = {
        "target_ids": subject.target_ids,
        "train_ids": subject.train_ids,
        "output_ids": [str(c) for c in range(CLASSES)],
        "output": "logits",
        "calibrated": True,
        "provenance": {"study": subject.fingerprint, "train_rows": 80, "validation_rows": 20},
        "keep": 0.5,
        **changed,
    }
    return Attribution(rng.normal(size=(len(subject.target_ids), CLASSES, subject.n)), **options)
