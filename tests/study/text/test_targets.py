"""Target tasks: the loss counts the continuation alone, halves are disjoint, formats are those of DsDm."""

import gzip
import json

import numpy as np
import pytest

from whence.errors import InputError
from whence.study.text import (
    IGNORED,
    ByteTokenizer,
    TargetTask,
    cs_algorithms,
    gsm8k,
    jeopardy,
    lambada,
    squad,
)

BYTES = ByteTokenizer()


def task(count=10, **more):
    return TargetTask("t", [f"context {i}:" for i in range(count)], [f" {i}" for i in range(count)], **more)


def test_only_the_continuation_is_asked_and_at_the_right_place():
    rows = TargetTask("t", ["ab:", "a long context:"], [" xy", " z"]).rows(BYTES, 8)
    assert rows.tokens[0].tolist() == [*b"ab: xy", 256, 256]
    assert rows.answers[0].tolist() == [IGNORED, IGNORED, *b" xy", IGNORED, IGNORED, IGNORED]
    # the context is cut at its beginning
    assert rows.texts[1] == "ntext: z" and rows.sizes.tolist() == [3, 2]
    for tokens, answers in zip(rows.tokens, rows.answers, strict=True):
        asked = np.flatnonzero(answers != IGNORED)
        assert (tokens[asked + 1] == answers[asked]).all()


def test_a_long_continuation_leaves_half_a_row_to_the_context():
    rows = TargetTask("t", ["context", ""], [" a long continuation", "b"]).rows(BYTES, 8)
    assert rows.texts[0] == "text a l" and rows.sizes.tolist() == [4, 1]
    assert rows.tokens[1, :2].tolist() == [256, ord("b")] and rows.answers[1, 0] == ord("b")


def test_halves_are_disjoint_and_do_not_split_groups():
    whole = task(11, groups=[f"g{i // 2}" for i in range(11)])
    first, second = whole.halves(seed=1)
    assert not set(first.groups) & set(second.groups) and not set(first.ids) & set(second.ids)
    assert sorted([*first.ids, *second.ids]) == sorted(whole.ids)
    assert first.ids.tolist() == whole.halves(seed=1)[0].ids.tolist() != whole.halves(seed=2)[0].ids.tolist()
    twice = TargetTask("t", ["a", "a", "b"], ["x", "x", "y"])  # the same text is one group by default
    assert {len(half) for half in twice.halves()} == {1, 2}
    with pytest.raises(InputError, match="one group; two are needed"):
        twice.take([0, 1]).halves()


def test_solved_examples_come_before_and_are_no_targets():
    shown = task(5).with_shots(2, seed=0)
    assert len(shown) == 3 and shown.shots.count("context") == 2 and shown.shots.endswith("\n\n")
    assert not any(f"{context} " in shown.shots for context in shown.contexts.tolist())
    text = shown.rows(BYTES, 100).texts[0]
    assert text == shown.shots + shown.contexts[0] + shown.continuations[0]
    with pytest.raises(InputError, match="5 groups of examples, and one must remain"):
        task(5).with_shots(5)


def test_taking_and_sampling():
    part = task(6).sample(3, seed=0)
    assert len(part) == 3 and part.rows(BYTES, 20).ids.tolist() == part.ids.tolist()
    with pytest.raises(InputError, match="count is 9, but t has 6"):
        task(6).sample(9)


def test_tasks_that_are_none():
    with pytest.raises(InputError, match="'t' is empty"):
        TargetTask("t", [], [])
    with pytest.raises(InputError, match="one continuation for each context"):
        TargetTask("t", ["a"], ["b", "c"])
    with pytest.raises(InputError, match="example 1 has no continuation"):
        TargetTask("t", ["a", "b"], ["x", " "])
    with pytest.raises(InputError, match="2 examples, but 1 groups"):
        TargetTask("t", ["a", "b"], ["x", "y"], groups=["g"])


def lines(path, *rows):
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return path


def test_formats_of_json_lines(tmp_path):
    plain = lines(tmp_path / "plain.jsonl.gz", {"context": "SCIENCE: a flea", "continuation": "Lobster"})
    one = lambada(plain)
    assert one.name == "lambada" and one.contexts[0] + one.continuations[0] == "SCIENCE: a flea Lobster"
    two = jeopardy(plain)
    assert two.contexts[0] + two.continuations[0] == "SCIENCE: a flea\nAnswer: Lobster"
    assert cs_algorithms(plain).continuations.tolist() == [" Lobster"]
    chain = {"context": "How many?", "chain_of_thought": "1+1=2", "answer": "2"}
    maths = gsm8k(lines(tmp_path / "gsm8k.jsonl.gz", chain))
    assert maths.contexts[0] + maths.continuations[0] == "Question: How many?\nAnswer: 1+1=2\n#### 2"
    with pytest.raises(InputError, match="line 1 lacks chain_of_thought, answer"):
        gsm8k(plain)
    with pytest.raises(InputError, match="holds no example of lambada"):
        lambada(lines(tmp_path / "none.jsonl.gz"))


def test_squad_takes_the_first_answer_and_keeps_a_paragraph_together(tmp_path):
    paragraph = "One went up. Two went down. Three stayed."
    answer = {"text": "down", "answer_start": paragraph.index("down")}
    qas = [{"question": f"Where {i}?", "answers": [answer, {"text": "no"}]} for i in range(2)]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": paragraph, "qas": qas}]}]}, indent=1))
    found = squad(path)
    assert found.contexts[0] == f"Context: {paragraph}\nQuestion: Where 0?\nAnswer:"
    assert found.continuations.tolist() == [" down", " down"] and len(set(found.groups)) == 1
    assert squad(path, sentence=True).contexts[0].startswith("Context: Two went down.\nQuestion")
    path.write_text('{"data": [{}]}')
    with pytest.raises(InputError, match="not of SQuAD's form"):
        squad(path)
