"""Hugging Face models in a Study: sequence classifiers, whose token fields come in one array and are taken
apart by the network, and causal language models.

    from whence.study.huggingface import causal_model, sequence_classifier, tokens

    inputs = tokens(tokenizer(texts))
    recipe = Recipe(model=partial(sequence_classifier, make_bert), ...)
    recipe = Recipe(model=partial(causal_model, make_gpt), ...)  # see whence.study.text

The network keeps the names of its weights, so that `model.safetensors` of `save_pretrained` is a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

FIELDS = ("input_ids", "attention_mask")


def tokens(
    encodings: Mapping[str, Any],
    *,
    fields: Sequence[str] = FIELDS,
    length: int | None = None,
    pad: int = 0,
) -> np.ndarray:
    """What a tokenizer returns, as inputs of a `Study`: int64 (n, fields, length).

    Parameters
    ----------
    encodings : field -> n rows of integers, of one length or (a tokenizer without padding) of several
    fields : which of them, in the order in which `sequence_classifier` takes them
    length : to which rows are filled up on the right; the longest row's if None. Train and targets need one
    pad : the tokenizer's `pad_token_id`, which fills up "input_ids"; other fields are filled up with 0

    Raises
    ------
    InputError : a field is missing or not of integers, or rows are longer than `length` or differ between
        fields.
    """
    if not isinstance(encodings, Mapping) and not hasattr(encodings, "keys"):
        raise InputError(
            f"encodings must map {', '.join(fields)} to rows of integers, received "
            f"{type(encodings).__name__}; pass what the tokenizer returns."
        )
    absent = [field for field in fields if field not in encodings]
    if absent:
        raise InputError(
            f"encodings lack {', '.join(absent)}, they have {', '.join(encodings.keys())}; name fields=... "
            "both here and in sequence_classifier."
        )
    rows = {field: [np.asarray(row) for row in encodings[field]] for field in fields}
    sizes = [len(row) for row in rows[fields[0]]]
    if any([len(row) for row in own] != sizes for own in rows.values()):
        raise InputError(f"the rows of {', '.join(fields)} differ in number or length.")
    longest = max(sizes, default=0)
    if length is not None and longest > length:
        raise InputError(
            f"a row has {longest} tokens, but length is {length}; raise it, or let the tokenizer truncate."
        )
    found = np.zeros((len(sizes), len(fields), length or longest), dtype=np.int64)
    for i, field in enumerate(fields):
        if field == "input_ids":
            found[:, i] = pad
        for row, values in zip(found, rows[field], strict=True):
            if values.dtype.kind not in "iub":
                raise InputError(f"{field} must be integers, received {values.dtype}.")
            row[i, : len(values)] = values
    return found


def sequence_classifier(make: Callable[[], nn.Module], fields: Sequence[str] = FIELDS) -> nn.Module:
    """A Hugging Face model for sequence classification as a network from `tokens` to logits (b, classes).

    Parameters
    ----------
    make : makes the model, as in ``lambda: AutoModelForSequenceClassification.from_pretrained(...)``
    fields : the fields that `tokens` packed, in the same order
    """
    model = _made(make)
    kind: Any = type(model)
    config = model.config
    if getattr(config, "pad_token_id", None) is None:
        raise InputError(
            f"the config of {kind.__name__} has no pad_token_id, so it cannot tell where a text of a batch "
            "ends; set it to the tokenizer's."
        )
    model.__class__ = _classifier(kind, tuple(fields))
    return model


def causal_model(make: Callable[[], nn.Module]) -> nn.Module:
    """A Hugging Face causal language model as a network from tokens (b, length) to logits (b, length,
    vocabulary), for `whence.study.text.language_study`.

    Rows are packed or filled up on the right, where no earlier token sees, so there is no attention mask.

    Parameters
    ----------
    make : makes the model, as in ``lambda: AutoModelForCausalLM.from_pretrained(...)``
    """
    model = _made(make)
    kind: Any = type(model)
    if not hasattr(model, "lm_head") and "CausalLM" not in kind.__name__ and "LMHead" not in kind.__name__:
        raise InputError(
            f"make must return a causal language model, it returned {kind.__name__}; take it from "
            "AutoModelForCausalLM."
        )
    model.__class__ = _causal(kind)
    return model


def _made(make: Callable[[], nn.Module]) -> Any:
    model: Any = make()
    kind = type(model)
    if getattr(model, "config", None) is None or not hasattr(kind, "from_pretrained"):
        raise InputError(f"make must return a transformers model, it returned {kind.__name__}.")
    return model


@cache
def _causal(kind: Any) -> type[Any]:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 2:
            raise InputError(f"inputs must be tokens (b, length), received shape {tuple(x.shape)}.")
        return kind.forward(self, input_ids=x, use_cache=False, return_dict=True).logits

    # a subclass rather than a module around it: the weights keep their names
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})


@cache
def _classifier(kind: Any, fields: tuple[str, ...]) -> type[Any]:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        if x.ndim != 3 or x.shape[1] != len(fields):
            raise InputError(
                f"inputs of one example must be ({len(fields)}, length) for {', '.join(fields)}, received "
                f"{tuple(x.shape[1:])}; make them with whence.study.huggingface.tokens."
            )
        return kind.forward(self, **dict(zip(fields, x.unbind(1), strict=True)), return_dict=True).logits

    # a subclass rather than a module around it: the weights keep their names
    return type(kind.__name__, (kind,), {"forward": forward, "__module__": kind.__module__})
