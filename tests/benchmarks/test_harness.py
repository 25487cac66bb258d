"""The benchmark harness: what is written, what is listed, how claims are judged."""

import json

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import harness


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_result_is_written_in_the_documented_form(results, capsys):
    result = harness.Result("demo", {"n": 3})
    result.row(method="a", seconds=np.float32(1.5))
    result.row(method="b", seconds=2.0)
    result.row(peak=7)
    result.claim("fast", 25.0, at_least=20, interval=(21, 30))
    result.claim("small", 2.0, at_most=1)
    assert result.write(quick=True).name == "demo.quick.json"
    written = json.loads(result.write().read_text())
    assert list(written)[:7] == ["name", "date", "versions", "machine", "settings", "rows", "claims"]
    assert written["rows"][0] == {"method": "a", "seconds": 1.5}
    fast, small = written["claims"]
    assert fast == {"claim": "fast", "value": 25.0, "interval": [21.0, 30.0], "mark": ">= 20", "holds": True}
    assert small["holds"] is False and small["mark"] == "<= 1"
    result.print()
    assert "fast" in capsys.readouterr().out
    with pytest.raises(ValueError, match="at_least or at_most"):
        result.claim("neither", 1.0)


def test_alternate_turns_the_order_around():
    order = []
    seconds = harness.alternate({name: lambda name=name: order.append(name) for name in "ab"}, 3)
    assert "".join(order) == "abbaab" and all(len(values) == 3 for values in seconds.values())
    assert harness.spread([3, 1, 2]) == (2.0, 1.0, 3.0)


def _use_memory():
    return bytearray(200 << 20)


def test_peak_memory_is_that_of_the_task():
    ballast = bytearray(600 << 20)  # of the parent, which a child must not be charged with
    assert 150 << 20 < harness.peak_memory(_use_memory) < 400 << 20
    del ballast


def test_list_and_unknown_name(capsys):
    assert command.main([]) == 0
    assert "lasso  LASSO paths of all targets at once" in capsys.readouterr().out
    assert "harness" not in command.benchmarks()
    assert command.main(["nothing"]) == 2


@pytest.mark.slow
def test_quick_lasso_benchmark():
    from benchmarks import lasso

    result = lasso.run(quick=True)
    accuracy = next(claim for claim in result.claims if claim["claim"].startswith("objective"))
    assert accuracy["holds"], accuracy
