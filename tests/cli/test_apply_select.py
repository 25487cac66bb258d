"""`whence apply select`: choices, trainings and index files from the command line."""

import json

import pytest
from typer.testing import CliRunner

from whence.attribution import Attribution
from whence.cli import app

runner = CliRunner()
STUDY = """
import numpy as np
import whence

effects = np.random.default_rng(0).normal(size=(4, 20))


def train(mask, seed):
    return 2 - effects @ mask / mask.sum() + 0.01 * np.random.default_rng(seed).normal(size=4)


def study_of(ids):
    return whence.Study.from_function(train, n=20, targets=ids, outputs=["loss"])


study, report = study_of(list("abcd")), study_of(list("efgh"))
study.train_texts = np.array([f"{'cat' if i < 10 else 'dog'} number {i}" for i in range(20)])
study.target_texts = np.array(["a cat", "one cat", "any cat", "my cat"])
"""
NAME = "toy_of_selection:study"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_of_selection.py").write_text(STUDY)
    monkeypatch.delitem(sys.modules, "toy_of_selection", raising=False)
    import toy_of_selection as toy

    Attribution(-toy.effects, output="loss", target_ids=list("abcd"), train_ids=range(20)).save("truth")
    return tmp_path


def run(*words):
    result = runner.invoke(app, ["apply", "select", "--study", NAME, *words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_choices_alone(folder):
    found = run("truth", "--by", "bm25", "--fraction", "0.25", "--fraction", "0.5", "--choices", "out")
    assert found["verified"] is None and {row["selector"] for row in found["rows"]} == {
        "random", "truth", "truth, worst", "BM25",
    }  # fmt: skip
    lines = (folder / "out" / "targets-BM25-0.5.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(10))
    assert (folder / "out" / "targets-truth-worst-0.25.jsonl").exists()


def test_only_the_head_goes_by_rank(folder):
    run("truth", "--fraction", "0.5", "--choices", "ranked")
    run("truth", "--fraction", "0.5", "--choices", "filled", "--head", "0.2")
    run("truth", "--fraction", "0.2", "--choices", "best")
    best, ranked, filled = (
        {json.loads(line)["id"] for line in (folder / name).read_text().splitlines()}
        for name in (
            "best/targets-truth-0.2.jsonl",
            "ranked/targets-truth-0.5.jsonl",
            "filled/targets-truth-0.5.jsonl",
        )
    )
    assert len(ranked) == len(filled) == 10 and best < filled != ranked


def test_judged_by_training_on_tasks_with_sizes(folder):
    (folder / "tasks.json").write_text(json.dumps({"first": [["a", "b"], ["e", "f"]]}))
    (folder / "sizes.json").write_text(json.dumps([1, 2] * 10))
    found = run(
        *("truth", "--held-out", "toy_of_selection:report", "--tasks", "tasks.json"),
        *("--sizes", "sizes.json", "--fraction", "0.2", "--to", "kept", "--report", "page.html"),
    )
    rows = {row["selector"]: row for row in found["rows"] if row["fraction"] == 0.2}
    assert rows["truth"]["loss"] < rows["random"]["loss"] < rows["truth, worst"]["loss"]
    assert rows["truth"]["size"] <= 6 and "2 report examples" in found["verified"]
    assert (folder / "kept" / "first-truth.zarr").is_dir() and "<html" in (folder / "page.html").read_text()


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "selectors is empty"),
        (["truth", "--tasks", "nothing.json"], "nothing.json cannot be read as JSON"),
        (["truth", "--fraction", "2"], "fractions must be"),
        (["truth", "--head", "2"], "head must be a share"),
    ],
)
def test_bad_words(folder, words, said):
    result = runner.invoke(app, ["apply", "select", "--study", NAME, *words])
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())
