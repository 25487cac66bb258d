"""Token fields in one array, and what does not fit."""

import numpy as np
import pytest
from torch import nn

from whence.errors import InputError
from whence.study.huggingface import causal_model, sequence_classifier, tokens

ENCODINGS = {
    "input_ids": [[5, 6, 7], [8]],
    "attention_mask": [[1, 1, 1], [1]],
    "token_type_ids": [[0, 0, 1], [0]],
}


def test_rows_are_filled_up_on_the_right():
    found = tokens(ENCODINGS, pad=9, length=4)
    assert found.dtype == np.int64 and found.shape == (2, 2, 4)
    assert found[:, 0].tolist() == [[5, 6, 7, 9], [8, 9, 9, 9]]
    assert found[:, 1].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert tokens(ENCODINGS).shape == (2, 2, 3)
    named = tokens(ENCODINGS, fields=("token_type_ids", "input_ids"))
    assert named[0].tolist() == [[0, 0, 1], [5, 6, 7]]
    arrays = {"input_ids": np.array([[1, 2]]), "attention_mask": np.array([[1, 0]])}
    assert tokens(arrays).tolist() == [[[1, 2], [1, 0]]]


@pytest.mark.parametrize(
    ("encodings", "how", "words"),
    [
        ([[1, 2]], {}, "must map input_ids, attention_mask"),
        ({"input_ids": [[1]]}, {}, "lack attention_mask"),
        (ENCODINGS, {"length": 2}, "has 3 tokens, but length is 2"),
        ({**ENCODINGS, "attention_mask": [[1, 1, 1], [1, 1]]}, {}, "differ in number or length"),
        ({**ENCODINGS, "attention_mask": [[1.0, 1.0, 1.0], [1.0]]}, {}, "must be integers"),
    ],
)
def test_what_does_not_fit(encodings, how, words):
    with pytest.raises(InputError, match=words) as caught:
        tokens(encodings, **how)
    assert "\n" not in str(caught.value)


def test_models_that_are_none():
    with pytest.raises(InputError, match="transformers model, it returned Linear"):
        sequence_classifier(lambda: nn.Linear(2, 2))


def test_models_without_padding_and_inputs_of_other_fields():
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 9, "n_embd": 4, "n_layer": 1, "n_head": 1, "bos_token_id": 1, "eos_token_id": 1}

    def make(**more):
        return lambda: transformers.GPT2ForSequenceClassification(transformers.GPT2Config(**small, **more))

    with pytest.raises(InputError, match="no pad_token_id"):
        sequence_classifier(make())
    model = sequence_classifier(make(pad_token_id=0))
    assert set(model.state_dict()) == set(make(pad_token_id=0)().state_dict())
    import torch

    with pytest.raises(InputError, match=r"must be \(2, length\).*received \(5,\)"):
        model(torch.ones(3, 5, dtype=torch.long))


def test_causal_models_are_studies_and_foreign_ones_are_refused():
    transformers = pytest.importorskip("transformers")
    from whence import AdamW, Recipe
    from whence.methods import TRAK
    from whence.study import text

    tokenizer, length = text.ByteTokenizer(), 16
    small = {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": length, "bos_token_id": 256}

    def make(size=257):
        config = transformers.GPT2Config(vocab_size=size, eos_token_id=256, **small)
        return transformers.GPT2LMHeadModel(config)

    def study(model):
        recipe = Recipe(model, epochs=1, batch_size=4, optimizer=AdamW(1e-2))
        rows = text.pack(["the cat sat on the mat; " * 8], tokenizer, length)
        asked = text.TargetTask("t", ["the c"], ["at"]).rows(tokenizer, length)
        return text.language_study(rows, asked, recipe, tokenizer)

    model = causal_model(make)
    assert set(model.state_dict()) == set(make().state_dict())
    scores = TRAK(1).attribute(study(lambda: causal_model(make)))
    assert np.isfinite(scores.data["weight"].values).all() and scores.output == "loss"
    with pytest.raises(InputError, match="predicts 900 tokens, but ByteTokenizer"):
        study(lambda: causal_model(lambda: make(900)))
    with pytest.raises(InputError, match="transformers model, it returned Linear"):
        causal_model(lambda: nn.Linear(2, 2))
    headless = transformers.GPT2Config(vocab_size=257, eos_token_id=256, **small)
    with pytest.raises(InputError, match="causal language model, it returned GPT2Model"):
        causal_model(lambda: transformers.GPT2Model(headless))
    with pytest.raises(InputError, match=r"tokens \(b, length\), received shape \(1, 2, 3\)"):
        import torch

        model(torch.ones(1, 2, 3, dtype=torch.long))
