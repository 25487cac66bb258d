"""Comparisons of recipes: the algebra of residuals, a planted difference found, none where there is none."""

import json

import numpy as np
import pytest

import whence
from whence.applications import Halves, compare_recipes
from whence.applications.residuals import residual, residual_components, shares
from whence.applications.transforms import Patch
from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods import Datamodel

T, N, BLOCKS = 60, 120, 16
CLASS_T, CLASS_N = np.arange(T) % 4, np.arange(N) % 4
CUE_T, CUE_N = np.arange(0, T, 8), np.arange(0, N, 8)  # half of class 0
COMMON = 0.5 * np.random.default_rng(9).normal(size=(T, N)) + (CLASS_T[:, None] == CLASS_N[None])


def truth(cue: float) -> np.ndarray:
    weight = COMMON.copy()
    weight[np.ix_(CUE_T, CUE_N)] += cue
    return weight


def halves(weight: np.ndarray, seed: int, noise: float = 0.5, splits: int = 4, **labels) -> Halves:
    """An attribution from BLOCKS independent noisy ones, and those of halves of them."""
    rng = np.random.default_rng(seed)
    blocks = weight + noise * BLOCKS**0.5 * rng.normal(size=(BLOCKS, *weight.shape))
    pairs = []
    for _ in range(splits):
        order = rng.permutation(BLOCKS)
        pairs.append(tuple(Attribution(blocks[part].mean(0), **labels) for part in np.split(order, 2)))
    return Halves(Attribution(blocks.mean(0), **labels), pairs)


def test_a_residual_is_orthogonal_to_the_other_s_row():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 7, 11))
    a[2], b[4] = 0, 0
    rest = residual(a, b)
    assert np.allclose((rest * b).sum(1), 0)
    cosine = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-300)
    loud = np.array([0, 1, 3, 5, 6])
    assert np.allclose(np.linalg.norm(rest, axis=1)[loud], np.sqrt(1 - cosine[loud] ** 2))
    assert not rest[[2, 4]].any() and np.isfinite(rest).all()
    scaled = residual(a * np.geomspace(0.01, 100, 7)[:, None], -3 * b)
    assert np.allclose(scaled, rest)


def test_shares_are_variance_along_directions():
    rng = np.random.default_rng(1)
    weight, basis = rng.normal(size=(9, 5)), np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert shares(weight, basis).sum() == pytest.approx(1)
    rows = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    assert shares(weight, basis[:1])[0] == pytest.approx((rows @ basis[0]).var() / rows.var(0).sum())
    assert shares(np.vstack([weight, np.zeros((2, 5))]), basis) == pytest.approx(shares(weight, basis))


def test_components_are_those_of_the_residual():
    a, b = np.random.default_rng(2).normal(size=(2, 20, 30))
    found = residual_components(a, b, 3)
    rest = residual(a, b)
    _, _, right = np.linalg.svd(rest - rest.mean(0), full_matrices=False)
    assert np.allclose(np.abs(found.directions @ right[:3].T), np.eye(3), atol=1e-8)
    rows = a / np.linalg.norm(a, axis=1, keepdims=True)
    assert np.allclose(found.projections, rows @ found.directions.T)


def test_a_planted_difference_is_the_first_component_and_the_only_one():
    sides = halves(truth(1.5), 0, noise=0.2), halves(truth(0.0), 1, noise=0.2)
    found = compare_recipes(*sides, components=5)
    first = found.direction("A")
    assert first.passes and first.share > 2 * first.share_against and first.match > 0.8
    assert [one.number for one in found.passed if one.of == "A"] == [0]
    line = found.components["A"].directions[0]
    assert set(np.argsort(-np.abs(line))[: len(CUE_N)]) == set(CUE_N)
    ends = [found.surfaced("A", 0, end, k=6) for end in ("upper", "lower")]
    cue = max(ends, key=lambda end: np.isin(end["targets"], CUE_T).mean())
    assert set(cue["targets"]) <= set(CUE_T) and set(cue["train"]) <= set(CUE_N)
    assert "A leans on 1 direction that B leans on less" in found.statement and found.verified is None
    assert len(found.table.rows) == 10 and found.chart.diagonal
    captions = [strip.caption for strip in found.examples]
    assert any("upper end: targets" in c for c in captions) and any(
        "lower end: training" in c for c in captions
    )
    json.dumps(found.to_dict())
    turned = compare_recipes(*sides[::-1], components=5, names=("x", "y"))
    assert turned.direction("y").gap == pytest.approx(first.gap)
    assert turned.direction("y").gap_other_half == pytest.approx(first.gap_other_half)


@pytest.mark.parametrize("noise", [0.1, 0.5, 2.0])
def test_a_recipe_against_itself_passes_nothing(noise):
    """Not in any of 12 trials, of 10 candidates each in two directions."""
    for seed in range(12):
        pair = (halves(truth(1.0), 2 * seed + end, noise) for end in (0, 1))
        found = compare_recipes(*pair)
        assert not found.passed, (noise, seed)
        assert found.statement.startswith("Nothing found")


def test_order_and_scale_of_either_side_do_not_matter():
    ids = {"target_ids": [f"t{i}" for i in range(T)], "train_ids": [f"x{i}" for i in range(N)]}
    a, b = halves(truth(1.5), 0, **ids), halves(truth(0.0), 1, **ids)
    plain = compare_recipes(a, b, components=3)
    rng = np.random.default_rng(5)
    rows, columns = rng.permutation(T), rng.permutation(N)

    def mixed(one: Attribution) -> Attribution:
        return Attribution(
            7 * one.weight[np.ix_(rows, columns)],
            target_ids=one.target_ids[rows],
            train_ids=one.train_ids[columns],
        )

    turned = Halves(mixed(b.whole), [tuple(map(mixed, pair)) for pair in b.pairs])
    again = compare_recipes(a, turned, components=3)
    for one, other in zip(plain.directions, again.directions, strict=True):
        assert other.gap == pytest.approx(one.gap, abs=1e-6)
        assert other.match == pytest.approx(one.match, abs=1e-4)
    assert again.surfaced("A")["train"].tolist() == plain.surfaced("A")["train"].tolist()


def test_silent_rows_are_left_out():
    a, b = truth(1.5), truth(0.0)
    a[1], b[2] = 0, 0
    found = compare_recipes(halves(a, 0, noise=0.0), halves(b, 1, noise=0.0), components=1)
    assert found.provenance["targets without weights in a recipe"] == 2
    assert np.isfinite([one.gap for one in found.directions]).all() and found.direction("A").passes


def linear_study(weight: np.ndarray, noise: float = 0.3) -> whence.Study:
    def train_and_evaluate(mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        return {"margin": weight @ mask + noise * np.random.default_rng(seed).normal(size=len(weight))}

    return whence.Study.from_function(train_and_evaluate, n=N, targets=T, outputs=["margin"])


def exact(study: whence.Study, weight: np.ndarray, seed: int) -> Halves:
    ids = {"target_ids": study.target_ids, "train_ids": study.train_ids}
    return halves(weight, seed, noise=0.3, **ids)


def test_removing_the_planted_examples_moves_the_one_recipe():
    studies = linear_study(truth(1.5)), linear_study(truth(0.0))
    sides = exact(studies[0], truth(1.5), 0), exact(studies[1], truth(0.0), 1)
    found = compare_recipes(*sides, *studies, components=2, retrainings=6, workers=0)
    assert found.verified and "in fresh retrainings" not in found.verified
    own = {
        (name, pull.end): pull
        for name, pull in found.pulls
        if pull.component == found.passed[0].number and pull.end != "random"
    }
    strongest = max((pull for (name, _), pull in own.items() if name == "A"), key=lambda p: abs(p.apart))
    assert strongest.as_predicted and abs(strongest.apart) > 2 * abs(own["B", strongest.end].apart)
    assert "removed in 6 fresh retrainings of each recipe" in found.verified
    nothing = compare_recipes(sides[1], exact(studies[1], truth(0.0), 2), studies[1], studies[1])
    assert nothing.verified is None  # nothing to verify, and nothing trained
    with pytest.raises(InputError, match="no component passed"):
        nothing.verify(studies[1], studies[1])


def test_halves_of_a_bank_share_no_retraining(tmp_path):
    seen = []

    class Spy(Datamodel):
        def attribute(self, bank, output=None):
            seen.append([bank.select(part, output).rows for part in ("train", "validation")])
            return super().attribute(bank, output)

    bank = whence.retrain(linear_study(truth(0.0)), 120, to=tmp_path / "a.zarr", workers=0, progress=False)
    found = Halves.of(Spy("ridge"), bank, splits=2)
    assert len(found.pairs) == 2 and len(seen) == 5
    everything = np.concatenate(seen[-1])
    for k in (0, 2):
        one, other = (np.concatenate(rows) for rows in seen[k : k + 2])
        assert not set(one) & set(other) and set(one) | set(other) == set(everything)
        assert abs(len(one) - len(other)) <= 2
    assert not np.array_equal(found.pairs[0][0].weight, found.pairs[1][0].weight)
    again = Halves.of(Datamodel("ridge"), bank, splits=2)
    np.testing.assert_array_equal(again.pairs[1][1].weight, found.pairs[1][1].weight)
    few = whence.retrain(linear_study(truth(0.0)), 30, to=tmp_path / "few.zarr", workers=0, progress=False)
    with pytest.raises(InputError, match=r"half of the \d+ retrainings of .*few.zarr is too few"):
        Halves.of(Datamodel("ridge"), few)
    with pytest.raises(InputError, match="splits is 0"):
        Halves.of(Datamodel("ridge"), bank, splits=0)


IMAGES = np.random.default_rng(3).integers(0, 256, (N + T, 6, 6), dtype=np.uint8)


def image_study(gain: float, train=None, targets=None, **ids) -> whence.Study:
    import torch

    def fit(inputs, labels, seed):
        def model(x):
            odds = gain * (x[:, 0, 0].float() / 255 - 0.5) + 0.1 * np.random.default_rng(seed).normal()
            return torch.stack([-odds, odds, *[torch.zeros_like(odds)] * 2], 1)

        return model

    train = (IMAGES[:N], CLASS_N) if train is None else train
    targets = (IMAGES[N:], CLASS_T) if targets is None else targets
    return whence.Study.from_training_function(fit, train, targets, **ids)


def test_a_suspected_feature_is_tested_on_both_recipes(tmp_path):
    studies = image_study(4.0), image_study(0.0)
    sides = exact(studies[0], truth(1.5), 0), exact(studies[1], truth(0.0), 1)
    found = compare_recipes(*sides, *studies, components=2, names=("sees", "blind"), verify=False)
    white = {"a faint corner": Patch(0, 0, 1, 1, strength=0.5), "a white corner": Patch(0, 0, 1, 1)}
    tested = found.test(white, *studies, 1, retrainings=5, workers=0)
    assert tested.contrasts[-1].verdict == "distinguishes"
    assert tested.statement.startswith("sees uses it, blind does not: a white corner on 45 targets")
    assert "5 fresh models of each recipe" in tested.verified
    assert tested.examples[: len(found.examples)] == found.examples
    before, _, after = tested.examples[-3:]
    assert before.indices == after.indices and all(picture[0, 0] == 255 for picture in after.pictures)
    assert tested.directions == found.directions and len(tested.table.rows) == 4
    wrong = found.test(white, *studies, 1, used_by="blind", retrainings=5, workers=0)
    assert wrong.statement.startswith("It does not tell blind from sees")
    page = whence.report([sides[0].whole, tested], to=tmp_path / "page.html", study=studies[0])
    text = page.read_text()
    assert "The same targets after a white corner" in text and "sees uses it" in text
    json.dumps(tested.to_dict())
    with pytest.raises(InputError, match="used_by is 'C'"):
        found.test(white, *studies, 1, used_by="C")


def mixed_study(order: np.ndarray, ids: bool) -> whence.Study:
    names = {"train_ids": order} if ids else {}
    return image_study(0.0, train=(IMAGES[:N][order], CLASS_N[order]), **names)


def test_the_same_data_in_another_order_is_put_right():
    order = np.random.default_rng(4).permutation(N)
    studies = image_study(1.0), mixed_study(order, ids=True)
    sides = exact(studies[0], truth(1.5), 0), exact(studies[1], truth(0.0)[:, order], 1)
    found = compare_recipes(*sides, *studies, components=1, verify=False)
    assert found.direction("A").passes and found.provenance["data compared"]
    straight = compare_recipes(sides[0], exact(studies[0], truth(0.0), 1), components=1)
    assert found.direction("A").share == pytest.approx(straight.direction("A").share, rel=0.3)


def relabelled():
    return image_study(0.0, train=(IMAGES[:N], (CLASS_N + 1) % 4))


def other_targets():
    return image_study(0.0, targets=(IMAGES[N:][::-1].copy(), CLASS_T))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (relabelled, "labels of 120 training examples differ between A and B, the first with id 0"),
        (other_targets, "inputs of 60 targets differ"),
        (lambda: mixed_study(np.arange(N)[::-1], False), "give each example an id that stays its own"),
        (lambda: linear_study(truth(0.0)), "only one of A and B has labels of training examples"),
    ],
)
def test_studies_of_other_data_are_refused(other, says):
    studies = image_study(0.0), other()
    sides = (exact(study, truth(0.0), seed) for seed, study in enumerate(studies))
    with pytest.raises(InputError, match=says):
        compare_recipes(*sides, *studies)


def plain(seed: int = 0, **labels) -> Halves:
    return halves(truth(0.0), seed, splits=1, **labels)


@pytest.mark.parametrize(
    ("a", "b", "options", "says"),
    [
        (plain(), plain(1, train_ids=range(N)), {}, "B and A are of different training examples"),
        (plain(), plain(1, target_ids=range(T)), {}, "B and A are of different targets"),
        (plain(), plain(1, output="loss"), {}, "B explains 'loss', A 'margin'"),
        (plain(), plain(), {}, "agree up to scale in every target"),
        (plain(), halves(truth(0.0), 1, splits=2), {}, "A is split into halves in 1 ways and B in 2"),
        (plain(), plain(1), {"components": 60}, "components is 60"),
        (plain(), plain(1), {"names": ("same", "same")}, "two different names"),
        (plain(), plain(1), {"study_a": linear_study(truth(0.0))}, "one study is missing"),
        (plain(), halves(np.zeros((T, N)), 1, 0.0, 1), {}, "no target has weights in both attributions"),
    ],
)
def test_bad_input(a, b, options, says):
    with pytest.raises(InputError, match=says):
        compare_recipes(a, b, **options)


def test_bad_halves():
    whole = Attribution(truth(0.0))
    for pairs, says in (
        ([], "pairs has 0 entries"),
        ([(whole,)], "one or more pairs"),
        ([(whole, Attribution(truth(0.0)[:5]))], "a half and the whole are of different targets"),
    ):
        with pytest.raises(InputError, match=says):
            Halves(whole, pairs)
    vector = Attribution(np.zeros((2, 3, 4)), output="logits")
    with pytest.raises(InputError, match="vector output"):
        Halves(vector, [(vector, vector)])
    found = compare_recipes(plain(), plain(1), components=2)
    for make, says in (
        (lambda: found.direction("C"), "no component 0 of 'C'"),
        (lambda: found.direction("A", 2), "components 0 to 1"),
        (lambda: found.surfaced("A", 0, "middle"), "it is 'upper' or 'lower'"),
    ):
        with pytest.raises(InputError, match=says):
            make()
