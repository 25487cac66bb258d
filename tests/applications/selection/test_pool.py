"""What selectors see, and what may not be a target."""

import numpy as np
import pytest

import whence
from tests.applications.selection.pools import network, texts_study
from whence.applications.selection import Pool, Random, Selector, near_duplicates, scores_of
from whence.errors import InputError
from whence.study import Study

RECIPE = whence.Recipe(model=network, epochs=1, batch_size=8, optimizer=whence.SGD(lr=0.1))


def study(train=None, targets=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 6)).astype(np.float32)
    q = rng.normal(size=(5, 6)).astype(np.float32)
    y, a = np.arange(12) % 3, np.arange(5) % 3
    return Study(train or (x, y), targets or (q, a), RECIPE, target_ids=list("abcde"))


def test_tasks_are_parts_of_the_targets():
    pool = Pool(study(), groups=np.arange(12) // 2)
    assert pool.n == 12 and pool.task == "targets" and pool.sizes.sum() == 12
    part = pool.only(["d", "a"], "some")
    assert part.target_ids.tolist() == ["d", "a"] and part.target_index.tolist() == [3, 0]
    assert pool.target_ids.tolist() == list("abcde") and part.groups is pool.groups
    made = []
    assert part.remember(pool, lambda: made.append(1) or "once") == "once"
    assert pool.remember(pool, lambda: made.append(1) or "twice") == "once" and made == [1]


def test_texts_follow_the_targets():
    pool = Pool(texts_study()).only([2], "one")
    assert pool.target_texts.tolist() == [pool.study.target_texts[2]] and len(pool.texts) == pool.n


def test_a_target_that_is_a_candidate_is_refused():
    x = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    y = np.arange(12) % 3
    with pytest.raises(InputError, match="1 of 5 target examples are also candidates, the first is number 4"):
        Pool(study((x, y), (np.r_[x[:4] + 1, x[7:8]], np.r_[y[:4], y[7]])))
    # in another number format it is the same example; under another label it is not
    with pytest.raises(InputError, match="also candidates"):
        Pool(study((x, y), (x[:5].astype(np.float64), y[:5])))
    Pool(study((x, y), (x[:5], (y[:5] + 1) % 3)))
    with pytest.raises(InputError, match="also candidates"):
        Pool(whence.study.variants.self_targets(study()))


@pytest.mark.parametrize(
    "how, words",
    [
        ({"targets": []}, "has no target example"),
        ({"targets": ["a", "z"]}, "'z' is no target of the study"),
        ({"targets": ["a", "a"]}, "named twice"),
        ({"sizes": [1.0]}, "sizes must be 12 positive numbers"),
        ({"sizes": -np.ones(12)}, "not positive"),
        ({"groups": [1, 2]}, "groups must have one label for each of 12"),
    ],
)
def test_bad_pools(how, words):
    with pytest.raises(InputError, match=words):
        Pool(study(), **how)


class Broken(Selector):
    name = "broken"

    def __init__(self, values):
        self.values = values

    def scores(self, pool, seed=0):
        return self.values


def test_scores_are_checked():
    pool = Pool(study())
    assert scores_of(Random(), pool).shape == (12,)
    with pytest.raises(InputError, match=r"scores of broken have shape \(3,\)"):
        scores_of(Broken(np.zeros(3)), pool)
    with pytest.raises(InputError, match="scores of broken hold 1 values that are not finite"):
        scores_of(Broken(np.r_[np.zeros(11), np.nan]), pool)


def test_near_duplicates_of_texts():
    pool = Pool(texts_study(duplicate=[(7, 3), (21, 3)]))
    labels = near_duplicates(pool)
    assert labels[7] == labels[3] == labels[21] and len(np.unique(labels)) == pool.n - 2
    # nearly the same: one word of twenty changed leaves 11 of 21 runs of five
    words = pool.texts[10].split()
    pool.study.train_texts[11] = " ".join([*words, "indeed"])
    assert near_duplicates(pool)[10] == near_duplicates(pool)[11]
    pool.study.train_texts[11] = " ".join([*words[:10], "indeed", *words[11:]])
    assert near_duplicates(pool)[10] != near_duplicates(pool)[11]
    assert near_duplicates(pool, threshold=0.3)[10] != near_duplicates(pool, threshold=0.9)[11]


def test_duplicates_without_texts_are_equal_inputs():
    x = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)
    x[5] = x[2]
    labels = near_duplicates(Pool(study((x, np.arange(12) % 3))))
    assert labels[5] == labels[2] and len(np.unique(labels)) == 11
    assert near_duplicates(Pool(Study.from_function(lambda mask, seed: [0.0], n=5, targets=1))) is None
