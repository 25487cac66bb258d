"""What holds for every method: checked on each class in whence.methods, new ones without being asked.

A method that cannot be made without arguments gets them in MAKE; one for which a check is not meant is named
there with the reason.
"""

import inspect
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import whence
from tests.training.studies import images
from tests.training.studies import study as tiny
from whence import Attribution, Study, methods
from whence.errors import InputError

N, TARGETS = 40, 5
NAMES = sorted(
    name
    for name in methods.__all__
    if inspect.isclass(cls := getattr(methods, name)) and issubclass(cls, methods.Method)
    and cls is not methods.Method
)  # fmt: skip

# name -> (method made for this study and bank); all others are made without arguments
MAKE = {
    "GuidedDatamodel": lambda study, bank: methods.GuidedDatamodel(methods.Similarity().attribute(study)),
    "Datamodel": lambda study, bank: methods.Datamodel("ridge"),
}
WITHOUT_SIGN = {"Random": "noise has no sign"}
TIED_TARGETS = {
    "Random": "its noise is drawn for all targets at once",
    "GuidedDatamodel": "all targets share its corrections",
    "Datamodel": "ridge chooses penalties in one pass; equal up to rounding only",
}


def make(name, study, bank):
    return MAKE[name](study, bank) if name in MAKE else getattr(methods, name)()


def study_of(targets=TARGETS):
    """Targets are copies of the first training examples; the words tell them from others."""
    base = tiny()
    pictures, labels = images()
    texts = np.array([f"class{labels[i]} word{i} word{i}" for i in range(N)])
    return Study(
        (pictures[:N], labels[:N]),
        (pictures[:targets], labels[:targets]),
        base.recipe,
        ["margin", "loss"],
        train_ids=[f"row {i}" for i in range(N)],
        target_ids=[f"query {i}" for i in range(targets)],
        texts=(texts, texts[:targets]),
    )


@pytest.fixture(scope="module")
def study():
    return study_of()


@pytest.fixture(scope="module")
def bank(study, tmp_path_factory):
    path = tmp_path_factory.mktemp("bank") / "b.zarr"
    return whence.retrain(study, 300, to=path, held_out=0.1, workers=0, progress=False, checkpoints=3)


def source_of(method, study, bank):
    return bank if "retrainings" in method.needs else study


@pytest.fixture(scope="module")
def scores(study, bank):
    """name, output -> Attribution, computed once."""
    kept = {}

    def get(name, output="margin"):
        if (name, output) not in kept:
            method = make(name, study, bank)
            kept[name, output] = method.attribute(source_of(method, study, bank), output)
        return kept[name, output]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_labels_and_units(name, scores, study):
    found = scores(name)
    assert isinstance(found, Attribution) and found.shape == (TARGETS, N), "rows are targets"
    assert found.train_ids.tolist() == study.train_ids.tolist()
    assert found.target_ids.tolist() == study.target_ids.tolist()
    assert found.weight.dtype == np.float32 and np.isfinite(found.weight).all()
    assert found.output == "margin" and found.method and found.data.attrs["units"]
    assert found.provenance["study"] == study.fingerprint and found.provenance["method"].startswith(name)
    error = found.standard_error
    assert error is None or (error.shape == found.shape and (error >= 0).all())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_SIGN])
def test_sign(name, scores):
    """A copy of the target in the training set, rightly labelled, raises its margin and lowers its loss."""
    copies = np.arange(TARGETS)
    margin, loss = scores(name).weight, scores(name, "loss").weight
    others = np.delete(margin, copies, axis=1).mean()
    assert margin[copies, copies].mean() > max(others, 0), "including a copy raises the margin"
    others = np.delete(loss, copies, axis=1).mean()
    assert loss[copies, copies].mean() < min(others, 0), "including a copy lowers the loss"
    assert np.corrcoef(margin.ravel(), loss.ravel())[0, 1] < 0


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_and_changes_nothing(name, scores, study, bank, tmp_path, monkeypatch):
    first = scores(name).weight.copy()
    method = make(name, study, bank)
    settings = repr(method)
    before = (
        study.fingerprint,
        torch.get_rng_state(),
        np.random.get_state()[1].copy(),
        torch.is_grad_enabled(),
    )
    files = sorted(os.listdir(bank.path))
    monkeypatch.chdir(tmp_path)
    again = method.attribute(source_of(method, study, bank), "margin").weight
    np.testing.assert_array_equal(again, first)
    assert repr(method) == settings, "attribute does not change the method"
    del study.__dict__["fingerprint"]  # taken anew
    assert study.fingerprint == before[0] and torch.equal(torch.get_rng_state(), before[1])
    assert (np.random.get_state()[1] == before[2]).all() and torch.is_grad_enabled() == before[3]
    assert sorted(os.listdir(bank.path)) == files and not os.listdir(tmp_path), "nothing is written"


class Part:
    """A bank, of its first targets only."""

    def __init__(self, bank, targets):
        self._bank, self._targets, self.target_ids = bank, targets, bank.target_ids[:targets]

    def __getattr__(self, name):
        return getattr(self._bank, name)

    def select(self, part=None, output=None):
        found = self._bank.select(part, output)
        return SimpleNamespace(**{**vars(found), "outputs": found.outputs[:, : self._targets]})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in TIED_TARGETS])
def test_targets_do_not_depend_on_their_company(name, scores, study, bank):
    method = make(name, study, bank)
    source = Part(bank, 2) if source_of(method, study, bank) is bank else study_of(2)
    found = method.attribute(source, "margin").weight
    whole = scores(name).weight[:2]
    np.testing.assert_allclose(found, whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("name", NAMES)
def test_batches_do_not_matter(name, scores, study, bank):
    method = make(name, study, bank)
    sizes = [key for key in ("batch", "batch_size", "chunk") if isinstance(getattr(method, key, None), int)]
    for key in sizes:
        setattr(method, key, 3)
    if sizes:
        found = method.attribute(source_of(method, study, bank), "margin").weight
        whole = scores(name).weight
        np.testing.assert_allclose(found, whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_said_before_work_starts(name, study, bank):
    method = make(name, study, bank)
    lacks = method.missing(object())
    assert lacks and all("(" in words and "pass" in words for words in lacks), "and what would do"
    with pytest.raises(InputError) as caught:
        method.attribute(object())
    message = str(caught.value)
    assert message.startswith(name) and message.endswith(".") and "\n" not in message
    assert all(words in message for words in lacks), "one sentence lists everything"
    with pytest.raises(InputError, match="speed"):
        method.attribute(source_of(method, study, bank), "speed")


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself(name, study, bank):
    method = make(name, study, bank)
    cls = type(method)
    assert inspect.getdoc(cls) and inspect.getdoc(cls.attribute) and inspect.getmodule(cls).__doc__
    assert repr(method).startswith(name + "(") and isinstance(cls.needs, tuple)
