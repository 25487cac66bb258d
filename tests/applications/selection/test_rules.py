"""Each rule against its published definition, written out plainly; what none of them may depend on."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

import whence.methods as methods
from tests.applications.selection.pools import noisy_studies, texts_study
from whence.applications.selection import (
    BM25,
    DSIR,
    Attributed,
    Classifier,
    Perplexity,
    Pool,
    Random,
    SemanticDeduplication,
    Similarity,
    scores_of,
    select,
)
from whence.attribution import Attribution
from whence.errors import InputError
from whence.study.variants import self_targets, with_outputs

EVEN = np.arange(60) % 2 == 0  # candidates of the targets' kind


@pytest.fixture(scope="module")
def pool():
    return Pool(texts_study())


def test_random_choices_are_nested_and_drawn_anew_for_each_seed(pool):
    small, large = (select(Random().scores(pool, 1), count=k) for k in (10, 30))
    assert set(small) < set(large)
    assert set(small) != set(select(Random().scores(pool, 2), count=10))


def test_dsir_weights_are_the_likelihood_ratio_of_hashed_n_grams(pool):
    def grams(text):
        words = re.findall(r"\w+|[^\w\s]+", text.lower())
        return Counter(words + [" ".join(pair) for pair in pairwise(words)])

    # in so many buckets none is shared, and only the n-grams themselves count
    weights = DSIR(buckets=2**20).log_weights(pool)
    train, target = (sum(map(grams, part), Counter()) for part in (pool.texts, pool.target_texts))
    shares = [{gram: count / side.total() for gram, count in side.items()} for side in (train, target)]
    for i in (0, 1, 7):
        expected = sum(
            count * (np.log(shares[1].get(gram, 0) + 1e-8) - np.log(shares[0][gram] + 1e-8))
            for gram, count in grams(pool.texts[i]).items()
        )
        assert weights[i] == pytest.approx(expected, rel=1e-6)


def test_dsir_draws_in_proportion_to_the_weights():
    pool = Pool(texts_study(n=6))
    rule = DSIR()
    spread = rule.log_weights(pool)
    chance = np.exp(spread - spread.max())
    chance /= chance.sum()
    first = np.bincount([int(np.argmax(rule.scores(pool, seed))) for seed in range(800)], minlength=6) / 800
    assert np.abs(first - chance).max() < 4 * np.sqrt(0.25 / 800)


@pytest.mark.parametrize("rule", [DSIR(), Classifier(), BM25(), Similarity()], ids=lambda rule: rule.name)
def test_rules_that_read_the_targets_find_their_kind(pool, rule):
    chosen = select(scores_of(rule, pool), count=20)
    assert EVEN[chosen].mean() >= 0.95
    loans = pool.only(pool.target_ids, "again")
    np.testing.assert_allclose(scores_of(rule, loans), scores_of(rule, pool))


def test_a_classifier_does_not_read_length_as_evidence():
    study = texts_study(n=40)
    once = scores_of(Classifier(), Pool(study))
    study.train_texts = np.array([" ".join([text] * 3) for text in study.train_texts])
    thrice = scores_of(Classifier(longest=1), Pool(study))
    short = texts_study(n=40)
    np.testing.assert_allclose(thrice, scores_of(Classifier(longest=1), Pool(short)), atol=1e-6)
    assert EVEN[:40][select(once, count=10)].all()


def test_a_classifier_scores_no_candidate_that_it_trained_on():
    # all candidates alike: one that was a negative of its own classifier would score below a fresh one
    study = texts_study(n=40)
    study.train_texts = np.array([f"cat {i}" for i in range(40)])
    scores = scores_of(Classifier(longest=1), Pool(study))
    assert np.ptp(scores) < 0.3 * abs(scores.mean()) + 0.5


def test_bm25_is_the_mean_over_targets_of_the_method_s_scores(pool):
    each = methods.BM25(signed=False).attribute(pool.study, "loss").weight
    np.testing.assert_allclose(scores_of(BM25(), pool), -each.mean(0), rtol=1e-5)
    part = pool.only([1, 5], "part")
    np.testing.assert_allclose(scores_of(BM25(), part), -each[[1, 5]].mean(0), rtol=1e-5)


@pytest.mark.parametrize("reduce", ["mean", "max"])
def test_similarity_reduces_the_method_s_scores(pool, reduce):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)), rng.normal(size=(8, 5))
    each = -methods.Similarity(features, signed=False).attribute(pool.study, "loss").weight
    rule = Similarity(features, reduce)
    np.testing.assert_allclose(scores_of(rule, pool), getattr(each, reduce)(0), atol=1e-5)
    part = pool.only([0, 7], "part")
    np.testing.assert_allclose(scores_of(rule, part), getattr(each[[0, 7]], reduce)(0), atol=1e-5)


def test_semantic_deduplication_against_all_pairs():
    pool = Pool(texts_study())
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, 4)).astype(np.float32)
    train[30:40] = train[:10] * np.linspace(0.5, 2, 10)[:, None]  # copies up to length
    rule = SemanticDeduplication((train, train[:8]), threshold=0.999, clusters=1)
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    order = np.argsort(unit @ unit.mean(0), kind="stable")  # farthest from the centre first
    expected = np.full(60, -1.0)
    for place, i in enumerate(order):
        if place:
            expected[i] = (unit[order[:place]] @ unit[i]).max()
    np.testing.assert_allclose(rule.redundancy(pool), expected, atol=1e-5)
    scores = rule.scores(pool, 0)
    kept = scores > 0
    assert kept.sum() == 50 and all(kept[i] != kept[i + 30] for i in range(10))
    # a choice of those kept is uniform, one beyond them takes the least redundant
    assert set(select(scores, count=50)) == set(np.flatnonzero(kept))
    assert not np.array_equal(rule.scores(pool, 1)[kept], scores[kept])


def test_semantic_deduplication_of_texts_by_clusters():
    pool = Pool(texts_study(duplicate=[(7, 3), (21, 3), (40, 2)]))
    dropped = np.flatnonzero(scores_of(SemanticDeduplication(clusters=5), pool) < 0)
    assert len(set(dropped) & {3, 7, 21}) == 2 and len(set(dropped) & {2, 40}) == 1


def test_perplexity_is_the_loss_of_models_that_did_not_see_the_candidate():
    study, _, wrong = noisy_studies()
    pool = Pool(study)
    losses = Perplexity().losses(pool, seed=2)
    np.testing.assert_array_equal(Perplexity(device="cpu").losses(pool, seed=2), losses)
    half = whence_half(200, 2)
    targets = with_outputs(self_targets(study), ["loss"])
    runs = list(targets.trainer().train(np.stack([half, ~half]), np.array([2, 3])))
    np.testing.assert_allclose(losses, np.where(half, runs[1].outputs["loss"], runs[0].outputs["loss"]))
    assert losses[wrong].mean() > losses[~wrong].mean()
    assert select(Perplexity("low").scores(pool, 2), count=1)[0] == losses.argmin()
    assert select(Perplexity("high").scores(pool, 2), count=1)[0] == losses.argmax()
    middle = select(Perplexity("middle").scores(pool, 2), count=20)
    np.testing.assert_array_equal(np.sort(losses[middle]), np.sort(losses)[90:110])


def whence_half(n, seed):
    from whence.subsets import Subsets

    return Subsets.uniform(n, 0.5, seed).mask(0)


WEIGHT = np.random.default_rng(1).normal(size=(8, 60))


def attribution(weight=WEIGHT, output="loss", **labels):
    return Attribution(weight, output=output, **{"train_ids": range(60), "target_ids": range(8), **labels})


def test_attributions_are_averaged_and_a_loss_turns_the_sign(pool):
    np.testing.assert_allclose(
        scores_of(Attributed.given(attribution()), pool), -WEIGHT.mean(0), rtol=1e-5, atol=1e-7
    )
    margins = Attributed.given(attribution(output="margin"))
    np.testing.assert_allclose(scores_of(margins, pool), WEIGHT.mean(0), rtol=1e-5, atol=1e-7)
    part = pool.only([6, 2], "part")
    np.testing.assert_allclose(
        scores_of(Attributed.given(attribution()), part), -WEIGHT[[2, 6]].mean(0), rtol=1e-5, atol=1e-7
    )
    # right up to scale is enough
    scaled = scores_of(Attributed.given(attribution(1e-4 * WEIGHT)), pool)
    np.testing.assert_array_equal(
        select(scaled, count=9), select(scores_of(Attributed.given(attribution()), pool), count=9)
    )


def test_attributions_in_another_order_are_put_in_the_pool_s(pool):
    order = np.random.default_rng(2).permutation(60)
    mixed = attribution(WEIGHT[:, order], train_ids=order)
    np.testing.assert_allclose(
        scores_of(Attributed.given(mixed), pool), -WEIGHT.mean(0), rtol=1e-5, atol=1e-7
    )


def test_attributions_on_disk_are_read_a_row_at_a_time(pool, tmp_path):
    attribution().save(tmp_path / "scores")
    stored = Attributed.given(Attribution.load(tmp_path / "scores"))
    np.testing.assert_allclose(scores_of(stored, pool), -WEIGHT.mean(0), rtol=1e-5, atol=1e-7)


def test_rows_may_be_means_over_tasks(pool):
    tasks = attribution(WEIGHT[:2], target_ids=["songs", "sums"])
    part = pool.only([0, 1], "sums")
    np.testing.assert_allclose(scores_of(Attributed.given(tasks), part), -WEIGHT[1], rtol=1e-5)
    with pytest.raises(InputError, match="explains neither the 8 target examples of 'targets' nor a mean"):
        scores_of(Attributed.given(tasks), pool)


def test_groups_of_trak_are_means_of_its_rows():
    study, _, _ = noisy_studies(n=60, targets=10, epochs=3)
    pool = Pool(study).only([1, 4, 7], "few")
    single = scores_of(Attributed(methods.TRAK(2)), pool)
    grouped = scores_of(Attributed(methods.TRAK(2, groups={"few": [1, 4, 7]})), pool)
    np.testing.assert_allclose(grouped, single, rtol=1e-4, atol=1e-6 * np.abs(single).max())


def test_a_method_runs_once_for_all_tasks(pool):
    class Counting(methods.Random):
        runs = 0

        def attribute(self, source, output=None):
            Counting.runs += 1
            return super().attribute(source, output)

    rule = Attributed(Counting())
    first, second = (scores_of(rule, pool.only([i], str(i))) for i in (0, 1))
    assert Counting.runs == 1 and not np.allclose(first, second)


def test_attributions_that_do_not_fit(pool):
    with pytest.raises(InputError, match=r"weighs no candidate 59 \(1 of 60 are missing\)"):
        scores_of(Attributed.given(attribution(WEIGHT[:, :59], train_ids=range(59))), pool)
    vector = Attribution(WEIGHT[:, None], output="logits", target_ids=range(8), train_ids=range(60))
    with pytest.raises(InputError, match="vector output"):
        scores_of(Attributed.given(vector), pool)


def test_what_a_study_lacks_is_said_before_anything_is_scored():
    from whence.study import Study

    bare = Pool(Study.from_function(lambda mask, seed: [0.0], n=5, targets=1))
    for rule in (DSIR(), Classifier(), BM25()):
        with pytest.raises(InputError, match=f"{rule.name} received .* which lacks texts"):
            scores_of(rule, bare)
    with pytest.raises(InputError, match=r"perplexity received .* lacks the examples"):
        scores_of(Perplexity(), bare)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: DSIR(buckets=1), "buckets=1 must be at least 2"),
        (lambda: Classifier(cost=0), "cost=0 positive"),
        (lambda: Similarity(reduce="sum"), 'reduce must be "mean" or "max"'),
        (lambda: SemanticDeduplication(threshold=1.0), "threshold is a cosine"),
        (lambda: SemanticDeduplication(clusters=0), "clusters must be at least 1"),
        (lambda: Perplexity("best"), 'keep must be "low", "middle" or "high"'),
        (lambda: Perplexity(pairs=0), "pairs must be at least 1"),
    ],
)
def test_bad_settings(make, words):
    with pytest.raises(InputError, match=words):
        make()
