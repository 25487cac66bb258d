"""KLoM against the digest's tables, a plain loop, closed forms, and its floor."""

import math

import numpy as np
import pytest

from whence.applications.unlearning import klom, klom_values, suggest_bins
from whence.applications.unlearning.klom import binned, divergence
from whence.applications.unlearning.sides import ends, resampled
from whence.errors import InputError

CAP = math.log(1e5)


def normal(seed, models, points, shift=0.0):
    return shift + np.random.default_rng(seed).normal(size=(models, points))


# mean, 95th percentile with the largest sample counted, then as published, where it is dropped
FLOORS = {
    10: (5.61, 7.99, 5.57, 8.42),
    20: (3.06, 5.02, 2.99, 5.00),
    50: (0.90, 1.73, 0.86, 1.72),
    100: (0.350, 0.675, 0.34, 0.68),
    200: (0.150, 0.286, 0.14, 0.28),
}


@pytest.mark.parametrize("models", FLOORS)
def test_two_samples_of_one_distribution_give_the_known_floor(models):
    values = klom_values(normal(1, models, 4_000), normal(2, models, 4_000))
    mean, p95, published, published_p95 = FLOORS[models]
    assert values.mean() == pytest.approx(mean, rel=0.03)
    assert np.percentile(values, 95) == pytest.approx(p95, rel=0.05)
    # counting the largest sample makes a few per cent
    assert mean == pytest.approx(published, abs=0.01, rel=0.05)
    assert p95 == pytest.approx(published_p95, abs=0.01, rel=0.06)


@pytest.mark.parametrize("models", FLOORS)
def test_without_the_largest_sample_the_floor_is_the_published_one(models):
    p, q = normal(1, models, 4_000), normal(2, models, 4_000)
    values = dropping_the_largest(p, q)
    _, _, mean, p95 = FLOORS[models]
    assert values.mean() == pytest.approx(mean, rel=0.03, abs=0.007)  # the table has two digits
    assert np.percentile(values, 95) == pytest.approx(p95, rel=0.05, abs=0.005)


def dropping_the_largest(unlearned, oracles):
    """The public binning: right-open, the largest sample of both in no bin."""
    p, q = (np.rint(share * len(unlearned)) for share in binned(unlearned, oracles, 20))
    first = unlearned.max(0) > oracles.max(0)
    p[first, -1] -= 1
    q[~first, -1] -= 1
    return divergence(p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True))


@pytest.mark.parametrize(
    ("bins", "models", "mean"),
    [(10, 50, 0.35), (10, 100, 0.14), (5, 20, 0.45), (5, 50, 0.12), (5, 100, 0.05)],
)
def test_the_floor_of_fewer_bins(bins, models, mean):
    values = klom_values(normal(1, models, 4_000), normal(2, models, 4_000), bins)
    assert values.mean() == pytest.approx(mean, rel=0.07, abs=0.01)


@pytest.mark.parametrize(("shift", "mean"), [(0.25, 0.39), (0.5, 0.55), (1, 1.16), (2, 3.58), (4, 8.60)])
def test_mean_shifts_give_the_known_values(shift, mean):
    values = klom_values(normal(1, 100, 8_000, shift), normal(2, 100, 8_000))
    assert values.mean() == pytest.approx(mean, rel=0.05)
    published = dropping_the_largest(normal(1, 100, 8_000, shift), normal(2, 100, 8_000))
    assert published.mean() == pytest.approx(mean, rel=0.04)


def test_as_a_plain_loop_has_it():
    rng = np.random.default_rng(0)
    unlearned, oracles = 40 * rng.normal(size=(30, 25)), 55 * rng.normal(size=(41, 25))
    for point, value in enumerate(klom_values(unlearned, oracles, 7)):
        p, q = np.clip(unlearned[:, point], -100, 100), np.clip(oracles[:, point], -100, 100)
        edges = np.linspace(min(p.min(), q.min()), max(p.max(), q.max()), 8)
        p, q = np.histogram(p, edges)[0] / 30, np.histogram(q, edges)[0] / 41
        expected = sum(a * math.log(a / max(b, 1e-5)) for a, b in zip(p, q, strict=True) if a > 0)
        assert value == pytest.approx(expected, abs=1e-12)


def test_the_largest_sample_is_counted():
    models = 100
    unlearned, oracles = np.zeros((models, 1)), np.zeros((models, 1))
    unlearned[-1] = 1.0  # the only margin in the last bin, on its edge
    p, q = binned(unlearned, oracles, 20)
    assert p[0, -1] == 1 / models and p.sum() == pytest.approx(1) and q.sum() == pytest.approx(1)
    expected = 0.99 * math.log(0.99) + 0.01 * math.log(0.01 / 1e-5)
    assert klom_values(unlearned, oracles)[0] == pytest.approx(expected)


def test_shares_add_up_whatever_the_margins():
    rng = np.random.default_rng(3)
    unlearned = np.round(rng.normal(size=(50, 300)), 1) * 10.0 ** rng.integers(-12, 3, 300)
    for side in binned(unlearned, unlearned[::-1] / 3, 20):
        np.testing.assert_allclose(side.sum(1), 1)


def test_apart_is_the_cap_and_constant_is_nothing():
    assert klom_values(np.zeros((20, 3)), np.ones((20, 3))) == pytest.approx(CAP)
    assert klom_values(np.ones((20, 3)), np.ones((20, 3))) == pytest.approx(0)
    # margins beyond +-100 are moved there
    assert klom_values(np.full((20, 1), 150.0), np.full((20, 1), 900.0)) == pytest.approx(0)


def test_what_does_not_change_it():
    unlearned, oracles = normal(1, 60, 40, 0.7), normal(2, 80, 40)
    value = klom_values(unlearned, oracles, 12)
    np.testing.assert_allclose(klom_values(3 * unlearned + 2, 3 * oracles + 2, 12), value, atol=0.12)
    np.testing.assert_array_equal(klom_values(unlearned[::-1], oracles, 12), value)
    np.testing.assert_array_equal(klom_values(unlearned[:, ::-1], oracles[:, ::-1], 12), value[::-1])
    np.testing.assert_array_equal(klom_values(8 * unlearned, 8 * oracles, 12), value)


def test_the_direction_is_named_and_swapping_changes_the_value():
    wide, narrow = 2 * normal(1, 100, 500), normal(2, 100, 500)
    forth, back = klom(wide, narrow), klom(narrow, wide)
    assert forth.forward.mean > 3 * back.forward.mean
    assert forth.reverse.mean == pytest.approx(back.forward.mean)
    assert forth.forward.mean == pytest.approx(back.reverse.mean)
    assert "KL(unlearned || oracle)" in str(forth) and "KL(oracle || unlearned)" in str(forth)


def test_divergence_by_hand():
    p, q = np.array([[0.5, 0.5, 0.0]]), np.array([[0.25, 0.0, 0.75]])
    assert divergence(p, q)[0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(0.5 / 1e-5))


def test_the_floor_of_a_second_set_has_the_size_of_the_comparison():
    found = klom(normal(1, 100, 2_000, 1.0), normal(2, 100, 2_000), oracles_again=normal(3, 100, 2_000))
    assert found.bins == 20 and found.floor_models == (100, 100)
    assert found.floor.p95 == pytest.approx(0.675, rel=0.05)
    assert found.floor.mean == pytest.approx(0.35, rel=0.03)
    assert found.at_floor_size == found.forward
    assert found.excess == found.forward.p95 - found.floor.p95
    assert found.excess_interval[0] < found.excess < found.excess_interval[1]


def test_the_floor_of_halves_is_compared_at_its_own_size():
    unlearned, oracles = normal(1, 100, 2_000), normal(2, 100, 2_000)
    found = klom(unlearned, oracles, bins=20)
    assert found.floor_models == (50, 50)
    assert found.floor.mean == pytest.approx(0.90, rel=0.03)  # not the 0.35 of 100 models
    assert found.forward.mean == pytest.approx(0.35, rel=0.03)
    # both of 50 models: a perfect method is at its floor
    assert abs(found.excess) < 0.15 and found.at_floor_size.mean == pytest.approx(found.floor.mean, rel=0.04)
    assert "50 and 50" in str(found)
    # by default bins fit the halves
    assert klom(unlearned, oracles).bins == 10


def test_few_points_are_halved_many_times():
    oracles, again = normal(2, 100, 5), normal(3, 100, 5)
    floors = [klom(normal(s + 10, 100, 5), oracles, seed=s).floor.mean for s in range(5)]
    single = [klom_values(normal(s, 50, 5), normal(s + 50, 50, 5), 10).mean() for s in range(40)]
    assert np.std(floors) < np.std(single) / 2
    assert klom(again, oracles).floor.points == 5


def test_unequal_sides():
    found = klom(normal(1, 30, 50), normal(2, 200, 50))
    assert found.floor_models == (30, 100) and found.bins == 6
    again = klom(normal(1, 200, 50), normal(2, 150, 50), oracles_again=normal(3, 60, 50))
    assert again.floor_models == (60, 150) and again.bins == 12


def test_intervals_over_points_cover_the_mean():
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        low, high = ends(resampled(rng.exponential(size=(1, 60)), trial)[0])
        inside += low <= 1 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_intervals_over_points_cover_the_tail():
    rng = np.random.default_rng(1)
    truth = -math.log(0.05)
    inside = 0
    for trial in range(200):
        low, high = ends(resampled(rng.exponential(size=(1, 400)), trial)[1])
        inside += low <= truth <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_one_point_has_no_interval():
    found = klom(normal(1, 40, 1), normal(2, 40, 1))
    assert found.forward.mean_interval is None and found.forward.p95 == found.forward.mean == found.values[0]


def test_bins_for_the_sample_size():
    assert [suggest_bins(models) for models in (10, 20, 50, 100, 500)] == [2, 4, 10, 20, 20]
    for models in (20, 50, 100):
        values = klom_values(normal(1, models, 2_000), normal(2, models, 2_000), suggest_bins(models))
        assert values.mean() < 0.4


GOOD = normal(5, 100, 8)


@pytest.mark.parametrize(
    ("unlearned", "oracles", "more", "sentence"),
    [
        (normal(1, 50, 8), GOOD, {"bins": 20}, "bins is 20 for 50 models a side.*pass 10 bins"),
        (GOOD, normal(1, 20, 8), {"bins": 20}, "bins is 20 for 20 models a side.*or 100 models"),
        (GOOD, normal(1, 100, 8), {"bins": 1}, "bins is 1"),
        (normal(1, 9, 8), GOOD, {}, "has 9 models, but a histogram needs 10"),
        (GOOD, normal(1, 16, 8), {}, "has 8 models.*oracles are halved"),
        (GOOD, normal(1, 2, 8), {}, "oracles has 2 models"),
        (GOOD, normal(1, 100, 9), {}, "unlearned has 8 points and oracles 9"),
        (GOOD, normal(1, 100, 8), {"oracles_again": normal(2, 100, 7)}, "8 points and oracles_again 7"),
        (
            GOOD,
            np.where(np.eye(100, 8) == 1, np.nan, GOOD),
            {},
            "oracles holds 8 non-finite.*model 0 at point 0",
        ),
        (np.where(np.eye(100, 8, -3) == 1, np.inf, GOOD), normal(1, 100, 8), {}, "unlearned holds.*model 3"),
        (GOOD[:, 0], GOOD, {}, r"unlearned has shape \(100,\)"),
        (GOOD[:, :0], GOOD[:, :0], {}, r"unlearned has shape \(100, 0\)"),
        (GOOD, GOOD, {}, "100 of 100 models in unlearned are also in oracles"),
        (normal(1, 100, 8), GOOD, {"oracles_again": GOOD[::-1]}, "100 of 100 models in oracles_again"),
    ],
)
def test_bad_input(unlearned, oracles, more, sentence):
    with pytest.raises(InputError, match=sentence):
        klom(unlearned, oracles, **more)


def test_a_learner_without_seeds_may_have_equal_models():
    same = np.tile(normal(1, 1, 6), (40, 1))
    found = klom(same, same)
    assert found.forward.p95 == found.floor.p95 == 0
