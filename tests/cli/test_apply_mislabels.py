"""`whence apply mislabels`: attributions, a bank and training dynamics from the command line."""

import json

import pytest
from typer.testing import CliRunner

from whence.cli import app

runner = CliRunner()
STUDY = """
import whence
from tests.applications.mislabelled import GIVEN, HELD_OUT, X
from whence.study.variants import self_targets, with_outputs

mlp = lambda: whence.networks.mlp(3, 3, (8,))
recipe = whence.Recipe(mlp, epochs=5, batch_size=15, optimizer=whence.SGD(0.1))
study = whence.Study((X, GIVEN), HELD_OUT, recipe, classes=["red", "green", "blue"])
own = with_outputs(self_targets(study), ["margin", "logits"])
"""
NAME = "toy_of_labels:study"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_of_labels.py").write_text(STUDY)
    monkeypatch.delitem(sys.modules, "toy_of_labels", raising=False)
    return tmp_path


def run(*words):
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_from_a_bank_to_a_page(folder):
    import toy_of_labels as toy

    import whence

    bank = whence.retrain(toy.own, 32, to="self.zarr", workers=0, progress=False)
    whence.methods.Datamodel("ridge").attribute(bank).save("ridge")
    found = run("apply", "mislabels", "ridge", "--bank", "self.zarr")
    assert found["by"] == "out-of-fold margin" and found["verified"] is None
    assert {"self-influence", "self-confidence"} <= set(found["suspects"][0]["ranks"])
    words = ("--study", NAME, "--count", "9", "--retrainings", "2", "--to", "kept", "--report", "page.html")
    found = run("apply", "mislabels", "--bank", "self.zarr", *words)
    assert len(found["suspects"]) == 9 and found["cleaning"]["suspects"] == 9
    assert (folder / "kept" / "mislabels.zarr").is_dir()
    assert "rather" in (folder / "page.html").read_text()


def test_dynamics_and_what_is_refused(folder):
    found = run("apply", "mislabels", "--dynamics", "1", "--study", NAME, "--no-verify", "--by", "data map")
    assert found["by"] == "data map" and set(found["suspects"][0]["ranks"]) == {"AUM", "data map"}
    for words, sentence in (
        (("--dynamics", "1"), "needs --study"),
        ((), "nothing to judge labels by"),
        (("--dynamics", "1", "--study", NAME, "--no-verify", "--by", "magic"), "by is 'magic'"),
    ):
        refused = runner.invoke(app, ["apply", "mislabels", *words])
        assert refused.exit_code == 2 and sentence in refused.stderr
