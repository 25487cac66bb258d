"""Small studies with known outputs, for the tests of banks and retraining."""

import numpy as np

import whence

N, TARGETS = 30, 4


def linear(mask, seed):
    """A linear function of the mask plus noise that follows the seed."""
    weights = (np.arange(TARGETS * N).reshape(TARGETS, N) % 7 - 3) / 10
    return weights @ mask + 0.01 * np.random.default_rng(seed).normal(size=TARGETS)


def study(function=linear, **options):
    return whence.Study.from_function(function, n=N, targets=TARGETS, outputs=["margin"], **options)


def plan(**options):
    return whence.Plan(whence.Subsets.uniform(N, 0.5), **options)


def fill(bank, a_study, blocks):
    """Train and commit blocks in this process."""
    trainer = a_study.trainer()
    for block in blocks:
        rows = bank.plan.rows(*bank.rows_of(block))
        bank.write_block(block, trainer.train(bank.plan.masks(rows), rows.seed))
    return bank


def make(path, rows=24, block=4, blocks=None):
    """A bank of the linear study with all, or only some, of its blocks committed."""
    bank = whence.Bank.create(path, study(), plan(), block=block)
    bank.grow(rows)
    return fill(bank, study(), bank.missing_blocks() if blocks is None else blocks)


def arrays(bank):
    """Everything that two runs must agree on, by name."""
    named = {name: bank.outputs_of(name, ok=False) for name in bank.outputs}
    return {**named, "masks": bank.packed_masks(ok=False), "ok": bank.dataset.ok.values}


def same(first, second):
    mine, theirs = arrays(first), arrays(second)
    return all(
        np.array_equal(mine[name], theirs[name], equal_nan=name not in ("masks", "ok")) for name in mine
    )
