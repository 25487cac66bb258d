"""A loss summed over tokens makes an attribution a length filter; one normalised per token does not."""

import numpy as np
import torch
from torch import nn

import whence
from whence.applications.selection import Attributed, Less, Perplexity, Pool, scores_of, select
from whence.methods import TRAK, GradDot
from whence.study import Study
from whence.study.variants import with_train

LENGTH, VOCABULARY = 16, 6
SHORT = 4


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(VOCABULARY, 5), nn.Linear(5, VOCABULARY)

    def forward(self, x):
        return self.out(self.embed(x))


def token_losses(logits, answers):
    each = torch.logsumexp(logits, -1) - logits.gather(-1, answers.clamp_min(0)[..., None]).squeeze(-1)
    return each * (answers >= 0), (answers >= 0).sum(-1)


def summed(logits, answers):
    return token_losses(logits, answers)[0].sum(-1)


def normalised(logits, answers):
    each, count = token_losses(logits, answers)
    return each.sum(-1) / count


def sequences(n, rng):
    """Cycles through the vocabulary, each a single text in half of the rows and padded to a quarter in the
    others: nothing but the length tells them apart."""
    tokens = (rng.integers(0, VOCABULARY, (n, 1)) + np.arange(LENGTH + 1)) % VOCABULARY
    noisy = np.where(rng.random(tokens.shape) < 0.3, rng.integers(0, VOCABULARY, tokens.shape), tokens)
    answers = noisy[:, 1:].copy()
    answers[::2, SHORT:] = -100
    return noisy[:, :-1], answers


def chosen_lengths(loss):
    rng = np.random.default_rng(0)
    recipe = whence.Recipe(model=Tokens, epochs=2, batch_size=10, optimizer=whence.SGD(lr=0.1), loss=loss)
    study = Study(sequences(120, rng), sequences(20, rng), recipe, outputs=["loss"])
    scores = scores_of(Attributed(GradDot(2)), Pool(study))
    return (select(scores, fraction=0.25) % 2 == 1).mean()  # share of long rows


def test_rules_that_train_take_a_loss_of_the_recipe_s_own():
    rng = np.random.default_rng(0)
    recipe = whence.Recipe(
        model=Tokens, epochs=4, batch_size=10, optimizer=whence.Adam(0.02), loss=normalised
    )
    study = Study(sequences(120, rng), sequences(20, rng), recipe, outputs=["loss"])
    x, y = study.train_inputs.copy(), study.train_answers.copy()
    junk = rng.random(120) < 0.3
    y[junk] = rng.integers(0, VOCABULARY, (junk.sum(), LENGTH))
    pool = Pool(with_train(study, (x, y)))
    for rule in (
        Less(share=0.5, projection=128),
        Perplexity("low"),
        Attributed(TRAK(2, groups={"all": range(20)})),
    ):
        chosen = select(scores_of(rule, pool.only(range(20), "all")), fraction=0.3)
        assert junk[chosen].mean() < 0.15, rule.name


def test_only_sums_over_tokens_choose_by_length():
    assert chosen_lengths(summed) > 0.9
    assert chosen_lengths(normalised) < 0.75
