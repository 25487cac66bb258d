"""What the tests of a GPU share: `pytest -m gpu tests/gpu`, on one CUDA device, in two minutes."""

import numpy as np
import pytest
import torch

DEVICE = "cuda"
needs_cuda = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this PyTorch sees no CUDA device"),
]


def apart(found, expected):
    """The largest difference, relative to the largest expected number."""
    found, expected = (np.asarray(part, np.float64) for part in (found, expected))
    assert found.shape == expected.shape and np.isfinite(found).all()
    return float(np.abs(found - expected).max() / np.abs(expected).max())
