"""How many rows make a block: enough work to make a commit cheap, little enough to lose or share."""

from __future__ import annotations

TARGET_SECONDS = 10.0
MOST_ROWS = 64
BLOCKS_PER_WORKER = 8


def choose_block(n: int, seconds_per_model: float, workers: int, stack: int = 1) -> int:
    """Rows in a block.

    About ten seconds of work, at most 64 rows (or four stacks, where models are trained together), so few
    that every worker gets eight blocks. Whole stacks, for a part-filled one costs as much as a full one; a
    divisor of `n` when one lies near, so that n rows asked for are n rows made (blocks are always whole).
    """
    if stack >= n:
        return n
    most = min(n, max(MOST_ROWS, 4 * stack))
    ideal = min(TARGET_SECONDS / max(seconds_per_model, 1e-6), n / (BLOCKS_PER_WORKER * workers), most)
    sizes = range(stack, most + 1, stack)
    near = [size for size in sizes if n % size == 0 and ideal / 2 <= size <= max(ideal, stack) * 2]
    if near:
        return min(near, key=lambda size: abs(size - ideal))
    if stack > 1:
        return min(sizes, key=lambda size: abs(size - ideal))
    return 1 << max(0, int(ideal).bit_length() - 1)  # the power of two at or below it
