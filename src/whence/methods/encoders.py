"""Encoders for `Similarity(features=...)`: each function here returns a function study -> (train (n, d),
targets (t, d)) float32 features. Packages with pretrained weights are imported when they are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from whence.errors import InputError

Features = Callable[[Any], tuple[np.ndarray, np.ndarray]]
BATCH = 128


def contrastive(**settings: Any) -> Features:
    """A self-supervised encoder (SimCLR), trained on the study's own images without their labels.

    settings : see `whence.training.contrastive.pretrain`
    """

    def features(study: Any) -> tuple[np.ndarray, np.ndarray]:
        from whence.training.contrastive import pretrain
        from whence.training.single import encode

        return encode(study, pretrain(study, **settings))

    return features


def images(encoder: Callable[[torch.Tensor], torch.Tensor], size: int = 224, device: str = "cpu") -> Features:
    """An image encoder made for ImageNet: (b, 3, size, size) normalised by its means -> (b, d).

    Takes a study of uint8 images; they are made RGB, resized bilinearly and normalised. A torch-hub or timm
    model without its classifier is such an encoder.
    """
    if isinstance(encoder, nn.Module):
        encoder = encoder.to(device).eval()

    def one(examples: Any) -> np.ndarray:
        array = np.asarray(examples.inputs) if examples.is_image else None
        if array is None or array.dtype != np.uint8:
            raise InputError("an image encoder needs a study of uint8 images (n, H, W[, C]).")
        parts = []
        for start in range(0, len(array), BATCH):
            x = torch.tensor(array[start : start + BATCH], device=device).float() / 255
            x = (x if x.ndim == 4 else x[..., None]).movedim(-1, 1).expand(-1, 3, -1, -1)
            x = nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
            with torch.no_grad():
                out = encoder((x - _MEAN.to(device)) / _STD.to(device))
            parts.append(_rows(out, len(x)))
        return np.concatenate(parts)

    return lambda study: (one(study.train), one(study.targets))


def timm(name: str, *, size: int = 224, pretrained: bool = True, device: str = "cpu") -> Features:
    """The image encoder of this name from timm, its classifier taken off (pip install timm)."""
    try:
        import timm as package
    except ImportError:
        raise InputError("encoders.timm needs timm; pip install timm.") from None
    return images(package.create_model(name, pretrained=pretrained, num_classes=0), size, device)


def hugging_face(name: str, *, length: int = 128, device: str = "cpu") -> Features:
    """Mean of the last hidden states of a Hugging Face text model, for a study with texts (pip install
    'whence[text]')."""
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError:
        raise InputError("encoders.hugging_face needs transformers; pip install 'whence[text]'.") from None
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).to(device).eval()

    def one(texts: Any) -> np.ndarray:
        if texts is None:
            raise InputError("a text encoder needs texts; pass a Study made with texts=(train, targets).")
        parts = []
        for start in range(0, len(texts), BATCH):
            given = tokenizer(
                list(map(str, texts[start : start + BATCH])),
                padding=True, truncation=True, max_length=length, return_tensors="pt",
            ).to(device)  # fmt: skip
            with torch.no_grad():
                states = model(**given).last_hidden_state
            words = given["attention_mask"][..., None]
            parts.append(_rows((states * words).sum(1) / words.sum(1).clamp_min(1), len(states)))
        return np.concatenate(parts)

    return lambda study: (one(study.train_texts), one(study.target_texts))


def words(dimensions: int = 256) -> Features:
    """Latent semantic analysis, for a study with texts (Deerwester et al. 1990): word counts damped by the
    logarithm and weighted by rarity (TF-IDF), brought to their first `dimensions` singular directions. Fitted
    to the training texts alone; needs scikit-learn."""

    def features(study: Any) -> tuple[np.ndarray, np.ndarray]:
        try:
            from sklearn.decomposition import TruncatedSVD
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError:
            raise InputError("encoders.words needs scikit-learn; pip install 'whence[sklearn]'.") from None
        if study.texts is None:
            raise InputError("a text encoder needs texts; pass a Study made with texts=(train, targets).")
        train, targets = ([str(text) for text in part] for part in study.texts)
        weigh = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+", max_features=50_000)
        counted = weigh.fit_transform(train)
        size = min(dimensions, counted.shape[1] - 1, counted.shape[0] - 1)
        reduce = TruncatedSVD(size, random_state=0)
        return reduce.fit_transform(counted).astype(np.float32), reduce.transform(
            weigh.transform(targets)
        ).astype(np.float32)

    return features


def _rows(out: Any, count: int) -> np.ndarray:
    if not isinstance(out, torch.Tensor) or out.ndim != 2 or len(out) != count:
        received = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise InputError(
            f"an encoder must return ({count}, features) for {count} inputs, received {received}."
        )
    return out.float().cpu().numpy()


_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
