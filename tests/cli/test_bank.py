"""`whence bank` and `whence retrain`: what they print, and the codes they end with."""

import json
import sys

import pytest
import typer
from typer.testing import CliRunner

import whence
from tests.bank.studies import make, same
from whence.bank import Bank
from whence.cli import bank as bank_verbs
from whence.cli._study import load_study
from whence.cli.retrain import retrain

run = CliRunner().invoke
SCRIPT = """
import whence
from tests.bank.studies import study as build

study = build()
other = 3

def make():
    return build()
"""


@pytest.fixture
def retrain_app():
    app = typer.Typer()
    app.command()(retrain)
    return app


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_study.py").write_text(SCRIPT)
    yield tmp_path
    sys.modules.pop("my_study", None)
    while str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_info(tmp_path):
    make(tmp_path / "b.zarr", blocks=[0, 1])
    text = run(bank_verbs.app, ["info", str(tmp_path / "b.zarr")]).output
    assert "8 of 24 committed" in text
    found = json.loads(run(bank_verbs.app, ["info", str(tmp_path / "b.zarr"), "--json"]).output)
    assert found["rows_committed"] == 8
    assert found["parts"]["train"] + found["parts"]["validation"] + found["parts"]["held_out"] == 8


def test_verify_finds_takes_back_and_makes_again(here):
    bank = make(here / "b.zarr")
    assert run(bank_verbs.app, ["verify", "b.zarr"]).exit_code == 0
    chunk = bank.path / "margin" / "c.3.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    found = run(bank_verbs.app, ["verify", "b.zarr"])
    assert found.exit_code == 1
    assert "block 3 (rows 12 to 15): margin:" in found.output
    found = run(bank_verbs.app, ["verify", "b.zarr", "--remake", "my_study:study", "--json"])
    assert found.exit_code == 0
    assert json.loads(found.output)["remade"] == [3]
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert "Taken back: blocks 3" in run(bank_verbs.app, ["verify", "b.zarr", "--discard"]).output
    assert Bank.open("b.zarr").missing_blocks() == [3]


def test_merge(tmp_path):
    for name, blocks in (("l", [0, 1, 2]), ("r", [3, 4, 5])):
        make(tmp_path / name, blocks=blocks)
    found = run(
        bank_verbs.app, ["merge", str(tmp_path / "l"), str(tmp_path / "r"), "--to", str(tmp_path / "both")]
    )
    assert found.exit_code == 0
    assert "24 of 24 retrainings" in found.output
    assert same(Bank.open(tmp_path / "both"), make(tmp_path / "whole"))


def test_retrain_fills_and_resumes(here, retrain_app):
    command = ["my_study:study", "--models", "24", "--to", "b.zarr", "--workers", "0", "--quiet"]
    assert "24 of 24 retrainings are in b.zarr" in run(retrain_app, command).output
    command[2] = "30"
    assert json.loads(run(retrain_app, [*command, "--json"]).output)["rows_committed"] >= 30


def test_every_verb_shows_an_example(retrain_app):
    for verb in ("info", "verify", "merge"):
        assert f"whence bank {verb} " in run(bank_verbs.app, [verb, "--help"]).output
    assert "whence retrain my_study:study" in run(retrain_app, ["--help"]).output


@pytest.mark.parametrize(
    "name, message",
    [
        ("my_study", "written module:attribute"),
        ("my_study.py:study", "write my_study:study, not"),
        ("my_studie:study", "no module 'my_studie' .* did you mean 'my_study'"),
        ("my_study:studie", "has no 'studie'; did you mean 'study'"),
        ("my_study:x", "has no 'x'; its studies are study"),
        ("my_study:other", "is of type int, not a whence.Study"),
    ],
)
def test_mistyped_studies_get_one_helpful_sentence(here, name, message):
    with pytest.raises(whence.InputError, match=message):
        load_study(name)


def test_a_study_may_be_made_by_a_function(here):
    assert load_study("my_study:make").fingerprint == load_study("my_study:study").fingerprint


def test_an_import_that_fails_inside_the_module_is_not_hidden(here):
    (here / "broken_study.py").write_text("import nothing_of_that_name")
    with pytest.raises(ModuleNotFoundError, match="nothing_of_that_name"):
        load_study("broken_study:study")
