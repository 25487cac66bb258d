"""SST-2 from tiny files of its form: tokens, texts, how they are cut and sampled; wrong files are refused."""

import gzip
import hashlib

import numpy as np
import pytest

from whence import SGD, Recipe, Study
from whence.errors import InputError
from whence.study import datasets
from whence.study.datasets import files, text
from whence.training import bag_of_embeddings

TRAIN = "sentence\tlabel\na good film \t1\nbad \t0\na film\t1\na bad , bad film\t0\n"
TEST = "sentence\tlabel\ngood dogs\t1\na\t0\n"


@pytest.fixture
def root(monkeypatch, tmp_path):
    monkeypatch.delenv("WHENCE_DATA", raising=False)
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    sums = {part: hashlib.md5(t.encode()).hexdigest() for part, t in (("train", TRAIN), ("test", TEST))}
    monkeypatch.setattr(text, "SST2", sums)
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "train.tsv.gz").write_bytes(gzip.compress(TRAIN.encode()))
    (tmp_path / "sst2" / "test.tsv").write_text(TEST)
    return tmp_path


def test_tokens_are_frequent_words(root):
    data = datasets.sst2(root, vocabulary=5, length=4)
    # a: 3, bad: 3, film: 3, then the rest is unknown
    assert data.train_x.tolist() == [[2, 1, 4, 0], [3, 0, 0, 0], [2, 4, 0, 0], [2, 3, 1, 3]]
    assert data.test_x.tolist() == [[1, 1, 0, 0], [2, 0, 0, 0]] and data.train_x.dtype == np.int64
    assert data.train_text[0] == "a good film" and data.train_y.tolist() == [1, 0, 1, 0]
    assert datasets.sst2(root, least=3).train_text.tolist() == ["a good film", "a bad , bad film"]


def test_texts_follow_the_examples(root):
    data = datasets.sst2(root, vocabulary=9, length=4)
    assert data.rows(slice(2), slice(1)).train_text.tolist() == ["a good film", "bad"]
    negative = data.only(["negative"])
    assert negative.train_text.tolist() == ["bad", "a bad , bad film"] and negative.classes == ["negative"]
    part = data.sample(2, 2, seed=0)
    assert [data.train_text.tolist().index(t) for t in part.train_text] == sorted(
        data.train_text.tolist().index(t) for t in part.train_text
    )


def test_a_study_keeps_texts_but_is_not_changed_by_them(root):
    data = datasets.sst2(root, vocabulary=9, length=4)
    recipe = Recipe(lambda: bag_of_embeddings(9, 2, 3), epochs=1, batch_size=2, optimizer=SGD(0.1))
    parts = (data.train_x, data.train_y), (data.test_x, data.test_y)
    study = Study(*parts, recipe, texts=(data.train_text, data.test_text))
    assert study.train_texts.tolist()[1] == "bad" and study.target_texts.shape == (2,)
    plain = Study(*parts, recipe)
    assert study.texts is not None and plain.texts is None
    assert plain.train_texts is None and plain.fingerprint == study.fingerprint
    with pytest.raises(InputError, match="texts must be 4 strings"):
        Study(*parts, recipe, texts=(data.train_text[:3], data.test_text))


def test_padding_does_not_count(root):
    import torch

    net = bag_of_embeddings(9, 2, 3)
    short, long = torch.tensor([[2, 3]]), torch.tensor([[2, 3, 0, 0, 0]])
    torch.testing.assert_close(net(short), net(long))
    assert torch.isfinite(net(torch.zeros(1, 4, dtype=torch.long))).all()


def test_wrong_files_and_settings(root):
    with pytest.raises(InputError, match="vocabulary is 2"):
        datasets.sst2(root, vocabulary=2)
    with pytest.raises(InputError, match="least is 99"):
        datasets.sst2(root, least=99)
    (root / "sst2" / "test.tsv").write_text(TEST + "more\t1\n")
    with pytest.raises(InputError, match="md5"):
        datasets.sst2(root)
    (root / "sst2" / "test.tsv").unlink()
    with pytest.raises(InputError, match=r"test\.tsv was not found"):
        datasets.sst2(root)
