"""Text to tokens and back: bytes, which need nothing, and the tokenizers of Hugging Face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from whence.errors import InputError

if TYPE_CHECKING:
    from torch import nn

END = "<|endoftext|>"
_PADDED = 128  # vocabularies of published models are rounded up to multiples of at most this


@runtime_checkable
class Tokenizer(Protocol):
    """What packing and target tasks ask of a tokenizer."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens; every token lies below it."""
        ...

    @property
    def separator(self) -> int:
        """The token that ends a document, and that fills up short rows."""
        ...

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, int64, without any that begin or end it."""
        ...

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text of tokens; separators are left out."""
        ...


class ByteTokenizer:
    """The 256 bytes of UTF-8, and a separator: vocabulary 257. Any text, no training, no dependency."""

    vocabulary = 257
    separator = 256

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The bytes of each text, int64."""
        return [np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) for text in texts]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text; a character that was cut in two becomes the replacement character."""
        return bytes(int(t) for t in tokens if t < 256).decode("utf-8", errors="replace")

    def __repr__(self) -> str:
        return "ByteTokenizer()"


class HuggingFaceTokenizer:
    """A tokenizer of `transformers`, for example ``AutoTokenizer.from_pretrained(...)``.

    Parameters
    ----------
    tokenizer : its end-of-text token becomes the separator

    Raises
    ------
    InputError : not a tokenizer, or one without an end-of-text token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not (hasattr(tokenizer, "decode") and hasattr(tokenizer, "eos_token_id") and callable(tokenizer)):
            raise InputError(
                f"tokenizer must be a tokenizer of transformers, received {type(tokenizer).__name__}; pass "
                "AutoTokenizer.from_pretrained(...)."
            )
        if tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer has no end-of-text token to put between documents; set tokenizer.eos_token."
            )
        self._tokenizer = tokenizer
        self.vocabulary = len(tokenizer)
        self.separator = int(tokenizer.eos_token_id)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The tokens of each text, int64; special tokens are not added."""
        if not len(texts):
            return []
        found = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return [np.asarray(row, dtype=np.int64) for row in found]

    def decode(self, tokens: Sequence[int] | np.ndarray) -> str:
        """The text, special tokens left out."""
        kept = [int(token) for token in tokens if token != self.separator]
        return str(self._tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def __repr__(self) -> str:
        return f"HuggingFaceTokenizer({type(self._tokenizer).__name__}, {self.vocabulary} tokens)"


def byte_pairs(texts: Sequence[str], vocabulary: int = 1024) -> HuggingFaceTokenizer:
    """A byte-level BPE tokenizer learnt from `texts`: a few hundred merges make small models several times
    cheaper than bytes, for a row then holds more text.

    Parameters
    ----------
    texts : what the merges are counted in; not the targets' texts, or their words would be told beforehand
    vocabulary : number of tokens, the 256 bytes and the separator among them

    Raises
    ------
    InputError : `vocabulary` below 257, no text, or transformers is not installed.
    """
    if vocabulary < 257:
        raise InputError(
            f"vocabulary is {vocabulary}, but 256 bytes and a separator need 257; for bytes alone see "
            "ByteTokenizer."
        )
    if not any(texts):
        raise InputError("texts is empty; pass the documents in which byte pairs are to be counted.")
    try:
        from tokenizers import Tokenizer as Fast
        from tokenizers import decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise InputError("byte_pairs needs transformers; pip install 'whence[text]'.") from None
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(list(texts), trainer)
    return HuggingFaceTokenizer(PreTrainedTokenizerFast(tokenizer_object=fast, eos_token=END))


def check_vocabulary(make: Callable[[], nn.Module], tokenizer: Tokenizer, length: int) -> None:
    """InputError unless the network that `make` returns reads rows of `length` tokens of this tokenizer and
    gives logits (1, length, vocabulary) for them.

    A vocabulary that is larger than the tokenizer's by less than 128 is taken to be rounded up, as those of
    published models are.
    """
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        model = make().eval()
        row = torch.full((1, length), tokenizer.separator, dtype=torch.long)
        try:
            logits = model(row)
        except (RuntimeError, IndexError) as problem:
            raise InputError(
                f"the network cannot read a row of {length} tokens of {tokenizer!r} "
                f"({str(problem).splitlines()[0]}); its vocabulary must be {tokenizer.vocabulary} and its "
                f"length at least {length}."
            ) from problem
    if not isinstance(logits, torch.Tensor) or logits.ndim != 3 or logits.shape[:2] != (1, length):
        received = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(
            f"the network must return logits (1, {length}, {tokenizer.vocabulary}) for one row of tokens, "
            f"received {received}."
        )
    size = logits.shape[2]
    if not tokenizer.vocabulary <= size < tokenizer.vocabulary + _PADDED:
        raise InputError(
            f"the network predicts {size} tokens, but {tokenizer!r} has {tokenizer.vocabulary}: they do not "
            "belong together; make the network with the tokenizer's vocabulary, or load the model's own "
            "tokenizer."
        )
