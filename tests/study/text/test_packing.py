"""Packing keeps every token in order; rows keep their text, name and id together."""

import numpy as np
import pytest

from whence.errors import InputError
from whence.study.text import IGNORED, ByteTokenizer, Rows, pack

BYTES = ByteTokenizer()


def test_rows_are_the_documents_end_to_end():
    rows = pack(["abc", "de", "fghij"], BYTES, 4, "letters")
    stream = [*b"abc", 256, *b"de", 256, *b"fghij", 256]
    assert rows.tokens.flatten().tolist() == stream[:12] and len(rows) == 3 and rows.length == 4
    assert rows.answers[:, :-1].tolist() == rows.tokens[:, 1:].tolist()
    assert (rows.answers[:, -1] == IGNORED).all() and rows.sizes.tolist() == [3, 3, 3]
    assert rows.texts.tolist() == ["abc", "def", "ghij"]
    assert rows.ids.tolist() == ["letters/0", "letters/1", "letters/2"]
    assert "3 of 4 tokens, letters" in repr(rows)


def test_rows_stay_together_when_taken_sampled_and_joined():
    first, second = pack(["abcdefgh"], BYTES, 3, "one"), pack(["uvwxyz"], BYTES, 3, "two")
    joined = Rows.join([first, second])
    assert len(joined) == 5 and joined.groups == {
        "one": ["one/0", "one/1", "one/2"],
        "two": ["two/0", "two/1"],
    }
    part = joined.take([3, 0])
    assert part.texts.tolist() == ["uvw", "abc"] and part.ids.tolist() == ["two/0", "one/0"]
    assert joined.take(joined.names == "two").texts.tolist() == ["uvw", "xyz"]
    drawn = joined.sample(3, seed=1)
    assert drawn.ids.tolist() == joined.sample(3, seed=1).ids.tolist() and len(set(drawn.ids)) == 3
    places = [joined.ids.tolist().index(i) for i in drawn.ids]
    assert places == sorted(places) and drawn.texts.tolist() == joined.texts[places].tolist()


def test_what_cannot_be_packed():
    with pytest.raises(InputError, match="3 tokens, too few for one row of 4"):
        pack(["ab"], BYTES, 4)
    with pytest.raises(InputError, match="no documents"):
        pack([], BYTES, 4)
    with pytest.raises(InputError, match="length is 1"):
        pack(["abc"], BYTES, 1)
    rows = pack(["abcdefgh"], BYTES, 3)
    with pytest.raises(InputError, match="count is 9, but there are 3"):
        rows.sample(9)
    with pytest.raises(InputError, match=r"one length, received \[3, 4\]"):
        Rows.join([rows, pack(["abcdefgh"], BYTES, 4)])
    with pytest.raises(InputError, match="one entry a row"):
        Rows(rows.tokens, rows.answers, rows.texts[:1], rows.names, rows.ids)
    with pytest.raises(InputError, match=r"both be \(rows, length\)"):
        Rows(rows.tokens, np.zeros(3), rows.texts, rows.names, rows.ids)
