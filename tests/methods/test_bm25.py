"""BM25 against the formula written out, its signs and what it refuses."""

from math import log
from types import SimpleNamespace

import numpy as np
import pytest

from whence import methods
from whence.errors import InputError
from whence.methods.bm25 import bm25

TRAIN = ["a good film", "a bad bad film", "dogs", ""]
TARGETS = ["bad film", "Bad, bad", "cats"]


def formula(document, query, documents, k1, b):
    mean = np.mean([len(d) for d in documents])
    total = 0.0
    for word in query:
        n_w = sum(word in d for d in documents)
        f = document.count(word)
        if f == 0:
            continue
        idf = log(1 + (len(documents) - n_w + 0.5) / (n_w + 0.5))
        total += idf * f * (k1 + 1) / (f + k1 * (1 - b + b * len(document) / mean))
    return total


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.0, 0.0), (2.0, 1.0)])
def test_bm25_is_the_formula(k1, b):
    train, targets = [t.split() for t in TRAIN], [t.lower().replace(",", "").split() for t in TARGETS]
    expected = [[formula(d, q, train, k1, b) for d in train] for q in targets]
    np.testing.assert_allclose(bm25(train, targets, k1, b), expected)


@pytest.fixture
def study():
    return SimpleNamespace(
        train_ids=np.arange(4), target_ids=np.arange(3), fingerprint="f", outputs=("margin", "loss"),
        train_texts=np.array(TRAIN), target_texts=np.array(TARGETS),
        train_labels=np.array([1, 0, 1, 0]), target_labels=np.array([0, 0, 1]),
    )  # fmt: skip


def test_classes_sign_it_and_a_loss_turns_it(study):
    plain = methods.BM25(signed=False).attribute(study)
    assert plain.weight.dtype == np.float32 and plain.weight[0].argmax() == 1 and (plain.weight[2] == 0).all()
    assert (plain.weight[1] > 0).tolist() == [False, True, False, False], "words are compared in lower case"
    signed = methods.BM25().attribute(study)
    assert signed.weight[0, 1] > 0 > signed.weight[0, 0] and "signed by class" in signed.method
    np.testing.assert_array_equal(methods.BM25().attribute(study, "loss").weight, -signed.weight)


def test_given_texts_do_without_those_of_a_study(study):
    own = methods.BM25(signed=False).attribute(study).weight
    del study.train_texts
    given = methods.BM25((TRAIN, TARGETS), signed=False).attribute(study).weight
    np.testing.assert_array_equal(given, own)
    with pytest.raises(InputError, match="lacks texts"):
        methods.BM25().attribute(study)
    with pytest.raises(InputError, match="3 training texts and 3 targets"):
        methods.BM25((TRAIN[:3], TARGETS)).attribute(study)
    with pytest.raises(InputError, match="k1 is -1"):
        methods.BM25(k1=-1)
