"""What a GPU is not asked to promise by PyTorch's defaults, and a retraining must: the same bits again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Within this context convolutions on a CUDA device are computed in the same way each time, and in
    float32 where they are given float32.

    By default PyTorch lets cuDNN take algorithms that add up in any order, and round the inputs of float32
    convolutions to the ten bits of TF32. Whoever wants speed asks a `Recipe` for precision="auto".
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    # Since PyTorch 2.9 each operation has a precision of its own, and the common switch warns.
    place, name, exact = (
        (cudnn.conv, "fp32_precision", "ieee") if hasattr(cudnn, "conv") else (cudnn, "allow_tf32", False)
    )
    before = cudnn.deterministic, cudnn.benchmark, getattr(place, name)
    cudnn.deterministic, cudnn.benchmark = True, False
    setattr(place, name, exact)
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        setattr(place, name, before[2])
