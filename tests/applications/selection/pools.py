"""Pools that the tests of selection share."""

import numpy as np

import whence
from whence.study import Study

CATS = "the cat sat on the warm mat and purred softly while the old cat slept nearby".split()
LOANS = "the bank raised its rate on every loan because credit risk grew this quarter".split()


def text(words, rng, length=20):
    return " ".join(rng.choice(words, length))


def texts_study(n=60, targets=8, seed=0, duplicate=()):
    """Even candidates are of the targets' kind. The training is a function that nothing here calls."""
    rng = np.random.default_rng(seed)
    train = [text(CATS if i % 2 == 0 else LOANS, rng) for i in range(n)]
    for copy, original in duplicate:
        train[copy] = train[original]
    wanted = [text(CATS, rng) for _ in range(targets)]
    study = Study.from_function(lambda mask, seed: np.zeros(targets), n=n, targets=targets, outputs=["loss"])
    study.train_texts, study.target_texts = np.array(train), np.array(wanted)
    return study


def additive(weight, report, noise=0.0):
    """(selection study, report study) of a learner whose loss on each target is minus a sum of `weight` (n,),
    shared by all targets, and is known to the report study under other target ids."""

    def train(mask, seed):
        rng = np.random.default_rng(seed)
        return -(weight @ mask) / mask.sum() * np.ones(report) + noise * rng.normal()

    make = Study.from_function
    ids = [f"report/{i}" for i in range(report)]
    return (
        make(train, n=len(weight), targets=report, outputs=["loss"]),
        make(train, n=len(weight), targets=ids, outputs=["loss"]),
    )


def network(width=16):
    from torch import nn

    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def examples(n, rng, noise=0.0):
    """Three classes of Gaussian clouds, a share of the labels drawn at random."""
    y = rng.integers(0, 3, n)
    centres = np.array([[2, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0], [0, 0, 2, 0, 0, 0]], np.float32)
    x = (centres[y] + rng.normal(size=(n, 6))).astype(np.float32)
    wrong = rng.random(n) < noise
    return x, np.where(wrong, (y + 1) % 3, y), wrong


def noisy_studies(n=200, targets=40, optimizer=None, epochs=8):
    """(selection, report, which candidates have wrong labels) of a small classifier."""
    rng = np.random.default_rng(0)
    x, y, wrong = examples(n, rng, 0.4)
    recipe = whence.Recipe(
        model=network, epochs=epochs, batch_size=20, optimizer=optimizer or whence.Adam(lr=0.01)
    )
    halves = [examples(targets, rng)[:2] for _ in range(2)]
    make = [Study((x, y), half, recipe, outputs=["loss", "margin"]) for half in halves]
    return *make, wrong
