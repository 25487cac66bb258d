"""Finding: plain data with its evidence, checked when it is made."""

from __future__ import annotations

import json

import numpy as np
import pytest

from whence.errors import InputError
from whence.finding import Chart, Examples, Finding, Pairs, Series, Table


def test_to_dict_is_json():
    finding = Finding(
        "Support",
        "One row decides.",
        table=Table(["id", "weight"], [[np.int64(3), np.float32(0.5)]]),
        chart=Chart("scatter", [Series("a", np.arange(2), [0.1, 0.2])], "x", "y"),
        examples=[Examples("set", [1, 2], notes=["a", "b"])],
        provenance={"seeds": np.arange(3), "settings": {"k": (1, 2)}},
    )
    read = json.loads(json.dumps(finding.to_dict()))
    assert read["table"]["rows"] == [[3, 0.5]]
    assert read["chart"]["series"][0]["x"] == [0, 1]
    assert read["provenance"] == {"seeds": [0, 1, 2], "settings": {"k": [1, 2]}}
    assert read["verified"] is None


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Finding("", "x"), "`title` of a Finding is empty"),
        (lambda: Finding("x", " "), "`statement` of a Finding is empty"),
        (lambda: Finding("x", "y", provenance={"a": object()}), "JSON-able"),
        (lambda: Table(["a"], [[1, 2]]), "row 0 of `rows` has 2 cells for 1 columns"),
        (lambda: Series("a", [1, 2], [1]), "`y` of series 'a' has 1 entries for 2 points"),
        (lambda: Chart("pie", [Series("a", [1])]), "`kind` is 'pie'"),
        (lambda: Chart("bars", []), "`series` is empty"),
        (lambda: Examples("a", [1], side="left"), "`side` is 'left'"),
        (lambda: Examples("a", [1], pictures=[]), "`pictures` has 0 images for 1 examples"),
        (lambda: Examples("a", [1], notes=[]), "`notes` has 0 lines for 1 examples"),
    ],
)
def test_what_does_not_fit_together_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_pairs_are_of_equal_length():
    Pairs("same?", [1, 2], [3, 4], notes=["a", "b"])
    for given in (([1], [2, 3]), ([1, 2], [3, 4], ["a"])):
        with pytest.raises(InputError, match="one of each for a pair"):
            Pairs("same?", *given)


def test_numbers_that_json_lacks_become_none():
    finding = Finding("a", "b", table=Table(["x"], [[float("nan")], [np.float32("inf")]]))
    assert finding.to_dict()["table"]["rows"] == [[None], [None]]
