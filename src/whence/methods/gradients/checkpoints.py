"""Where trained weights come from: a bank's checkpoints, state dicts at hand, or models trained on the
spot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from whence.bank import Bank
from whence.errors import InputError
from whence.subsets import Subsets

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training import RecipeTrainer
    from whence.training.step import State

Given = int | Bank | Sequence[Mapping[str, torch.Tensor] | str | Path]


@dataclass(frozen=True)
class Checkpoint:
    """Trained weights and what they were trained on.

    Attributes
    ----------
    load : () -> parameters and buffers by name
    mask : (n,) bool, the training examples seen; None where that is not known
    """

    name: str
    load: Callable[[], dict[str, torch.Tensor]]
    mask: np.ndarray | None = None


def checkpoints(
    study: Study,
    given: Given,
    *,
    first: int | None = None,
    seed: int = 0,
    device: str | None = None,
) -> list[Checkpoint]:
    """The checkpoints that `given` stands for.

    Parameters
    ----------
    given : a Bank: those of its training part (what is kept for validation and reporting is left alone); a
        list of state dicts or of safetensors files; a number: so many models are trained here on random
        halves
    first : take only so many
    device : where models are trained; default the CPU
    """
    if isinstance(given, Bank):
        found = _of_bank(study, given)
        if not found:
            raise InputError(
                "the bank keeps no checkpoints of its training part; retrain with checkpoints=N, or pass a "
                "number or state dicts as checkpoints."
            )
    elif isinstance(given, int):
        if given < 1:
            raise InputError(f"checkpoints must be at least 1, received {given}.")
        found = list(_train(study, given, seed, device))
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes) and given:
        found = [_state(item, i) for i, item in enumerate(given)]
    else:
        raise InputError(
            "checkpoints must be a number of models to train, a Bank that kept some, or a list of state "
            f"dicts or safetensors files, received {type(given).__name__}."
        )
    if first is not None and not 1 <= first <= len(found):
        raise InputError(f"{first} checkpoints were asked for, but there are {len(found)}.")
    return found[:first]


def _of_bank(study: Study, bank: Bank) -> list[Checkpoint]:
    if bank.study_fingerprint != study.fingerprint:
        raise InputError(
            f"the checkpoints come from the bank of another study ({bank.study_description.get('name')!r}); "
            "pass the bank that this study was retrained into."
        )
    training = set(bank.select("train").rows.tolist())
    rows = [row for row in bank.checkpoint_rows() if row in training]
    if not rows:
        return []
    masks = bank.masks(rows=rows)

    def loader(row: int) -> Callable[[], dict[str, torch.Tensor]]:
        return lambda: bank.checkpoint(row)

    return [Checkpoint(f"row {row}", loader(row), mask) for row, mask in zip(rows, masks, strict=True)]


def _train(study: Study, count: int, seed: int, device: str | None) -> Iterator[Checkpoint]:
    masks = Subsets.uniform(study.n, 0.5, seed).masks(range(count))
    runs = study.trainer(device).train(masks, np.arange(count) + seed, keep_states=True)
    for i, (run, mask) in enumerate(zip(runs, masks, strict=True)):
        if run.state is None:
            raise InputError(
                f"{study!r} trains without telling its weights; pass a study with a Recipe, or checkpoints."
            )
        yield Checkpoint(f"model {i}", partial(dict, run.state), mask)


def trajectory(
    study: Study, count: int, seed: int = 0, device: str | None = None
) -> tuple[list[Checkpoint], list[float]]:
    """Train on everything, and keep the weights at `count` moments of the run, one in the middle of each of
    as many equal stretches; also the learning rates of each stretch, summed over its steps."""
    from whence.training import RecipeTrainer
    from whence.training.loop import train_one

    trainer = study.trainer(device)
    if not isinstance(trainer, RecipeTrainer):
        raise InputError(
            f"{study!r} trains without telling its weights; pass a study with a Recipe, or checkpoints and "
            "rates."
        )
    recipe = trainer.recipe
    total = recipe.steps(study.n)
    if not 1 <= count <= total:
        raise InputError(f"checkpoints must lie between 1 and the {total} steps of a run, received {count}.")
    edges = [total * i // count for i in range(count + 1)]
    rates = [
        recipe.optimizer.lr * sum(recipe.schedule.factor(t, total) for t in range(start, stop))
        for start, stop in itertools.pairwise(edges)
    ]
    middles = {(start + stop + 1) // 2 for start, stop in itertools.pairwise(edges)}
    found: list[Checkpoint] = []

    def keep(done: int, state: State) -> None:
        if done in middles:
            kept = {k: v.cpu().clone() for k, v in {**state.parameters, **state.buffers}.items()}
            found.append(Checkpoint(f"step {done}", lambda: kept))

    train_one(trainer.step, trainer.data, torch.ones(study.n), seed, watch=keep)
    return found, rates


def _state(item: Any, i: int) -> Checkpoint:
    if isinstance(item, str | Path):
        from safetensors.torch import load_file

        path = Path(item)
        if not path.is_file():
            raise InputError(f"checkpoints[{i}] is {str(path)!r}, which is not a file.")
        return Checkpoint(path.name, lambda: load_file(path))
    if not isinstance(item, Mapping):
        raise InputError(
            f"checkpoints[{i}] must be a state dict or a safetensors file, received {type(item).__name__}."
        )
    return Checkpoint(f"checkpoint {i}", lambda: dict(item))


def check_fits(trainer: RecipeTrainer, checkpoint: Checkpoint, state: Mapping[str, torch.Tensor]) -> None:
    """Raise InputError where a checkpoint is not of the study's network, or holds numbers that are none."""
    wanted = dict((*trainer.model.named_parameters(), *trainer.model.named_buffers()))
    saved = trainer.model.state_dict()  # buffers that are not part of it are constants
    absent = [key for key in wanted if key not in state and key in saved]
    wrong = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if absent or wrong:
        key = (absent or wrong)[0]
        which = f"lacks {key}" if absent else f"has {key} of shape {tuple(state[key].shape)}"
        if wrong and not absent:
            which += f" instead of {tuple(wanted[key].shape)}"
        raise InputError(f"{checkpoint.name} is not of this study's network: it {which}.")
    bad = [key for key in wanted if key in state and not torch.isfinite(state[key]).all()]
    if bad:
        raise InputError(f"{checkpoint.name} holds non-finite numbers in {bad[0]}.")
