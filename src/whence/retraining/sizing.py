"""How many rows make a block: enough work to make a commit cheap, small enough to lose little and to share
out."""

from __future__ import annotations

TARGET_SECONDS = 10.0
MOST_ROWS = 64
BLOCKS_PER_WORKER = 8


def choose_block(n: int, seconds_per_model: float, workers: int, stack: int = 1) -> int:
    """Rows in a block.

    About ten seconds of work, at most 64 rows (or four stacks, where models are trained together), few enough
    that every worker gets eight blocks, and a divisor of `n` when one lies near, so that n rows asked for are
    n rows made (blocks are always whole)."""
    most = max(MOST_ROWS, 4 * stack)
    ideal = max(
        1.0, min(TARGET_SECONDS / max(seconds_per_model, 1e-6), most, n / (BLOCKS_PER_WORKER * workers))
    )
    if stack > 1:  # a part-filled stack costs as much as a full one
        ideal = min(max(ideal, min(stack, n / workers)), most)
    divisors = [size for size in range(1, min(n, most) + 1) if n % size == 0]
    near = [size for size in divisors if ideal / 2 <= size <= ideal * 2]
    if near:
        return min(near, key=lambda size: abs(size - ideal))
    return 1 << max(0, round(ideal).bit_length() - 1)  # the power of two at or below it
