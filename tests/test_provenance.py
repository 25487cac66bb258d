"""Fingerprints: equal content, equal print; any change shows."""

import numpy as np
import pytest
import torch

from whence.provenance import fingerprint, machine, usable_cores, versions

BASE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [1, "x", None], "c": {"d": 0.5}}


def test_copies_and_tensors_have_the_print_of_their_content():
    again = {"c": {"d": 0.5}, "b": [1, "x", None], "a": torch.arange(6, dtype=torch.float32).reshape(2, 3)}
    assert fingerprint(BASE) == fingerprint(again)
    fortran = {**BASE, "a": np.asfortranarray(BASE["a"])}
    assert fingerprint(fortran) == fingerprint(BASE)
    assert fingerprint(np.int64(3)) == fingerprint(3)


@pytest.mark.parametrize(
    "change",
    [
        {"a": BASE["a"] + np.eye(2, 3, dtype=np.float32) * 1e-6},
        {"a": BASE["a"].astype(np.float64)},
        {"a": BASE["a"].reshape(3, 2)},
        {"b": [1, "x"]},
        {"b": ["x", 1, None]},
        {"c": {"e": 0.5}},
        {"e": 1},
    ],
)
def test_any_change_shows(change):
    assert fingerprint({**BASE, **change}) != fingerprint(BASE)


def test_nesting_is_part_of_the_content():
    assert fingerprint([[1], [2]]) != fingerprint([[1, 2]])
    assert fingerprint(np.array(["a", "b"])) != fingerprint(np.array(["ab", ""]))
    assert fingerprint([1, 12]) != fingerprint([11, 2])
    assert fingerprint({"a": 11}) != fingerprint({"a1": 1})
    assert fingerprint(["a", ["b"]]) != fingerprint([["a"], "b"])


def test_the_print_is_what_it_was_when_first_written():
    """A change of the format would make every stored bank another study's."""
    assert fingerprint(BASE) == "87dada994ed5a698895c5ca393758e0da4378cdb122cd32daad24ec0fa041f91"


def test_the_machine_in_words():
    assert versions()["torch"] == torch.__version__.split("+")[0] or "torch" in versions()
    assert machine()["cores"] == usable_cores() >= 1
