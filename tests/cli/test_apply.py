"""`whence apply`: the applications from the command line, on a learner whose effects are known."""

import json

import pytest
from typer.testing import CliRunner

from whence.attribution import Attribution
from whence.cli import app

runner = CliRunner()
STUDY = """
import numpy as np
import whence

effects = np.abs(np.random.default_rng(0).normal(size=(4, 20)))


def train(mask, seed):
    return 1 + effects @ mask - effects.sum(1) + 0.01 * np.random.default_rng(seed).normal(size=4)


study = whence.Study.from_function(train, n=20, targets=4, outputs=["margin"], name="toy")
"""
NAME = "toy_of_applications:study"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import sys

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "toy_of_applications.py").write_text(STUDY)
    monkeypatch.delitem(sys.modules, "toy_of_applications", raising=False)
    import toy_of_applications as toy

    ids = {"target_ids": range(4), "train_ids": range(20)}
    Attribution(toy.effects, bias=1 - toy.effects.sum(1), calibrated=True, method="truth", **ids).save(
        "truth"
    )
    Attribution(toy.effects[:, ::-1], method="wrong", **ids).save("wrong")
    return tmp_path


def run(*words):
    result = runner.invoke(app, ["apply", *words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_support_of_named_targets(folder):
    predicted = run("support", "truth", "--target", "2", "--target", "0")
    assert [row["target"] for row in predicted["rows"]] == [2, 0] and predicted["verified"] is None
    found = run(
        *("support", "truth", "--study", NAME, "--target", "2", "--retrainings", "2"),
        *("--limit", "19", "--to", "kept", "--report", "page.html"),
    )
    assert found["rows"][0]["support"] == predicted["rows"][0]["estimate"]
    assert "<html" in (folder / "page.html").read_text() and (folder / "kept").is_dir()


def test_support_of_several_attributions(folder):
    words = ["--study", NAME, "--targets", "4", "--retrainings", "2", "--limit", "19"]
    found = run("support", "truth", "wrong", *words)
    assert found["reference"] == "wrong" and found["tests"]["truth"]["observed"] == 4
    refused = runner.invoke(app, ["apply", "support", "truth", "wrong"])
    assert refused.exit_code == 2 and "--study" in refused.stderr


def test_leakage(folder):
    found = run("leakage", "truth", "--top", "5", "--study", NAME, "--no-verify")
    assert len(found["suspects"]) == 5 and found["verified"] is None


def test_groups_from_a_file(folder):
    (folder / "by.json").write_text(json.dumps(["a", "b"] * 10))
    found = run("groups", "truth", "--by", "by.json", "--study", NAME, "--retrainings", "2")
    assert {row["group"] for row in found["rows"]} == {"a", "b"}
    for row in found["rows"]:
        assert row["realised"] == pytest.approx(-row["effect"], abs=0.1)
    for wrong, sentence in (("nowhere.json", "neither class nor a JSON file"), ("class", "with labels")):
        refused = runner.invoke(app, ["apply", "groups", "truth", "--by", wrong])
        assert refused.exit_code == 2 and sentence in refused.stderr


def test_text_is_for_people(folder):
    result = runner.invoke(app, ["apply", "support", "truth", "--target", "1"])
    assert result.exit_code == 0 and "Not verified by retraining" in result.stdout
    unknown = runner.invoke(app, ["apply", "support", "truth", "--target", "seventeen"])
    assert unknown.exit_code == 2 and "seventeen" in unknown.stderr


def test_embedding_with_its_check(folder):
    words = ("embedding", "truth", "--components", "2", "--neighbours", "2")
    predicted = run(*words)
    assert predicted["verified"] is None and len(predicted["neighbours"]) == 4
    found = run(*words, "--study", NAME, "--check", "1", "--retrainings", "3", "--to", "kept")
    assert {pull["component"] for pull in found["pulls"]} == {1} and found["verified"]
    assert (folder / "kept" / "embedding.zarr").is_dir()


def test_linearity_and_kept_fractions_of_banks(folder):
    import toy_of_applications as toy

    import whence

    for share in (0.3, 0.6):
        whence.retrain(toy.study, 200, keep=share, to=f"{share}.zarr", workers=0, progress=False, block=100)
    found = run("linearity", "0.3.zarr", "--lds", "0.5", "--report", "page.html")
    assert found["needed"][0]["lds"] == 0.5 and "<html" in (folder / "page.html").read_text()
    checked = run("linearity", "0.3.zarr", "--study", NAME, "--retrainings", "100", "--to", "kept")
    assert checked["verified"] and (folder / "kept" / "linearity.zarr").is_dir()
    assert set(run("keep", "0.3.zarr", "0.6.zarr")["best"]) == {"0.3", "0.6"}
    refused = runner.invoke(app, ["apply", "keep", "0.3.zarr"])
    assert refused.exit_code == 2 and "two or more" in refused.stderr


RECIPES = """
import numpy as np
import torch
import whence

rng = np.random.default_rng(0)
images = rng.integers(0, 200, (40, 4, 4), dtype=np.uint8)
labels = np.arange(40) % 2


def make(gain):
    def fit(inputs, labels, seed):
        pull = gain * (inputs[:, 0, 0].float() * (2 * labels - 1)).mean() / 255

        def model(x):
            odds = pull + gain * x[:, 0, 0].float() / 255 + 0.1 * np.random.default_rng(seed).normal()
            return torch.stack([-odds, odds], 1)

        return model

    return whence.Study.from_training_function(
        fit, (images, labels), (images[:8], labels[:8]), classes=["no", "yes"]
    )


seeing, blind = make(4.0), make(0.1)


def corner(pictures):
    pictures[:, 0, 0] = 255
    return pictures
"""


def test_compare_with_a_feature(folder, monkeypatch):
    import sys

    import whence

    (folder / "two_recipes.py").write_text(RECIPES)
    monkeypatch.delitem(sys.modules, "two_recipes", raising=False)
    import two_recipes

    for name in ("seeing", "blind"):
        study = getattr(two_recipes, name)
        whence.retrain(study, 80, to=folder / f"{name}.zarr", workers=0, progress=False)
    words = ("compare", "seeing.zarr", "blind.zarr", "--names", "seeing,blind", "--components", "1")
    plain = run(*words, "--splits", "1")
    assert plain["names"] == ["seeing", "blind"] and len(plain["directions"]) == 2
    data = ("--study", "two_recipes:seeing", "--other", "two_recipes:blind", "--splits", "1")
    feature = ("--transform", "two_recipes:corner", "--class", "yes", "--retrainings", "3")
    found = run(*words, *data, *feature, "--to", "kept", "--report", "page.html")
    assert found["contrasts"][0]["transform"] == "corner" and found["effects"]["retrainings"] == 3
    assert (folder / "kept" / "transform" / "1.zarr").is_dir()
    assert "the same targets after corner" in (folder / "page.html").read_text().lower()
    for wrong, sentence in (
        (("--names", "one"), "two names with a comma between"),
        (feature, "--transform needs --study"),
        ((*data, "--transform", "two_recipes:corners", "--class", "yes"), "did you mean 'corner'"),
    ):
        refused = runner.invoke(app, ["apply", *words, *wrong])
        assert refused.exit_code == 2 and sentence in refused.stderr, refused.output


def test_backdoor(folder):
    import numpy as np

    w = np.random.default_rng(0).normal(size=(200, 200))
    w[:20, :20] += 3
    Attribution(w, target_ids=range(200), train_ids=range(200)).save("own")
    found = run("backdoor", "own", "--restarts", "4", "--report", "page.html")
    assert found["detected"] and sorted(found["member_ids"]) == list(range(20))
    assert found["verified"] is None and "strong coherent group" in (folder / "page.html").read_text()
    refused = runner.invoke(app, ["apply", "backdoor", "truth"])
    assert refused.exit_code == 2 and "self_targets" in refused.stderr


IMAGES = """
import numpy as np
import whence

rng = np.random.default_rng(0)
y = np.arange(30) % 3
x = (rng.integers(0, 256, (30, 8, 8)) // 2 + 40 * y[:, None, None]).astype(np.uint8)
recipe = whence.Recipe(
    lambda: whence.networks.mlp(64, 3, (8,)), epochs=3, batch_size=8, optimizer=whence.SGD(0.1)
)
study = whence.Study((x[:24], y[:24]), (x[24:], y[24:]), recipe)
"""


def test_unlearn_certifies_and_saves_a_model(tmp_path, monkeypatch):
    import numpy as np
    from safetensors.torch import load_file, save_file

    import whence
    from whence.applications.unlearning import examined

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "images_to_forget.py").write_text(IMAGES)
    (tmp_path / "forget.json").write_text("[3, 5]")
    import images_to_forget as module

    study = examined(module.study)
    scores = Attribution(
        np.random.default_rng(1).normal(size=(30, 3, 24)), target_ids=study.target_ids,
        train_ids=study.train_ids, output="logits", output_ids=range(3), calibrated=True,
    )  # fmt: skip
    scores.save("scores")
    save_file(whence.training.train(study).state_dict(), "model.safetensors")
    words = ("unlearn", "forget.json", "--study", "images_to_forget:study", "--to", "kept", "--models", "10")
    own = ("--model", "model.safetensors", "--save", "changed.safetensors")
    found = run(*words, "--attribution", "scores", "--set", "lr=0.01", "--set", "epochs=2", *own)
    assert found["method"] == "datamodel matching" and found["forget"] == [3, 5]
    old, new = load_file("model.safetensors"), load_file("changed.safetensors")
    assert old.keys() == new.keys() and any(not np.array_equal(old[k], new[k]) for k in old)
    kernel = run(*words, "--method", "kernel", "--attribution", "scores", "--set", "ridge=0.1")
    assert kernel["method"] == "kernel matching"
    assert run(*words, "--method", "oracles", "--set", "epochs=1")["method"] == "oracle matching"
    for extra, sentence in (
        (("--method", "direct"), "needs --attribution"),
        (("--method", "ascent", "--attribution", "scores"), "uses no attribution"),
        (("--method", "ascent", "--set", "speed=1"), "names 'speed'"),
        (("--method", "ascent", "--set", "lr=fast"), "NAME=NUMBER"),
        (("--method", "ascent", "--save", "x"), "belong together"),
    ):
        refused = runner.invoke(app, ["apply", *words, *extra])
        assert refused.exit_code == 2 and sentence in refused.stderr, refused.output
    (tmp_path / "forget.json").write_text("[99]")
    refused = runner.invoke(app, ["apply", *words, "--method", "ascent"])
    assert refused.exit_code == 2 and "the training set lacks" in refused.stderr
