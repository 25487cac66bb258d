"""Tuning looks at validation retrainings alone and keeps the best."""

import pytest

from tests.evaluate.banks import LinearBank
from whence import evaluate
from whence.errors import InputError
from whence.methods import Method


class Guess(Method):
    """The truth, spoiled by `error`."""

    needs = ()

    def __init__(self, error=0.0, seed=1):
        if error < 0:
            raise InputError("error is negative.")
        self.error, self.seed = error, seed

    def attribute(self, source, output=None):
        return source.guess(self.error, self.seed)


class Watched(LinearBank):
    """A bank that tells which of its parts were read."""

    def __init__(self, **options):
        super().__init__(**options)
        self.read = set()

    def select(self, part, output):
        self.read.add(part)
        return super().select(part, output)

    def by_mask(self, part, output):
        self.read.add(part)
        return super().by_mask(part, output)


def test_keeps_the_best_and_never_looks_at_what_is_reported():
    bank = Watched()
    tuned = evaluate.tune(Guess, {"error": [3.0, 0.1, 1.0]}, bank, bank)
    assert tuned.best == {"error": 0.1} and tuned.attribution.method == "guess 0.1"
    assert [settings["error"] for settings, _ in tuned.scores] == [3.0, 0.1, 1.0]
    assert bank.read == {"validation"}
    assert str(tuned).splitlines()[1].startswith("error=0.1")
    assert tuned.to_dict()["best"] == {"error": 0.1}


def test_grids():
    bank = LinearBank()
    tuned = evaluate.tune(Guess, {"error": [0.5, 1.0], "seed": [1, 2]}, bank, bank)
    assert len(tuned.scores) == 4 and tuned.scores[1][0] == {"error": 0.5, "seed": 2}
    listed = evaluate.tune(Guess, [{"error": 0.5}, {"seed": 2}], bank, bank)
    assert listed.best == {"seed": 2}


@pytest.mark.parametrize("grid", [{}, [], {"error": []}, {"error": 1.0}, {"error": "ab"}, {"error": [-1.0]}])
def test_bad_grids(grid):
    bank = LinearBank()
    with pytest.raises(InputError):
        evaluate.tune(Guess, grid, bank, bank)


def test_needs_validation_retrainings():
    bank = LinearBank(models=9)
    with pytest.raises(InputError, match="validation"):
        evaluate.tune(Guess, {"error": [0.5]}, bank, bank)
