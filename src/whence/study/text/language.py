"""A study of a language model: rows of text as training examples, examples of target tasks as targets."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy

from whence.errors import InputError
from whence.study.recipe import Recipe
from whence.study.study import Study
from whence.study.text.packing import IGNORED, Rows
from whence.study.text.tokenizers import Tokenizer, check_vocabulary


def next_token_loss(outputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats per token, the mean over a row's answers; a `Recipe`'s loss.

    A mean and not a sum: gradients of a sum grow with the number of tokens, and what selects by them becomes
    a filter of lengths.

    Parameters
    ----------
    outputs : logits (b, length, vocabulary)
    answers : the token that comes next, (b, length); those that are -100 do not count

    Returns
    -------
    (b,), float32 also for logits in half precision; 0 for a row without answers.
    """
    logits = outputs if outputs.dtype == torch.float64 else outputs.float()
    each = cross_entropy(
        logits.flatten(0, -2), answers.flatten(), ignore_index=IGNORED, reduction="none"
    ).view(answers.shape)
    return each.sum(-1) / (answers != IGNORED).sum(-1).clamp_min(1)


def language_study(
    train: Rows,
    targets: Rows,
    recipe: Recipe,
    tokenizer: Tokenizer,
    *,
    name: str = "language model",
) -> Study:
    """A `Study` of a causal language model: what does each row of text do to the loss on the targets?

    Parameters
    ----------
    train : candidates, from `pack`; several domains by `Rows.join`
    targets : examples of one or more target tasks, from `TargetTask.rows`; of the half that is selected for,
        or of the half that is reported
    recipe : its network reads tokens (b, length) and returns logits (b, length, vocabulary), as
        `whence.networks.gpt` and `whence.study.huggingface.causal_model` do; its loss becomes
        `next_token_loss` where it has none
    tokenizer : that both were made with, for a check against the network

    Returns
    -------
    A study of the output "loss" whose ids are those of the rows, with texts.

    Raises
    ------
    InputError : rows of different length, ids that are both candidate and target, rows without an answer, a
        network of another vocabulary or a shorter context.
    """
    if len(targets) == 0:
        raise InputError("targets is empty; pass at least one example of a target task.")
    if train.length != targets.length:
        raise InputError(
            f"candidates have {train.length} tokens and targets {targets.length}; make both with one length."
        )
    for rows, argument in ((train, "train"), (targets, "targets")):
        empty = (rows.sizes == 0).nonzero()[0]
        if len(empty):
            raise InputError(
                f"{argument} row {str(rows.ids[empty[0]])!r} has no answer, so nothing to predict."
            )
        highest, lowest = int(rows.tokens.max()), int(rows.tokens.min())
        if lowest < 0 or highest >= tokenizer.vocabulary:
            raise InputError(
                f"{argument} has token {highest if lowest >= 0 else lowest}, but {tokenizer!r} has tokens "
                f"0..{tokenizer.vocabulary - 1}; pass the tokenizer that the rows were made with."
            )
    check_vocabulary(recipe.model, tokenizer, train.length)
    return Study(
        train=(train.tokens, train.answers),
        targets=(targets.tokens, targets.answers),
        recipe=recipe if recipe.loss is not None else replace(recipe, loss=next_token_loss),
        outputs=["loss"],
        train_ids=train.ids.tolist(),
        target_ids=targets.ids.tolist(),
        texts=(train.texts.tolist(), targets.texts.tolist()),
        name=name,
    )
