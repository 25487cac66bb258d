"""The loss of a language model in closed form; what is checked when a study is made."""

from functools import partial

import numpy as np
import pytest
import torch

import whence
from whence.errors import InputError
from whence.study.text import (
    IGNORED,
    ByteTokenizer,
    Rows,
    TargetTask,
    language_study,
    next_token_loss,
    pack,
)
from whence.training import gpt

BYTES = ByteTokenizer()
RECIPE = whence.Recipe(partial(gpt, 257, 8, 8, 1, 2), epochs=1, batch_size=4, optimizer=whence.AdamW(1e-2))


def candidates():
    return pack(["the cat sat on the mat and the dog sat on the log"], BYTES, 8, "pets")


def targets():
    return TargetTask("t", ["the c", "the d"], ["at", "og"]).rows(BYTES, 8)


def test_the_loss_is_the_mean_cross_entropy_of_what_is_asked():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 7, generator=generator, requires_grad=True)
    answers = torch.randint(0, 7, (3, 5), generator=generator)
    answers[0, :2] = answers[1, 1:] = answers[2] = IGNORED
    found = next_token_loss(logits, answers)
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), answers.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(3, 5)
    torch.testing.assert_close(found, flat.sum(1) / torch.tensor([3.0, 1.0, 1.0]))
    assert found[2] == 0
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert torch.isfinite(gradient).all() and (gradient[answers == IGNORED] == 0).all()


def test_the_loss_is_float32_in_half_precision_and_can_be_mapped():
    logits = torch.randn(3, 5, 7)
    answers = torch.randint(0, 7, (3, 5))
    assert next_token_loss(logits.bfloat16(), answers).dtype == torch.float32
    assert next_token_loss(logits.double(), answers).dtype == torch.float64
    one = torch.func.vmap(lambda x, y: next_token_loss(x[None], y[None])[0])(logits, answers)
    torch.testing.assert_close(one, next_token_loss(logits, answers))


def test_a_study_of_rows():
    study = language_study(candidates(), targets(), RECIPE, BYTES, name="pets")
    assert study.n == len(candidates()) and study.outputs == ("loss",) and study.class_count is None
    assert study.train_ids[0] == "pets/0" and study.target_ids.tolist() == ["t/0", "t/1"]
    assert study.train_texts[0] == "the cat " and study.target_texts[0] == "the cat"
    assert study.recipe.loss is next_token_loss
    (run,) = study.trainer().train(np.ones((1, study.n), bool), np.array([0]))
    assert run.outputs["loss"].shape == (2,) and np.isfinite(run.outputs["loss"]).all()


def test_what_makes_no_study():
    rows, asked = candidates(), targets()
    with pytest.raises(InputError, match="targets is empty"):
        language_study(rows, asked.take([]), RECIPE, BYTES)
    with pytest.raises(InputError, match="candidates have 6 tokens and targets 8"):
        language_study(pack(["the cat sat"], BYTES, 6), asked, RECIPE, BYTES)
    silent = Rows(asked.tokens, np.full_like(asked.answers, IGNORED), asked.texts, asked.names, asked.ids)
    with pytest.raises(InputError, match="targets row 't/0' has no answer"):
        language_study(rows, silent, RECIPE, BYTES)
    other = whence.Recipe(partial(gpt, 900, 8, 8, 1, 2), epochs=1, batch_size=4, optimizer=whence.SGD(0.1))
    with pytest.raises(InputError, match="predicts 900 tokens"):
        language_study(rows, asked, other, BYTES)
    foreign = Rows(rows.tokens + 200, rows.answers, rows.texts, rows.names, rows.ids)
    with pytest.raises(InputError, match=r"train has token 3\d\d, but ByteTokenizer"):
        language_study(foreign, asked, RECIPE, BYTES)
