"""Domains from files of their forms; files that are absent, damaged or of another form are refused."""

import gzip

import pytest

from whence.errors import InputError
from whence.study.text import read_jsonl, read_text, sample, shuffled_characters


def test_text_whole_split_and_packed(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n\n \n\nthree")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("naïve".encode() + b" \xff"))
    assert read_text(tmp_path / "a.txt") == ["one\n\ntwo\n\n \n\nthree"]
    assert read_text(tmp_path / "a.txt", split="\n\n") == ["one", "two", "three"]
    assert read_text(tmp_path / "b.txt.gz") == ["naïve \N{REPLACEMENT CHARACTER}"]


def test_json_lines_by_field_and_with_separators_of_unicode_inside(tmp_path):
    line = '{"prefix": "a\u2028b", "rest": "c", "n": 1}\n\n{"prefix": "d", "rest": "e"}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    assert read_jsonl(tmp_path / "a.jsonl.gz", ("prefix", "rest")) == ["a\u2028bc", "de"]
    assert read_jsonl(tmp_path / "a.jsonl.gz", "rest") == ["c", "e"]
    assert read_jsonl(tmp_path / "a.jsonl.gz", ("rest", "prefix"), join="\n")[1] == "e\nd"


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        read_text(tmp_path / "absent.txt")
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(InputError, match="holds no text"):
        read_text(tmp_path / "blank.txt")
    (tmp_path / "bad.txt.gz").write_bytes(b"no gzip")
    with pytest.raises(InputError, match="cannot be unpacked"):
        read_text(tmp_path / "bad.txt.gz")
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n[1]\n')
    with pytest.raises(InputError, match="line 2 is not a JSON object but list"):
        read_jsonl(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('{"text": 3}')
    with pytest.raises(InputError, match="line 1 has no text 'text'; its fields are text"):
        read_jsonl(tmp_path / "b.jsonl")
    (tmp_path / "c.jsonl").write_text("{oops")
    with pytest.raises(InputError, match="line 1 is not JSON"):
        read_jsonl(tmp_path / "c.jsonl")


def test_junk_has_the_letters_of_the_text_and_not_its_order():
    (junk,) = shuffled_characters(["aaab", "aaab"], 4000, seed=3)
    assert len(junk) == 4000 and set(junk) == {"a", "b"} and 0.2 < junk.count("b") / 4000 < 0.3
    assert shuffled_characters(["aaab"], 50, seed=3) != shuffled_characters(["aaab"], 50, seed=4)
    with pytest.raises(InputError, match="at least 1"):
        shuffled_characters([], 5)


def test_the_bundled_sample():
    text = sample()
    assert list(text.domains) == ["shakespeare", "moby-dick", "state-of-the-union", "jargon"]
    assert all(len("".join(documents)) == 30_000 for documents in text.domains.values())
    assert {name: len(task) for name, task in text.tasks.items()} == {"moby-dick": 120, "jargon": 120}
    for name, task in text.tasks.items():
        (document,) = text.domains[name]
        words = " ".join(document.split())
        assert not any(context in words for context in task.contexts.tolist())  # targets are no candidates
