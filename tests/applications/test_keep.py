"""Kept fractions as a finding: best fractions, a second opinion by fresh retrainings, bad input."""

import json

import numpy as np
import pytest

import whence
from whence.applications import keep
from whence.errors import InputError
from whence.evaluate import keep_fractions
from whence.methods import Datamodel

N, TARGETS = 30, 12


def saturating(mask, seed):
    """Half of the examples are redundant as soon as two of them are there; the rest adds up."""
    first, rest = mask[:15].sum(), mask[15:] @ np.linspace(-1, 1, 15)
    noise = 0.2 * np.random.default_rng(seed).normal(size=TARGETS)
    return 3 * np.minimum(first, 2) * np.linspace(0.5, 1, TARGETS) + rest + noise


@pytest.fixture(scope="module")
def study():
    return whence.Study.from_function(saturating, n=N, targets=TARGETS)


@pytest.fixture(scope="module")
def banks(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keep")
    return [
        whence.retrain(
            study, 300, keep=share, to=folder / f"{share}.zarr", workers=0, progress=False, block=100
        )
        for share in (0.1, 0.75)
    ]


def test_best_fractions_and_their_evidence(banks):
    found = keep(banks)
    direct = keep_fractions(Datamodel("ridge"), banks)
    assert found.best == {0.1: direct.best(0.1), 0.75: direct.best(0.75)}
    assert found.best[0.1] == 0.1 and "0.1" in str(found)
    assert "held-out subsets" in found.verified and len(found.table.rows) == 4
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_second_opinion(banks, study, tmp_path):
    found = keep(banks, study, masks=20, to=tmp_path / "fresh", workers=0)
    assert "20 fresh subsets x 2 seeds" in found.verified
    assert found.fractions.cells[0].score.n_masks == 20
    assert sorted(path.name for path in (tmp_path / "fresh").iterdir()) == ["keep-0.1.zarr", "keep-0.75.zarr"]
    first = keep(banks)
    gap = found.fractions.cell(0.1, 0.1).score.mean - first.fractions.cell(0.1, 0.1).score.mean
    assert abs(gap) < 0.15

    judge = whence.Bank.open(tmp_path / "fresh" / "keep-0.1.zarr")
    masks = {row.tobytes() for row in banks[0].packed_masks()}
    # of 4,060 sets of 3 of 30, few are in both
    assert len(masks & {row.tobytes() for row in judge.packed_masks()}) < 10


def test_judges_must_fit(banks, study, tmp_path):
    other = whence.retrain(
        study, 40, keep=0.5, to=tmp_path / "b.zarr", held_out=0, validation=0, workers=0, progress=False
    )
    with pytest.raises(InputError, match="same fractions"):
        keep_fractions(Datamodel("ridge"), banks, judges=[banks[0], other])


def test_bad_input(banks, study):
    with pytest.raises(InputError, match="banks is empty"):
        keep([])
    with pytest.raises(InputError, match="two or more"):
        keep(banks[:1])
    with pytest.raises(InputError, match="at least 8 masks"):
        keep(banks, study, masks=2)
    other = whence.Study.from_function(lambda mask, seed: np.zeros(TARGETS), n=N, targets=TARGETS)
    with pytest.raises(InputError, match="pass the study of the bank"):
        keep(banks, other)
