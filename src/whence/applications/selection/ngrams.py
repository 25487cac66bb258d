"""Hashed n-gram counts of texts, which several selectors read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from whence.errors import InputError

# Runs of letters and digits, and runs of anything else but spaces: what NLTK calls WordPunct.
TOKENS = r"\w+|[^\w\s]+"


def counts(texts: Iterable[Any], buckets: int, longest: int = 2) -> Any:
    """Counts of word n-grams up to `longest`, hashed into `buckets`: a sparse matrix (texts, buckets)."""
    try:
        from sklearn.feature_extraction.text import HashingVectorizer
    except ImportError:
        raise InputError(
            "this selector counts n-grams with scikit-learn; pip install 'whence[sklearn]'."
        ) from None
    hashing = HashingVectorizer(
        n_features=buckets, ngram_range=(1, longest), token_pattern=TOKENS, norm=None, alternate_sign=False
    )
    return hashing.transform(str(text) for text in texts)
