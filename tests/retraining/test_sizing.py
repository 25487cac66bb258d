"""Blocks hold about ten seconds of work and divide what was asked for."""

import pytest

from whence.retraining.sizing import choose_block


@pytest.mark.parametrize(
    "n, seconds, workers, stack, block",
    [
        (1000, 0.2, 2, 1, 50),  # ten seconds
        (1000, 17.0, 8, 1, 1),  # a slow model: every row its own block
        (2000, 1e-5, 2, 1, 50),  # a fast one: at most 64 rows
        (40, 0.1, 2, 1, 2),  # enough blocks for every worker
        (1009, 0.2, 2, 1, 32),  # a prime: the power of two below 50
        (20_480, 0.01, 1, 256, 1024),  # four stacks on an accelerator
        (1000, 0.01, 2, 32, 64),  # whole stacks before a divisor: 1024 rows are made
        (20, 0.01, 2, 32, 20),  # fewer than a stack
        (1, 1.0, 8, 1, 1),
    ],
)
def test_choice(n, seconds, workers, stack, block):
    assert choose_block(n, seconds, workers, stack) == block
