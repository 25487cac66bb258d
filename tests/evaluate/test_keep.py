"""Datamodels of one kept fraction judged at another: an effect that saturates must be seen to."""

import json

import numpy as np
import pytest

import whence
from whence.errors import InputError
from whence.evaluate import keep_fractions, lds
from whence.methods import Datamodel

N, TARGETS = 30, 12
KEEPS = (0.1, 0.5, 0.75)


def saturating(mask, seed):
    """The first half of the examples works alone, but is redundant once several are there; the rest adds
    up."""
    rng = np.random.default_rng(seed)
    first, rest = mask[:15].sum(), mask[15:] @ np.linspace(-1, 1, 15)
    return 3 * np.minimum(first, 2) * np.linspace(0.5, 1, TARGETS) + rest + 0.2 * rng.normal(size=TARGETS)


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keep")
    study = whence.Study.from_function(saturating, n=N, targets=TARGETS)
    return [
        whence.retrain(
            study, 400, keep=keep, to=folder / f"{keep}.zarr", workers=0, progress=False, block=100
        )
        for keep in reversed(KEEPS)
    ]


def test_every_pair_of_fractions(banks):
    found = keep_fractions(Datamodel("ridge"), banks, bootstrap=200)
    assert found.fractions == KEEPS and len(found.cells) == 9
    by_keep = {bank.keep: bank for bank in banks}
    direct = lds(Datamodel("ridge").attribute(by_keep[0.75]), by_keep[0.1], bootstrap=200)
    assert found.cell(0.75, 0.1).score.mean == direct.mean
    assert found.best(0.1) == 0.1 and found.best(0.75) > 0.1
    assert all(found.cell(found.best(judged), judged).behind == 0 for judged in KEEPS)
    # an effect that is gone at 0.75 cannot have been learnt there
    cell = found.cell(0.75, 0.1)
    assert (
        cell.behind > 0.1
        and cell.behind_interval[0] > 0
        and cell.score.mean + cell.behind == pytest.approx(found.cell(0.1, 0.1).score.mean)
    )
    assert cell.models == sum(len(by_keep[0.75].select(part)) for part in ("train", "validation"))
    assert cell.cost == pytest.approx(cell.models * found.seconds[0.75])


def test_it_is_shown(banks):
    found = keep_fractions(Datamodel("ridge"), banks[:2], bootstrap=100)
    assert (
        found.table().columns[:3] == ["estimated at keep", "judged at keep", "LDS"]
        and len(found.table().rows) == 4
    )
    chart = found.chart()
    assert [series.name for series in chart.series] == ["estimated at 0.5", "estimated at 0.75"]
    assert all(low < y < high for s in chart.series for low, y, high in zip(s.low, s.y, s.high, strict=True))
    assert "noise ceiling" in str(found) and "at 0.75" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["fractions"] == [0.5, 0.75]


def test_bad_input(banks, tmp_path):
    method = Datamodel("ridge")
    with pytest.raises(InputError, match="two or more, all different"):
        keep_fractions(method, banks[:1])
    with pytest.raises(InputError, match="two or more, all different"):
        keep_fractions(method, [banks[0], banks[0]])
    other = whence.Study.from_function(lambda mask, seed: mask[:3] + 0.0, n=N, targets=3)
    stranger = whence.retrain(other, 60, keep=0.2, to=tmp_path / "a.zarr", workers=0, progress=False)
    with pytest.raises(InputError, match="different studies"):
        keep_fractions(method, [banks[0], stranger])
    with pytest.raises(InputError, match="fractions are"):
        keep_fractions(method, banks[:2], bootstrap=0).cell(0.2, 0.5)
