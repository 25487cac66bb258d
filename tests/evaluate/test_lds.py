"""LDS: closed forms, invariances, the coverage of its interval, and bad input."""

import json

import numpy as np
import pytest

from tests.evaluate.banks import LinearBank
from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate import compare, lds


@pytest.fixture(scope="module")
def bank():
    return LinearBank()


def test_noiseless_truth_scores_one_and_its_negative_minus_one():
    bank = LinearBank(noise=0.0)
    assert lds(bank.truth(), bank).mean == pytest.approx(1)
    assert lds(bank.truth(weight=-bank.weight), bank).mean == pytest.approx(-1)


def test_matches_scipy_target_by_target(bank):
    stats = pytest.importorskip("scipy.stats")
    guess = bank.guess()
    score = lds(guess, bank, bootstrap=0)
    groups = bank.by_mask("held_out", "margin")
    predicted, observed = guess.predict(groups.masks), groups.outputs.mean(1)
    expected = [stats.spearmanr(p, o).statistic for p, o in zip(predicted.T, observed.T, strict=True)]
    np.testing.assert_allclose(score.per_target, expected, atol=1e-6)
    assert score.mean == pytest.approx(np.mean(expected), abs=1e-6) == score.spearman
    expected = [stats.pearsonr(p, o).statistic for p, o in zip(predicted.T, observed.T, strict=True)]
    np.testing.assert_allclose(score.per_target_pearson, expected, atol=1e-5)
    assert lds(guess, bank, rank="pearson", bootstrap=0).mean == pytest.approx(np.mean(expected), abs=1e-5)


def test_scale_bias_and_order_of_train_and_targets_do_not_matter(bank):
    guess = bank.guess()
    base = lds(guess, bank)
    scaled = guess.weight * np.linspace(0.5, 20, 30)[:, None]
    assert lds(bank.truth(weight=scaled, bias=np.arange(30.0)), bank).mean == pytest.approx(
        base.mean, abs=1e-4
    )
    rng = np.random.default_rng(3)
    rows, columns = rng.permutation(30), rng.permutation(40)
    permuted = Attribution(
        guess.weight[rows][:, columns], target_ids=bank.target_ids[rows], train_ids=bank.train_ids[columns]
    )
    score = lds(permuted, bank, bootstrap=0)
    np.testing.assert_allclose(score.per_target, base.per_target[rows], atol=1e-4)
    assert score.target_ids.tolist() == bank.target_ids[rows].tolist()


def test_some_targets_are_enough(bank):
    guess = bank.guess()
    part = bank.truth(weight=guess.weight[5:9], target_ids=bank.target_ids[5:9])
    np.testing.assert_allclose(
        lds(part, bank, bootstrap=0).per_target, lds(guess, bank, bootstrap=0).per_target[5:9]
    )


def test_constant_predictions_count_as_zero_and_are_reported(bank):
    weight = bank.weight.copy()
    weight[:7] = 0
    weight[7] = 0.3  # fixed-size subsets: the same prediction for all, up to rounding
    score = lds(bank.truth(weight=weight), bank)
    assert score.constant == 8 and (score.per_target[:8] == 0).all()
    assert "8 with constant predictions count as 0" in str(score)
    assert lds(bank.truth(weight=0 * weight), bank).interval == (0, 0)


def test_perfect_predictor_meets_the_ceiling():
    scores = [
        lds(b.truth(), b, bootstrap=0)
        for b in (LinearBank(seed=s, noise=1.5, held_out=100) for s in range(10))
    ]
    gap = np.mean([s.mean - s.ceiling for s in scores])
    assert -0.02 < gap < 0.01
    assert np.mean([s.of_ceiling for s in scores]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("rank", ["spearman", "pearson"])
def test_interval_covers_the_score_of_endless_masks_and_targets(rank):
    """Masks and targets are new in every run; the truth is the mean score over many of both."""

    def run(seed, **size):
        bank = LinearBank(n=20, seed=seed, noise=1.0, models=10, **size)
        return lds(
            bank.guess(1.0, seed=seed), bank, rank=rank, bootstrap=200 if size["held_out"] < 100 else 0
        )

    truth = np.mean([run(1000 + s, targets=400, held_out=400).mean for s in range(3)])
    scores = [run(s, targets=25, held_out=40) for s in range(40)]
    covered = np.mean([s.interval[0] <= truth <= s.interval[1] for s in scores])
    assert covered >= 0.85
    width = np.mean([s.interval[1] - s.interval[0] for s in scores])
    assert width < 2 * 4 * np.std([s.mean for s in scores])  # and is not vacuous


def test_one_seed_gives_no_ceiling_but_a_sentence():
    bank = LinearBank(seeds=1)
    score = lds(bank.truth(), bank)
    assert score.ceiling is None and score.ceiling_interval is None and score.of_ceiling is None
    assert "2 seeds or more" in str(score)


def test_prints_everything_in_two_lines_and_becomes_json(bank):
    score = lds(bank.guess(), bank)
    text = str(score)
    assert len(text.splitlines()) == 2
    for word in (
        "LDS 0.",
        "[0.",
        "noise ceiling",
        "n=40",
        "keep=0.5",
        "60 held-out masks x 2 seeds",
        "30 targets",
    ):
        assert word in text
    assert json.loads(json.dumps(score.to_dict()))["interval"] == list(score.interval)
    assert score._repr_html_().startswith("<pre>LDS")
    assert (score.n, score.n_masks, score.seeds, score.keep, score.method) == (40, 60, 2, 0.5, "guess 1.0")


def test_same_seed_same_interval(bank):
    assert lds(bank.guess(), bank).interval == lds(bank.guess(), bank).interval
    assert lds(bank.guess(), bank, seed=1).interval != lds(bank.guess(), bank).interval


def test_vector_outputs():
    bank = LinearBank(vector=3, targets=8, noise=0.2)
    score = lds(bank.truth(), bank)
    assert score.per_target.shape == (8,) and score.mean > 0.9 and score.ceiling > 0.9


def test_comparison_is_paired_ranked_and_symmetric(bank):
    guesses = {"rough": bank.guess(2.0), "good": bank.guess(0.5), "good again": bank.guess(0.5)}
    result = compare(guesses, bank)
    assert list(result.scores)[2] == "rough"
    better = result.difference("good", "rough")
    assert better.difference == pytest.approx(result.scores["good"].mean - result.scores["rough"].mean)
    assert better.interval[0] > 0
    back = result.difference("rough", "good")
    assert (
        back.interval == (-better.interval[1], -better.interval[0]) and back.difference == -better.difference
    )
    assert result.difference("good", "good again").interval == (0, 0)
    assert not result.difference("good", "good again").disjoint
    single = lds(guesses["good"], bank)
    assert result.scores["good"].interval == single.interval and result.scores["good"].mean == single.mean
    assert "rough" in str(result) and json.dumps(result.to_dict())
    spread = [i[1] - i[0] for i in (better.interval, single.interval, result.scores["rough"].interval)]
    assert spread[0] < spread[1] + spread[2]
    with pytest.raises(InputError, match="no comparison"):
        result.difference("good", "best")


def test_comparison_aligns_targets_in_any_order(bank):
    order = np.random.default_rng(0).permutation(30)
    guess = bank.guess()
    shuffled = bank.truth(weight=guess.weight[order], target_ids=bank.target_ids[order])
    result = compare({"a": guess, "b": shuffled}, bank)
    assert result.difference("a", "b").interval == pytest.approx((0, 0), abs=1e-6)


def test_bad_input_gets_one_sentence(bank):
    cases = {
        "another study": bank.truth(provenance={"study": "other"}),
        "weighs 39 training examples": bank.truth(weight=bank.weight[:, 1:], train_ids=bank.train_ids[1:]),
        "unknown to the bank: x0, x1, x2 and 37 more": bank.truth(train_ids=[f"x{i}" for i in range(40)]),
        "30 targets that the bank has not recorded": bank.truth(target_ids=np.arange(30)),
        "output 'loss' is not recorded": bank.truth(output="loss"),
        "predicts outputs of shape": Attribution(
            np.zeros((30, 2, 40)), target_ids=bank.target_ids, train_ids=bank.train_ids
        ),
    }
    for sentence, attribution in cases.items():
        with pytest.raises(InputError, match=sentence) as caught:
            lds(attribution, bank)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="at least 3"):
        lds(bank.truth(), LinearBank(held_out=2))
    with pytest.raises(InputError, match="rank is 'kendall'"):
        lds(bank.truth(), bank, rank="kendall")
    with pytest.raises(InputError, match="attributions is empty"):
        compare({}, bank)
    with pytest.raises(InputError, match="the same targets"):
        compare(
            {"a": bank.truth(), "b": bank.truth(weight=bank.weight[:3], target_ids=bank.target_ids[:3])}, bank
        )
