"""Token fields in one array, and what does not fit."""

import numpy as np
import pytest
from torch import nn

from whence.errors import InputError
from whence.study.huggingface import sequence_classifier, tokens

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
