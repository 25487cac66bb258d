"""Choosing text: the traps of lengths and signs in closed form, and the pipeline on the bundled sample."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.applications.selection import DSIR, Attributed, Pool, compare_selections, scores_of
from whence.errors import InputError
from whence.methods import TRAK
from whence.study import text
from whence.study.text import IGNORED, Rows, next_token_loss
from whence.training import gpt

BYTES = text.ByteTokenizer()
LENGTH = 16


class Bigram(nn.Module):
    """Logits of the next token by the present one alone, so that a longer run of one letter says the same."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(BYTES.vocabulary, BYTES.vocabulary)
        nn.init.zeros_(self.table.weight)

    def forward(self, tokens):
        return self.table(tokens)


def summed(outputs, answers):
    return next_token_loss(outputs, answers) * (answers != IGNORED).sum(-1)


def runs(letters, lengths, name):
    """A row for each length: a letter repeated, the rest filled up and not asked for."""
    tokens = np.full((len(lengths), LENGTH), BYTES.separator)
    answers = np.full_like(tokens, IGNORED)
    for i, (letter, length) in enumerate(zip(letters, lengths, strict=True)):
        tokens[i, :length] = answers[i, : length - 1] = ord(letter)
    texts = np.array([letter * length for letter, length in zip(letters, lengths, strict=True)])
    ids = np.array([f"{name}/{i}" for i in range(len(lengths))])
    return Rows(tokens, answers, texts, np.full(len(lengths), name), ids)


def scores(loss):
    """(16,) of 8 rows of a and 8 of b, each of 2 to 16 letters, for targets of a."""
    lengths = [2, 4, 6, 8, 10, 12, 14, 16]
    pool = runs("a" * 8 + "b" * 8, lengths * 2, "pool")
    recipe = whence.Recipe(Bigram, epochs=1, batch_size=16, optimizer=whence.SGD(1e-3), loss=loss)
    study = text.language_study(pool, runs("aa", [3, 5], "task"), recipe, BYTES)
    return scores_of(Attributed(TRAK([Bigram().state_dict()], ridge=1.0)), Pool(study))


def test_a_loss_per_token_does_not_choose_by_length():
    per_token, total = scores(next_token_loss), scores(summed)
    np.testing.assert_allclose(per_token[:8], per_token[0], rtol=1e-4)
    assert (np.diff(total[:8]) > 0).all() and total[7] / total[0] > 5  # the trap


def test_what_lowers_the_loss_scores_highest():
    found = scores(next_token_loss)
    assert found[:8].min() > 0 and found[:8].min() > np.abs(found[8:]).max()


def sample_studies(count=300, width=16):
    sample = text.sample()
    length = 48
    junk = text.shuffled_characters(sample.domains["moby-dick"], 10_000)
    parts = [text.pack(sample.domains["moby-dick"], BYTES, length, "moby-dick")]
    parts.append(text.pack(junk, BYTES, length, "junk"))
    pool = Rows.join([part.sample(count // 2) for part in parts])
    recipe = whence.Recipe(
        partial(gpt, BYTES.vocabulary, length, width, 1, 2),
        epochs=10,  # past the plateau on which only frequencies of letters are learnt
        batch_size=8,
        optimizer=whence.AdamW(1e-2),
        schedule=whence.Cosine(warmup=0.1),
    )
    halves = sample.tasks["moby-dick"].halves(seed=0)
    return pool, [text.language_study(pool, h.rows(BYTES, length), recipe, BYTES) for h in halves]


def test_the_pipeline_leaves_junk_alone_and_its_worst_is_worse(tmp_path):
    pool, (study, report) = sample_studies()
    estimate = TRAK(4, projection=256, ridge=1.0, groups={"words": study.target_ids.tolist()})
    found = compare_selections(
        study,
        report,
        [Attributed(estimate, name="DsDm"), DSIR()],
        fractions=(0.25,),
        tasks={"words": (study.target_ids.tolist(), report.target_ids.tolist())},
        seeds=2,
        multiples=(1, 2),
        to=tmp_path,
        workers=0,
    )
    chosen = found.positions("DsDm")
    assert len(chosen) == 75  # exactly a quarter
    junk = pool.names == "junk"
    assert junk[chosen].mean() < 0.2 < 0.5 == junk.mean()
    assert junk[found.positions("DsDm, worst")].mean() > 0.6
    assert found.row("DsDm").loss < found.row("DsDm, worst").loss
    assert found.row("DsDm").multiplier is not None and "60 report examples" in found.verified


def test_a_target_that_is_also_a_candidate_is_refused():
    rows = text.pack(text.sample().domains["jargon"], BYTES, LENGTH, "jargon").take(slice(20))
    recipe = whence.Recipe(Bigram, epochs=1, batch_size=4, optimizer=whence.SGD(0.1))
    study = text.language_study(rows, rows.take([3]), recipe, BYTES)
    with pytest.raises(InputError, match="1 of 1 target examples are also candidates"):
        Pool(study)
    assert torch.equal(torch.as_tensor(study.train_inputs[3]), torch.as_tensor(study.target_inputs[0]))
