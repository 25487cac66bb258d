"""A loss summed over tokens makes an attribution a length filter; one normalised per token does not."""

import numpy as np
import torch
from torch import nn

import whence
from whence.applications.selection import Attributed, Pool, scores_of, select
from whence.methods import GradDot
from whence.study import Study

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


def test_only_sums_over_tokens_choose_by_length():
    assert chosen_lengths(summed) > 0.9
    assert chosen_lengths(normalised) < 0.75
