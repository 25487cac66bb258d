"""Tokenizers give text back; a network of another vocabulary is told apart."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from whence.errors import InputError
from whence.study.text import ByteTokenizer, HuggingFaceTokenizer, Tokenizer, byte_pairs, check_vocabulary
from whence.training import gpt

TEXTS = ["a rose is a rose", "naïve – 42", ""]


def test_bytes_give_text_back():
    tokenizer = ByteTokenizer()
    rows = tokenizer.encode(TEXTS)
    assert isinstance(tokenizer, Tokenizer)
    assert [tokenizer.decode(row) for row in rows] == TEXTS
    assert rows[0].dtype == np.int64 and rows[1].max() < 256 and len(rows[2]) == 0
    assert tokenizer.decode([97, tokenizer.separator, 98]) == "ab"
    assert tokenizer.decode(rows[1][:3]) == "na\N{REPLACEMENT CHARACTER}"  # a character cut in two


def test_byte_pairs_give_text_back_in_fewer_tokens():
    pytest.importorskip("transformers")
    tokenizer = byte_pairs(["a rose is a rose " * 20], 262)
    rows = tokenizer.encode(TEXTS)
    assert isinstance(tokenizer, Tokenizer) and tokenizer.vocabulary == 262
    assert [tokenizer.decode(row) for row in rows] == TEXTS
    assert len(rows[0]) < len(TEXTS[0]) and max(map(max, rows[:2])) < 262
    assert tokenizer.decode([*rows[0], tokenizer.separator]) == TEXTS[0]
    again = byte_pairs(["a rose is a rose " * 20], 262)
    assert all((a == b).all() for a, b in zip(rows, again.encode(TEXTS), strict=True))


def test_what_is_no_tokenizer():
    with pytest.raises(InputError, match="vocabulary is 100, but 256 bytes"):
        byte_pairs(["text"], 100)
    with pytest.raises(InputError, match="texts is empty"):
        byte_pairs([""], 300)
    with pytest.raises(InputError, match="tokenizer of transformers, received str"):
        HuggingFaceTokenizer("gpt2")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer as Fast
    from tokenizers import models

    with pytest.raises(InputError, match="no end-of-text token"):
        HuggingFaceTokenizer(transformers.PreTrainedTokenizerFast(tokenizer_object=Fast(models.BPE())))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, tokens):
        return self.layer(torch.zeros(len(tokens), 4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(gpt, 200, 8, 8, 1, 1), "cannot read a row of 8 tokens of ByteTokenizer"),
        (partial(gpt, 257, 4, 8, 1, 1), "its length at least 8"),
        (partial(gpt, 1000, 8, 8, 1, 1), r"predicts 1000 tokens, but ByteTokenizer\(\) has 257: they do not"),
        (Classifier, r"must return logits \(1, 8, 257\).*received \(1, 2\)"),
    ],
)
def test_tokenizer_and_model_that_do_not_belong_together(make, words):
    with pytest.raises(InputError, match=words) as caught:
        check_vocabulary(make, ByteTokenizer(), 8)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_is_rounded_up_fits():
    state = torch.get_rng_state()
    check_vocabulary(partial(gpt, 320, 8, 8, 1, 1), ByteTokenizer(), 8)
    check_vocabulary(partial(gpt, 257, 16, 8, 1, 1), ByteTokenizer(), 8)
    assert torch.equal(state, torch.get_rng_state())
