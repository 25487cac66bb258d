"""Comparing choices by training: a learner with a known best choice, tasks, resuming, leaving; bad input."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import whence
from tests.applications.selection.pools import noisy_studies, texts_study
from whence.applications.selection import (
    Attributed,
    Pool,
    Random,
    SelectionFinding,
    Similarity,
    compare_selections,
)
from whence.attribution import Attribution
from whence.errors import InputError
from whence.methods import Datamodel, GradDot
from whence.study import Study

N, T = 40, 6
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(T, N))  # what including a candidate takes off the loss of a target


def learner(mask, seed):
    """Losses fall with the mean quality of what is trained on and with its amount."""
    noise = 0.01 * np.random.default_rng(seed).normal(size=T)
    return 2 - WEIGHT @ mask / mask.sum() - 0.3 * np.log(mask.sum() / N) + noise


def study_of(function=learner, ids=None, **labels):
    return Study.from_function(function, n=N, targets=ids or T, outputs=["loss"], **labels)


REPORT_IDS = [f"report/{i}" for i in range(T)]


@pytest.fixture(scope="module")
def studies():
    return study_of(), study_of(ids=REPORT_IDS)


def known(weight=WEIGHT, name="known"):
    scores = Attribution(-weight, output="loss", target_ids=range(T), train_ids=range(N))
    return Attributed.given(scores, name)


@pytest.fixture(scope="module")
def found(studies, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    return compare_selections(*studies, [known()], (0.1, 0.25), to=folder, workers=0), folder


def test_the_best_choice_is_ahead_and_the_worst_behind(found):
    found, _ = found
    best, chance, worst = (found.row(name, 0.1) for name in ("known", "random", "known, worst"))
    assert best.chosen == best.size == 4
    assert best.loss < chance.loss < worst.loss
    assert best.ahead_interval[0] > 0 > worst.ahead_interval[1]
    assert best.ahead == pytest.approx(chance.loss - best.loss)
    assert chance.ahead is None and chance.multiplier is None
    order = np.argsort(-WEIGHT.mean(0))
    assert set(found.selection("known", 0.1)) == set(order[:4])
    assert set(found.positions("known, worst", 0.25)) == set(order[-10:])
    assert best.losses == pytest.approx([learner(np.isin(range(N), order[:4]), 0).mean()] * 3, abs=0.05)
    assert best.interval[0] < best.loss < best.interval[1] and best.duplicates is None


def test_random_choices_are_drawn_anew_and_trained_at_the_multiples(found):
    found, _ = found
    assert [row.fraction for row in found.rows if row.selector == "random"] == [0.1, 0.2, 0.25, 0.4, 0.5, 1]
    assert found.row("random", 1.0).chosen == N
    draws = [set(found.selection("random", 0.1, draw=draw)) for draw in range(3)]
    assert len(set(map(frozenset, draws))) == 3
    for draw, small in enumerate(draws):  # for one draw, larger ones contain the smaller
        assert small < set(found.selection("random", 0.4, draw=draw))
    same = [tuple(found.positions("known", 0.1, draw=draw)) for draw in range(3)]
    assert len(set(same)) == 1
    assert len(set(found.row("known", 0.1).losses)) == 3  # another training seed each
    assert found.row("known", 0.1).multiplier.multiples == (1, 2, 4, 10)
    assert found.row("known", 0.25).multiplier.multiples == (1, 2, 4)


def test_what_it_says(found):
    found, _ = found
    assert "Best at 0.1 of 40 candidates, of 3 rules: targets: known" in found.statement
    assert found.table.rows[5][0] == "everything" and "everything" in str(found)
    assert "30 trainings on the choices, judged by 6 report examples that no rule saw" in found.verified
    json.dumps(found.to_dict(), allow_nan=False)
    assert len(found.table.rows) == len(found.rows) and "compute multiplier" in str(found)
    assert [series.name for series in found.chart.series] == ["random", "known", "known, worst"]
    assert found.chart_of("targets") == found.chart
    line = found.chart.series[1]
    assert line.y[0] == pytest.approx(found.row("known", 0.1).loss) and line.low[0] < line.y[0] < line.high[0]


def files_of(folder):
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_the_same_again_trains_nothing_and_a_new_rule_only_its_own(found, studies):
    first, folder = found
    before = files_of(folder)
    again = compare_selections(*studies, [known()], (0.1, 0.25), to=folder, workers=0)
    assert again.rows == first.rows and files_of(folder) == before
    opposite = known(-WEIGHT, "opposite")
    more = compare_selections(*studies, [known(), opposite], (0.1, 0.25), to=folder, workers=0, worst=False)
    assert {path: files_of(folder)[path] for path in before} == before
    assert {path.name for path in folder.iterdir()} == {
        "random.zarr", "targets-known.zarr", "targets-known-worst.zarr", "targets-opposite.zarr",
    }  # fmt: skip
    assert more.row("known", 0.1) == first.row("known", 0.1)
    # the worst of one ranking is the best of its opposite, with the same training seeds
    assert more.row("opposite", 0.1).losses == first.row("known, worst", 0.1).losses


def test_choices_first_and_trainings_later(studies, found):
    choices = compare_selections(studies[0], None, [known()], (0.1, 0.25))
    assert isinstance(choices, SelectionFinding) and choices.verified is None and choices.table is None
    assert choices.row("known", 0.1).loss is None and choices.row("known", 0.1).losses == ()
    assert choices.statement == "2 rules chose 0.1, 0.25 of 40 candidates"
    assert compare_selections(*studies, [known()], verify=False).verified is None
    later = choices.verify(studies[1], workers=0)
    assert later.rows == found[0].rows
    other = choices.verify(studies[1], seed=1, workers=0)
    assert other.row("known", 0.1).losses != later.row("known", 0.1).losses
    assert other.row("known", 0.1).loss == pytest.approx(later.row("known", 0.1).loss, abs=0.05)


def test_tasks_have_choices_of_their_own(studies):
    tasks = {"front": ([0, 1], REPORT_IDS[:2]), "back": ([4, 5], REPORT_IDS[4:])}
    found = compare_selections(*studies, [known()], (0.1,), tasks=tasks, multiples=(), workers=0)
    assert found.tasks == ("front", "back")
    for task, rows in (("front", [0, 1]), ("back", [4, 5])):
        expected = np.argsort(-WEIGHT[rows].mean(0))[:4]
        assert set(found.selection("known", task=task)) == set(expected)
        assert found.row("known", task=task).ahead > 0.3
    # what looks at no target serves all tasks, and is trained once
    assert sum(choice.selector == "random" for choice in found.choices) == 1
    front, back = (found.row("random", task=task) for task in found.tasks)
    assert front.losses != back.losses and front.chosen == back.chosen
    assert found.row("known", task="front").multiplier is None
    assert found.table.columns[0] == "task" and "2 of front, 2 of back" in found.verified
    with pytest.raises(InputError, match="say which task: there are front, back"):
        found.row("known")
    whole = found.chart.series[0].y[0]
    assert whole == pytest.approx((front.loss + back.loss) / 2)


def test_trainings_without_a_finite_loss_are_left_out_and_counted(studies):
    def breaks(mask, seed):
        return learner(mask, seed) * (np.nan if mask.sum() == 4 and seed % 3 == 0 else 1)

    report = study_of(breaks, REPORT_IDS)
    found = compare_selections(studies[0], report, [known()], (0.1,), seeds=6, multiples=(), workers=0)
    row = found.row("known", 0.1)
    assert 0 < len(row.losses) < 6 and np.isfinite(row.losses).all()
    assert "without a finite result and left out" in found.verified


def test_outputs_that_shall_rise(studies):
    def margins(mask, seed):
        return {"loss": learner(mask, seed), "margin": -learner(mask, seed)}

    report = Study.from_function(margins, n=N, targets=REPORT_IDS, outputs=["loss", "margin"])
    down, up = (
        compare_selections(studies[0], report, [known()], (0.1,), output=output, workers=0)
        for output in ("loss", "margin")
    )
    one, other = down.row("known"), up.row("known")
    assert other.ahead == pytest.approx(one.ahead, abs=1e-5) and other.loss == pytest.approx(-one.loss)
    assert other.multiplier.value == pytest.approx(one.multiplier.value, rel=1e-3)


def test_groups_and_sizes_come_with_the_pool(studies):
    groups, sizes = np.arange(N) // 4, np.repeat([1.0, 3.0], N // 2)
    pool = Pool(studies[0], groups=groups, sizes=sizes)
    found = compare_selections(pool, None, [known()], (0.2,))
    chosen = found.positions("known")
    assert len(chosen) == 8 and len(set(groups[chosen])) == 2  # two of ten groups, whole
    by_size = compare_selections(pool, None, [known()], (0.2, 1.0), unit="size")
    assert by_size.row("known", 0.2).size <= 0.2 * sizes.sum() < by_size.row("known", 0.2).size + 12
    assert by_size.row("random", 1.0).size == sizes.sum()


def test_clusters_by_regression_on_retrainings(tmp_path):
    """The estimator of DataMIL: a ridge regression on subsets of whole clusters."""
    groups = np.arange(N) // 5
    effect = np.random.default_rng(3).permutation(np.linspace(-1, 1, 8))

    def train(mask, seed):
        kept = np.bincount(groups, mask) > 0
        return 1 - effect @ kept + 0.1 * np.random.default_rng(seed).normal(size=T)

    study = study_of(train)
    design = whence.Subsets.grouped(groups, 0.5)
    bank = whence.retrain(study, 120, subsets=design, to=tmp_path / "bank", workers=0, progress=False)
    rule = Attributed(Datamodel("ridge"), source=bank)
    found = compare_selections(Pool(study, groups=groups), None, [rule], (0.25,))
    assert set(groups[found.positions("datamodel")]) == set(np.argsort(-effect)[:2])
    assert set(groups[found.positions("datamodel, worst")]) == set(np.argsort(effect)[:2])
    by_sum = compare_selections(Pool(study, groups=groups), None, [rule], (0.25,), reduce="sum")
    np.testing.assert_array_equal(by_sum.positions("datamodel"), found.positions("datamodel"))


def test_behind_a_head_by_rank_every_draw_is_another(studies):
    found = compare_selections(studies[0], None, [known()], (0.25,), head=0.1)
    best = set(np.argsort(-WEIGHT.mean(0))[:4])
    draws = [set(draw) for choice in found.choices if choice.selector == "known" for draw in choice.draws]
    assert len(draws) == 3 and all(len(draw) == 10 and best < draw for draw in draws)
    assert draws[0] != draws[1] != draws[2] and found.provenance["head"] == 0.1


def test_near_duplicates_are_reported_and_passed_over_if_asked():
    study = texts_study(duplicate=[(4, 2), (6, 2), (8, 2)])
    best = np.zeros((8, 60))
    best[:, [2, 4, 6, 8]] = -1.0
    rule = Attributed.given(Attribution(best, output="loss", target_ids=range(8), train_ids=range(60)))
    plain = compare_selections(study, None, [rule], (0.1,))
    assert plain.row("datamodel").duplicates == pytest.approx(0.5)  # six chosen, four of them the same
    distinct = compare_selections(study, None, [rule], (0.1,), distinct=True)
    assert distinct.row("datamodel").duplicates == 0 and len(distinct.positions("datamodel")) == 6


def test_choices_by_one_learner_may_be_judged_by_another():
    study, report, wrong = noisy_studies()
    judge = Study.from_estimator(
        LogisticRegression(),
        (report.train_inputs, report.train_labels),
        (report.target_inputs, report.target_labels),
        outputs=["loss"],
    )
    rules = [Attributed(GradDot(3), name="gradients")]
    found = compare_selections(study, judge, rules, (0.4,), seeds=5, multiples=(), workers=0)
    best, worst = (found.positions(name) for name in ("gradients", "gradients, worst"))
    assert wrong[best].mean() < 0.25 and wrong[worst].mean() > 0.5  # of all, 0.4 are
    assert found.row("gradients").ahead_interval[0] > 0 > found.row("gradients, worst").ahead_interval[1]
    assert found.provenance["study"] != found.provenance["report"]


def test_leaving_with_a_choice(found, tmp_path):
    found, _ = found
    ids, at = found.selection("known", 0.1), found.positions("known", 0.1)
    for name in ("chosen.jsonl", "chosen.npy", "chosen.txt"):
        found.export(tmp_path / name, "known", 0.1)
    lines = (tmp_path / "chosen.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": int(i), "position": int(p)} for i, p in zip(ids, at, strict=True)
    ]
    np.testing.assert_array_equal(np.load(tmp_path / "chosen.npy", allow_pickle=False), ids)
    assert (tmp_path / "chosen.txt").read_text().split() == [str(i) for i in ids]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chosen.jsonl", "chosen.npy", "chosen.txt"]
    with pytest.raises(InputError, match=r"ends in .jsonl, .npy, .txt; received 'chosen.csv'"):
        found.export(tmp_path / "chosen.csv", "known", 0.1)


def test_a_hugging_face_dataset():
    pytest.importorskip("datasets")
    found = compare_selections(texts_study(), None, [Similarity()], (0.1,))
    data = found.to_dataset("similarity")
    chosen = found.positions("similarity")
    assert data["position"] == chosen.tolist() and data["text"][0] == found.pool.texts[chosen[0]]


def test_without_datasets_it_says_what_to_install(monkeypatch, found):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'whence\[text\]'"):
        found[0].to_dataset("known", 0.1)


@pytest.mark.parametrize(
    "how, words",
    [
        ({"selectors": []}, "selectors is empty"),
        ({"selectors": [known(), known()]}, "must have names that differ"),
        ({"selectors": [known(name="random")]}, "must have names that differ"),
        ({"fractions": ()}, "fractions must be one or more shares"),
        ({"fractions": (0.1, 1.2)}, "fractions must be one or more shares"),
        ({"seeds": 1}, "at least 2 trainings"),
        ({"unit": "tokens"}, 'unit must be "count" or "size"'),
        ({"multiples": (0,)}, "multiples must be positive"),
        ({"tasks": {}}, "tasks is empty"),
        ({"tasks": {"a": [0, 1, 2]}}, "must be a pair"),
        ({"tasks": {"a": ([], REPORT_IDS)}}, "'a' has no target example"),
        ({"tasks": {"a": ([77], REPORT_IDS)}}, "77 is no target of the study"),
        ({"tasks": {"a": ([0], ["report/77"])}}, "'report/77' is no target of the report study"),
        ({"tasks": {"a": ([0], [])}}, "it has none"),
        ({"output": "margin"}, "output is 'margin', but the report study records loss"),
        ({"head": 0.0}, "head must be a share"),
        ({"distinct": True}, "distinct=True needs texts or inputs"),
    ],
)
def test_bad_input_comes_before_any_training(studies, tmp_path, how, words):
    given = {"selectors": [known()], "fractions": (0.1,), "to": tmp_path, "workers": 0, **how}
    with pytest.raises(InputError, match=words):
        compare_selections(*studies, **given)
    assert not list(tmp_path.iterdir())


def test_report_examples_must_be_others_of_the_same_pool(studies):
    study, report, _ = noisy_studies(n=60, targets=10)
    rules = [Random()]
    with pytest.raises(InputError, match="10 of 10 report examples are also selection examples"):
        compare_selections(study, study, rules)
    half = whence.study.variants.with_targets(
        report, (study.train_inputs[:10], study.train_labels[:10]), range(100, 110)
    )
    with pytest.raises(InputError, match="10 of 10 report examples are also candidates"):
        compare_selections(study, half, rules)
    with pytest.raises(InputError, match="other training examples"):
        compare_selections(study, studies[1], rules)
    changed = whence.study.variants.with_train(report, (report.train_inputs * 2, report.train_labels))
    with pytest.raises(InputError, match="the candidates' ids but other inputs or labels"):
        compare_selections(study, changed, rules)
