"""Text for language models: tokenizers, rows of tokens, text domains, target tasks and studies of them.

from whence.study import text

tokenizer = text.ByteTokenizer()
candidates = text.pack(text.read_text("book.txt.gz"), tokenizer, length=128, name="book")
chosen_for, reported = text.lambada("lambada_openai.jsonl.gz").halves(seed=0)
study = text.language_study(candidates, chosen_for.rows(tokenizer, 128), recipe, tokenizer)
"""

from whence.study.text.domains import read_jsonl, read_text, shuffled_characters
from whence.study.text.language import language_study, next_token_loss
from whence.study.text.packing import IGNORED, Rows, pack
from whence.study.text.sample import sample
from whence.study.text.targets import TargetTask, cs_algorithms, gsm8k, jeopardy, lambada, squad
from whence.study.text.tokenizers import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    Tokenizer,
    byte_pairs,
    check_vocabulary,
)

__all__ = [
    "ByteTokenizer",
    "HuggingFaceTokenizer",
    "IGNORED",
    "Rows",
    "TargetTask",
    "Tokenizer",
    "byte_pairs",
    "check_vocabulary",
    "cs_algorithms",
    "gsm8k",
    "jeopardy",
    "lambada",
    "language_study",
    "next_token_loss",
    "pack",
    "read_jsonl",
    "read_text",
    "sample",
    "shuffled_characters",
    "squad",
]
