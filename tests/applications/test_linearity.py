"""The variance split as a finding: a learner whose parts are known, fresh retrainings, bad input."""

import json

import numpy as np
import pytest

import whence
from whence.applications import linearity
from whence.errors import InputError
from whence.evaluate import variance_split

N, TARGETS = 30, 24
RNG = np.random.default_rng(0)
EFFECTS, TWINS = RNG.normal(size=(TARGETS, N)), RNG.integers(N, size=(TARGETS, 12, 2))


def learner(mask, seed):
    """Additive effects, pairs that act together, and noise of the seed."""
    together = (mask[TWINS[..., 0]] & mask[TWINS[..., 1]]).sum(axis=1)
    return EFFECTS @ mask + together + np.random.default_rng(seed).normal(size=TARGETS)


def study_of(train=learner):
    return whence.Study.from_function(train, n=N, targets=TARGETS, outputs=["margin"])


@pytest.fixture(scope="module")
def study():
    return study_of()


@pytest.fixture(scope="module")
def bank(study, tmp_path_factory):
    to = tmp_path_factory.mktemp("linearity") / "bank.zarr"
    return whence.retrain(study, 600, keep=0.5, to=to, workers=0, progress=False, block=100)


def test_it_says_what_the_split_says(bank):
    found = linearity(bank)
    split = variance_split(bank)
    assert found.statement == split.verdict and found.split.linear == split.linear
    cells = {row[0]: row[1] for row in found.table.rows}
    assert cells["linear share"] == split.linear.value and cells["seed share"] == split.seed.value
    assert cells["best LDS of a linear datamodel"] == split.best_lds().value
    assert len(found.needed) == 4 and found.needed[0].models < found.needed[-1].models
    assert found.verified is None and "Not verified" in str(found)
    json.dumps(found.to_dict(), allow_nan=False)


def test_wanted_scores_are_planned_for(bank):
    found = linearity(bank, lds=[0.3, 0.999])
    reachable, not_reachable = found.needed
    assert reachable.models > 0 and not_reachable.models is None
    assert found.table.rows[-1][1] is None


def test_fresh_retrainings_agree(bank, study, tmp_path):
    found = linearity(bank, study, retrainings=300, to=tmp_path / "fresh.zarr", workers=0)
    assert found.again.retrainings >= 300 and "agrees" in found.verified
    assert found.gap_interval[0] < 0 < found.gap_interval[1]
    assert found.gap == pytest.approx(found.again.linear.value - found.split.linear.value)
    assert [series.name for series in found.chart.series] == ["this bank", "fresh retrainings"]
    seeds = set(bank.select().seed.tolist())
    fresh = whence.Bank.open(tmp_path / "fresh.zarr")
    assert not seeds & set(fresh.select().seed.tolist())
    masks = {row.tobytes() for row in bank.packed_masks()}
    assert not masks & {row.tobytes() for row in fresh.packed_masks()}
    resumed = found.verify(study, 300, to=tmp_path / "fresh.zarr", workers=0)
    assert resumed.gap == found.gap


def test_without_second_seeds_the_rest_is_unknown(study, tmp_path):
    bank = whence.retrain(
        study, 200, keep=0.5, to=tmp_path / "b.zarr", held_out_seeds=1, workers=0, progress=False, block=100
    )
    found = linearity(bank)
    assert "unknown" in found.statement and len(found.split.linear_per_target) == TARGETS
    assert found.table.rows[0][0] == "linear share"


def test_bad_input(bank, study):
    other = study_of(lambda mask, seed: EFFECTS @ mask)
    with pytest.raises(InputError, match="pass the study of the bank"):
        linearity(bank, other)
    with pytest.raises(InputError, match="at least 100"):
        linearity(bank, study, retrainings=10)
    with pytest.raises(InputError, match="between 0 and 1"):
        linearity(bank, lds=[1.2])
    with pytest.raises(InputError, match="not recorded"):
        linearity(bank, output="loss")
