"""The command line as a whole: every verb explains itself, and mistakes become one sentence."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from whence.cli import app

runner = CliRunner()
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def verbs(command=None, words=()):
    """Every command as its words: ("retrain",), ("bank", "info"), ..."""
    command = get_command(app) if command is None else command
    inside = getattr(command, "commands", None)
    if not inside:
        yield words, command
        return
    for name, child in inside.items():
        yield from verbs(child, (*words, name))


VERBS = dict(verbs())


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_shows_an_example_and_takes_json(words):
    text = f"{VERBS[words].help or ''} {VERBS[words].epilog or ''}"
    assert re.search(rf"Example:\s+whence {' '.join(words)}\b", text), "no Example line"
    shown = runner.invoke(app, [*words, "--help"])
    assert shown.exit_code == 0
    assert "--json" in shown.output
    assert "Example" in shown.output


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_verb_is_in_the_docs(words):
    assert f"## whence {' '.join(words)}\n" in REFERENCE.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", VERBS, ids=" ".join)
def test_every_option_has_a_help_text(words):
    silent = [
        param.name for param in VERBS[words].params if not getattr(param, "help", "") and param.name != "help"
    ]
    assert not silent


def test_the_reference_is_the_code_s():
    script = Path(__file__).parents[2] / "docs" / "cli_reference.py"
    check = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, timeout=120)
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["bank", "info", "nowhere.zarr"],
        ["attribute", "nowhere.zarr", "--to", "out"],
        ["evaluate", "nowhere", "--bank", "nowhere.zarr"],
        ["report", "nowhere", "--bank", "nowhere.zarr"],
        ["apply", "support", "nowhere"],
        ["apply", "leakage", "nowhere"],
        ["apply", "groups", "nowhere"],
        ["retrain", "nowhere:study", "--to", "out.zarr"],
        ["retrain", "nowhere", "--to", "out.zarr"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_wrong_argument_is_one_sentence_and_writes_nothing(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = runner.invoke(app, words)
    assert result.exit_code == 2
    assert result.stderr.startswith("whence: ")
    assert "nowhere" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_an_unknown_verb_suggests_the_nearest():
    result = runner.invoke(app, ["retrian"])
    assert result.exit_code == 2
    assert "retrain" in result.output


def test_python_m_whence():
    shown = subprocess.run(
        [sys.executable, "-m", "whence", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout.startswith("whence ")


STUDY = """
import numpy as np
import whence

rng = np.random.default_rng(0)
effects = rng.normal(size=(3, 24))


def train(mask, seed):
    return effects @ mask + 0.1 * np.random.default_rng(seed).normal(size=3)


study = whence.Study.from_function(train, n=24, targets=3, name="toy")
"""


def test_from_a_study_to_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_study_of_a_test.py").write_text(STUDY)

    def run(*words):
        result = runner.invoke(app, [*words, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    study = "toy_study_of_a_test:study"
    info = run("retrain", study, "--models", "200", "--to", "toy.zarr", "--workers", "0", "--quiet")
    assert info["rows_committed"] >= 200
    facts = run("attribute", "toy.zarr", "--penalty", "ridge", "--to", "ridge")
    assert facts["shape"] == [3, 24]
    run("attribute", "toy.zarr", "--method", "difference-of-means", "--to", "means")
    run("attribute", "toy.zarr", "--method", "random", "--to", "random")
    judged = run(
        *("evaluate", "ridge", "means", "random", "--bank", "toy.zarr", "--study", study),
        *("--targets", "1", "--remove", "2,4", "--retrainings", "2", "--to", "check.zarr"),
    )
    assert judged["lds"]["ridge"]["mean"] > 0.9 > judged["lds"]["random"]["mean"]
    assert judged["counterfactual"]["overall"]["spearman"] > 0.5
    written = run(
        *("report", "ridge", "random", "--bank", "toy.zarr", "--study", study, "--check", "check.zarr"),
        *("--targets", "1", "--remove", "2,4", "--retrainings", "2", "--to", "toy.html"),
    )
    assert "<html" in Path(written["path"]).read_text(encoding="utf-8")
    assert run("bank", "verify", "toy.zarr")["ok"]


def test_attribute_names_what_a_similarity_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_study_of_a_test.py").write_text(STUDY)
    words = ["retrain", "toy_study_of_a_test:study", "--models", "100", "--to", "toy.zarr", "--workers", "0"]
    assert runner.invoke(app, words).exit_code == 0
    result = runner.invoke(app, ["attribute", "toy.zarr", "--method", "pixel-similarity", "--to", "out"])
    assert result.exit_code == 2
    assert "--study" in result.stderr
