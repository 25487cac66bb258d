"""retrain fills a bank: the same rows however they are spread, resumed or grown; bad input writes nothing."""

import numpy as np
import pytest

import whence
from tests.bank.studies import TARGETS, N, linear, make, same, study
from whence.bank import Bank, merge
from whence.retraining import RetrainingError, retrain

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an uninterrupted run in one process gives."""
    return retrain(study(), 60, to=tmp_path_factory.mktemp("whole") / "b.zarr", workers=0, **QUIET)


def test_rows_asked_for_are_rows_made(whole):
    assert whole.rows_committed == 60
    assert whole.verify().ok
    masks, seeds = whole.masks(), whole.dataset.seed.values
    assert np.array_equal(whole.outputs_of(), np.float32([linear(m, s) for m, s in zip(masks, seeds)]))


@pytest.mark.parametrize("workers, block", [(1, 7), (2, 4), (0, 1), (3, 60)])
def test_rows_do_not_depend_on_how_they_are_spread(tmp_path, whole, workers, block):
    bank = retrain(study(), 60, to=tmp_path / "b.zarr", workers=workers, block=block, **QUIET)
    assert bank.rows_committed == -(-60 // block) * block  # whole blocks
    first = bank.outputs_of(rows=range(60))
    assert np.array_equal(first, whole.outputs_of())


def test_growing_and_resuming_change_nothing(tmp_path, whole):
    path = tmp_path / "b.zarr"
    assert retrain(study(), 20, to=path, block=4, **QUIET).rows_committed == 20
    bank = retrain(study(), 60, to=path, **QUIET)
    bank.discard([1, 7, 14])
    assert bank.rows_committed == 48
    assert same(retrain(study(), 60, to=path, workers=2, **QUIET), whole)
    assert retrain(study(), 20, to=path, **QUIET).rows_committed == 60  # nothing to do, nothing lost


def test_a_complete_bank_is_returned_at_once(tmp_path):
    calls = []

    def counted(mask, seed):
        calls.append(seed)
        return linear(mask, seed)

    a_study = study(counted)
    retrain(a_study, 20, to=tmp_path / "b.zarr", workers=0, **QUIET)
    made = len(calls)
    assert made == 20  # the rows used for measuring are not made twice
    retrain(a_study, 20, to=tmp_path / "b.zarr", workers=0, **QUIET)
    assert len(calls) == made


def test_shares_of_two_machines_make_a_whole(tmp_path, whole):
    halves = [
        retrain(study(), 60, to=tmp_path / f"{i}.zarr", share=(i, 2), block=4, workers=0, **QUIET)
        for i in range(2)
    ]
    assert [half.rows_committed for half in halves] == [32, 28]
    assert same(merge([half.path for half in halves], tmp_path / "both.zarr"), whole)


def test_the_plan_is_what_was_asked_for(tmp_path):
    subsets = whence.Subsets.bernoulli(N, 0.3, seed=5)
    bank = retrain(
        study(),
        40,
        to=tmp_path / "b.zarr",
        subsets=subsets,
        validation=0.2,
        held_out_seeds=3,
        workers=0,
        **QUIET,
    )
    assert bank.keep == 0.3
    assert np.array_equal(bank.masks()[0], subsets.mask(0))
    assert bank.by_mask("held_out").outputs.shape[1] == 3
    chosen = whence.Subsets.leaving_out(N, [[], [1], [2, 3]])
    removals = retrain(study(), 3, to=tmp_path / "c.zarr", subsets=chosen, workers=0, **QUIET)
    assert removals.masks("train").sum(axis=1).tolist() == [N, N - 1, N - 2]  # not split into parts


BAD = {
    "n is 5, too few for a split": ({"n": 5}, "too few to split into train, validation, held_out"),
    "n is not whole": ({"n": 0}, "n must be a whole number of retrainings"),
    "keep of 1": ({"keep": 1.0}, "keep must lie strictly between 0 and 1"),
    "keep that empties the subsets": ({"keep": 0.001}, "which are empty"),
    "keep that fills the subsets": ({"keep": 0.999}, "which are the full set"),
    "subsets of another size": (
        {"subsets": whence.Subsets.uniform(7)},
        "over 7 training examples, the study has 30",
    ),
    "keep against the subsets": ({"subsets": whence.Subsets.uniform(N), "keep": 0.2}, "leave keep out"),
    "more than the subsets give": (
        {"subsets": whence.Subsets.leaving_out(N, [[0]])},
        "the subsets and seeds give 1",
    ),
    "unknown executor": ({"executor": "grid"}, "executor must be one of local"),
    "block of 0": ({"block": 0}, "block must be at least 1"),
    "negative workers": ({"workers": -1}, "workers must be 0"),
    "no such share": ({"share": (2, 2)}, "share must be"),
    "checkpoint of a row beyond": ({"checkpoints": [99]}, "asks for row 99"),
    "no such device": ({"device": "cuda"}, "device='cuda'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, case):
    arguments, message = BAD[case]
    if case == "no such device":
        a_study = classifier()
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is one")
    else:
        a_study = study()
    with pytest.raises(whence.InputError, match=message.replace("(", r"\(")) as caught:
        retrain(a_study, **{"n": 40, "to": tmp_path / "b.zarr", **QUIET, **arguments})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def classifier():
    x, y = np.random.default_rng(0).normal(size=(12, 3)).astype("f4"), np.array([0, 1] * 6)
    return whence.Study.from_training_function(lambda x, y, seed: lambda q: q[:, :2], (x, y), (x[:2], y[:2]))


def test_another_studys_bank_is_refused(tmp_path):
    bank = make(tmp_path / "b.zarr")
    before = sorted((p, p.stat().st_mtime_ns) for p in bank.path.rglob("*"))
    with pytest.raises(whence.InputError, match="this bank belongs to another study"):
        retrain(study(lambda mask, seed: linear(mask, seed) * 2), 40, to=bank.path, **QUIET)
    with pytest.raises(
        whence.InputError, match=r"drawn by another plan: subsets.keep is 0.5 there, 0.25 was asked for"
    ):
        retrain(study(), 40, to=bank.path, keep=0.25, **QUIET)
    with pytest.raises(whence.InputError, match="has blocks of 4 rows"):
        retrain(study(), 40, to=bank.path, block=8, **QUIET)
    (tmp_path / "file").write_text("")
    with pytest.raises(whence.InputError, match="is not a bank"):
        retrain(study(), 40, to=tmp_path / "file", **QUIET)
    assert sorted((p, p.stat().st_mtime_ns) for p in bank.path.rglob("*")) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_outputs_of_the_wrong_shape_write_nothing(tmp_path, workers):
    with pytest.raises(
        whence.InputError, match="one number for each of 4 targets, the function returned shape"
    ):
        retrain(study(lambda mask, seed: np.zeros(3)), 40, to=tmp_path / "b.zarr", workers=workers, **QUIET)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_that_never_works_writes_nothing(tmp_path, workers):
    def broken(mask, seed):
        raise FileNotFoundError("train.npy")

    with pytest.raises(RetrainingError, match=r"nothing was recorded.*FileNotFoundError: train.npy"):
        retrain(study(broken), 40, to=tmp_path / "b.zarr", workers=workers, **QUIET)
    with pytest.raises(RetrainingError, match=r"nothing was recorded.*not finite"):
        retrain(
            study(lambda mask, seed: np.full(TARGETS, np.nan)),
            40,
            to=tmp_path / "b.zarr",
            workers=workers,
            **QUIET,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_stops_working_is_given_up(tmp_path):
    def fades(mask, seed):
        return linear(mask, seed) * (np.nan if seed not in first else 1)

    bank = make(tmp_path / "other.zarr")
    first = set(bank.plan.rows(0, 2).seed.tolist())
    with pytest.raises(RetrainingError, match=r"none of the first 20 retrainings.*margin is not finite"):
        a_study = study(fades)
        partly = retrain(a_study, 20, to=tmp_path / "b.zarr", block=10, workers=0, **QUIET)
        assert partly.rows_committed == 20
        assert len(partly.select()) == 2
        retrain(a_study, 90, to=tmp_path / "b.zarr", workers=0, **QUIET)


def test_diverged_rows_are_recorded_and_not_averaged(tmp_path):
    def sometimes(mask, seed):
        return linear(mask, seed) * (np.inf if mask[:3].all() else 1)

    bank = retrain(study(sometimes), 60, to=tmp_path / "b.zarr", workers=2, **QUIET)
    bad = bank.masks(ok=False)[:, :3].all(axis=1)
    assert bad.any()
    assert sorted(bank.errors()) == np.flatnonzero(bad).tolist()
    assert len(bank.select()) == 60 - bad.sum()
    assert np.isfinite(bank.outputs_of()).all()


def recipe_study():
    import torch

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)).astype("f4"), np.arange(40) % 2
    recipe = whence.Recipe(
        model=lambda: torch.nn.Linear(5, 2), epochs=2, batch_size=10, optimizer=whence.SGD(lr=0.1)
    )
    return whence.Study(train=(x, y), targets=(x[:6], y[:6]), recipe=recipe, outputs=["margin", "logits"])


def test_checkpoints_are_kept_also_later_and_belong_to_their_rows(tmp_path):
    import torch

    a_study = recipe_study()
    bank = retrain(a_study, 24, to=tmp_path / "b.zarr", checkpoints=2, block=4, workers=2, **QUIET)
    assert bank.checkpoint_rows() == [0, 1]
    bank = retrain(a_study, 24, to=tmp_path / "b.zarr", checkpoints=[0, 9, 10, 22], workers=2, **QUIET)
    assert bank.checkpoint_rows() == [0, 1, 9, 10, 22]
    for row in (0, 9, 22):
        state = bank.checkpoint(row)
        x = torch.as_tensor(a_study.target_inputs)
        logits = x @ state["weight"].T + state["bias"]
        np.testing.assert_allclose(bank.outputs_of("logits", rows=[row])[0], logits.numpy(), atol=0.05)
    with pytest.raises(whence.InputError, match=r"row 5 has no checkpoint .*checkpoints=\[5\]"):
        bank.checkpoint(5)
    assert bank.engine["stack"] >= 1


def test_a_late_checkpoint_of_another_model_is_refused(tmp_path):
    from whence.bank import BankError
    from whence.retraining.work import Job, do

    a_study = recipe_study()
    bank = retrain(a_study, 24, to=tmp_path / "b.zarr", block=4, workers=0, **QUIET)

    class Other:
        def train(self, masks, seeds, keep_states=False):
            yield from a_study.trainer(engine=bank.engine).train(masks, seeds + 1, keep_states)

    with pytest.raises(BankError, match="row 3 did not come out as it was committed"):
        do(Job(0, frozenset([3]), only_checkpoints=True), bank, Other())
    assert bank.checkpoint_rows() == []


def test_a_recipe_gives_the_same_bits_in_any_process(tmp_path):
    a_study = recipe_study()
    one = retrain(a_study, 24, to=tmp_path / "a.zarr", block=4, workers=2, **QUIET)
    two = Bank.create(tmp_path / "b.zarr", a_study, one.plan, block=6, engine=one.engine)
    two = retrain(a_study, 24, to=two.path, workers=1, **QUIET)
    assert same(one, two)
