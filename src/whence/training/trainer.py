"""`RecipeTrainer`: trains a study's recipe on masks, by the driver that a short measurement found faster."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from whence.errors import InputError
from whence.study._random import fork
from whence.study.outputs import Output, compute
from whence.study.recipe import Recipe
from whence.study.trainer import Retrained, Trainer
from whence.training.batchnorm import evaluating_stacks, has_foreign_batchnorm
from whence.training.data import Resident
from whence.training.loop import train_one
from whence.training.reproducible import reproducible
from whence.training.stacked import train_stack
from whence.training.step import State, Step

if TYPE_CHECKING:
    from whence.study.study import Study

_STACKS = {"cpu": (8, 32, 64), "cuda": (16, 64, 256)}
_STEPS_TIMED = {"cpu": 12, "cuda": 100}  # on a GPU steps are so short that their set-up would decide
_STACK_GAIN = 0.7  # of the loop's time, at most, for a stack to be chosen
_QUERY_VALUES = {"cpu": 2_000_000, "cuda": 16_000_000}  # fed to the network at once in an evaluation
# A study is trained by a new trainer for every bank; what was recorded for one serves them all.
_RECORDINGS: WeakKeyDictionary[Study, tuple[Recipe, dict[Any, dict[Any, Any]]]] = WeakKeyDictionary()


class RecipeTrainer(Trainer):
    """See `Trainer`. `engine` is the answer of an earlier `choose`; without it models are trained one at a
    time."""

    def __init__(
        self, study: Study, device: str | None = None, engine: Mapping[str, Any] | None = None
    ) -> None:
        assert study.recipe is not None
        self.study, self.recipe = study, study.recipe
        self.device = torch.device(device or "cpu")
        self.stack = int((engine or {}).get("stack", 1))
        before = (engine or {}).get("device", self.device.type)
        if before != self.device.type:
            warnings.warn(
                f"earlier retrainings of this bank were made on {before}, these are made on "
                f"{self.device.type}, where the last bits of a number come out differently; pass "
                f"device={before!r} to go on alike.",
                stacklevel=2,
            )
        self._values = 1  # numbers that the network returns for one example, where these are many
        self.mixed = use_mixed(self.recipe, self.device)
        with fork():  # the user's random state is theirs
            model = self.recipe.model()
        if not isinstance(model, nn.Module):
            raise InputError(
                f"recipe.model must return a torch.nn.Module, it returned {type(model).__name__}."
            )
        self.model = model.to(self.device)
        if self.recipe.subset == "weighted" and has_foreign_batchnorm(self.model):
            raise InputError(
                'subset="weighted" gives left-out examples weight 0, but the network has batch-norm layers '
                "in which they would still count; use whence.training.BatchNorm2d in their place, or "
                'subset="shorter".'
            )
        self.step = Step(self.model, self.recipe, self.mixed)
        self.step.recordings = _recordings(study, self.step, self.device)
        self.dtype = _half(self.model) or torch.float32
        self.queries = Resident(study.targets, study.train, self.device, self.dtype)
        self._check_network()
        self._check_augment()

    @cached_property
    def data(self) -> Resident:
        """The training examples, prepared when first asked for: gradient methods do not train."""
        dtype = torch.bfloat16 if self.mixed else self.dtype
        return Resident(self.study.train, self.study.train, self.device, dtype)

    def _check_network(self) -> None:
        self.model.eval()
        with torch.no_grad():
            try:
                logits = self.model(self.queries.inputs(slice(0, 1)))
            except (RuntimeError, IndexError, TypeError, ValueError) as problem:
                raise InputError(
                    f"the network cannot read inputs of shape {tuple(self.queries.inputs(slice(0, 1)).shape)}"
                    f" (one example, batch first): {str(problem).splitlines()[0]}"
                ) from problem
        self.model.train()
        if not isinstance(logits, torch.Tensor):
            raise InputError(
                f"the network must return logits as one tensor, it returned {type(logits).__name__}; wrap it "
                "in a module that returns the logits alone."
            )
        if self.recipe.loss is not None:
            self._values = logits.numel()
            self._check_loss(self.recipe.loss, logits)
            return
        shape, expected = tuple(logits.shape), (1, self.study.class_count)
        if shape != expected:
            raise InputError(
                f"the network must return logits of shape (batch, {expected[1]}) for {expected[1]} classes, "
                f"received {shape} for a batch of 1."
            )

    def _check_loss(self, loss: Output, outputs: torch.Tensor) -> None:
        answers = self.queries.y[:1]
        told = f"outputs of shape {tuple(outputs.shape)} and answers of shape {tuple(answers.shape)}"
        try:
            with torch.no_grad():
                found = loss(outputs, answers)
        except (RuntimeError, IndexError, TypeError, ValueError) as problem:
            raise InputError(f"recipe.loss cannot take {told}: {str(problem).splitlines()[0]}") from problem
        if not isinstance(found, torch.Tensor) or found.shape != (1,) or not found.is_floating_point():
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise InputError(
                f"recipe.loss must return one number for each example, shape (1,) for {told}, it returned "
                f"{shape}; take means over an example's own axes only."
            )

    def _check_augment(self) -> None:
        augment = self.recipe.augment
        if augment is None:
            return
        if not self.queries.is_image:
            raise InputError(
                f"augment is for images, received inputs of shape {tuple(self.queries.x.shape)}; pass uint8 "
                "(n, H, W[, C]) or float (n, C, H, W) with 1 or 3 channels, or augment=None."
            )
        height, width = self.queries.x.shape[1:3]
        if augment.translate >= min(height, width) or augment.cutout > min(height, width):
            raise InputError(
                f"translate={augment.translate} and cutout={augment.cutout} do not fit into images of "
                f"{height} x {width} pixels."
            )
        erase = augment.erase
        if erase and (erase.row + erase.height > height or erase.column + erase.width > width):
            raise InputError(f"{erase} does not fit into images of {height} x {width} pixels.")

    def choose(self, masks: np.ndarray, seeds: np.ndarray, most: int | None = None) -> dict[str, Any]:
        """Time a few steps of the loop and of stacks of several sizes; the fastest per model wins.

        `most` models will be trained, so larger stacks are not tried; nor are those that would be filled up
        with repeats because too few of the models take equally many steps.
        """
        every = self._count_steps(masks)
        steps = every[0]
        if most is not None:
            most = math.ceil(most * max(Counter(every).values()) / len(every))
        per_step = {1: self._time_steps(masks, seeds, 1)}
        for stack in _STACKS.get(self.device.type, ()):
            if most is not None and stack > most:
                break
            try:
                per_step[stack] = self._time_steps(masks, seeds, stack, 2 * per_step[1])
            except (RuntimeError, InputError, ValueError):  # randomness, memory, batch norm: the loop can
                break
            if per_step[stack] > per_step[1]:
                break
        # A stack has to be clearly faster: it needs more memory, and shares caches worse with other workers.
        best = min(per_step, key=lambda stack: per_step[stack] * (1.0 if stack > 1 else _STACK_GAIN))
        self.stack = best
        for shape in [key for key in self.step.recordings if key[0][0] != best]:
            del self.step.recordings[shape]  # of a GPU's memory they hold what a step needs
        return {
            "driver": "stacked" if best > 1 else "loop",
            "stack": best,
            "mixed": self.mixed,
            "device": self.device.type,
            "seconds_per_model": per_step[best] * steps,
            "step_microseconds": {str(k): round(v * 1e6, 1) for k, v in per_step.items()},
        }

    def _time_steps(
        self, masks: np.ndarray, seeds: np.ndarray, stack: int, hopeless: float = math.inf
    ) -> float:
        """Seconds for one step of one model, set-up shared out as in a real run's first steps.

        A try of two steps comes first; when these took more than `hopeless` each, they are the answer.
        """
        weights = torch.as_tensor(np.resize(masks[:1], (stack, self.study.n)), dtype=torch.float32)

        def per_step(steps: int) -> float:
            start = perf_counter()
            if stack == 1:
                train_one(self.step, self.data, weights[0], int(seeds[0]), steps)
            else:
                train_stack(self.step, self.data, weights, [int(seeds[0])] * stack, steps)
            self._wait()
            return (perf_counter() - start) / steps / stack

        total = max(1, self.recipe.steps(int(weights[0].sum())))
        per_step(1)  # what is set up once in a process should not count
        first = per_step(min(2, total))
        if first > hopeless:
            return first
        timed = min(_STEPS_TIMED.get(self.device.type, _STEPS_TIMED["cpu"]), total)
        return min(per_step(timed) for _ in range(2))

    def train(self, masks: np.ndarray, seeds: np.ndarray, keep_states: bool = False) -> Iterator[Retrained]:
        """See `Trainer.train`."""
        masks = self.study.check_masks(masks)
        if len(seeds) != len(masks):
            raise InputError(
                f"seeds must have one seed for each of {len(masks)} masks, received {len(seeds)}."
            )
        early: dict[int, Retrained] = {}  # made before their turn
        turn = 0
        for rows in self._stacks(masks):
            weights = torch.as_tensor(masks[rows], dtype=torch.float32)
            made = self._train_weights(weights, [int(seeds[i]) for i in rows], keep_states)
            early.update(zip(rows, made, strict=True))
            while turn in early:
                yield early.pop(turn)
                turn += 1

    def _stacks(self, masks: np.ndarray) -> list[list[int]]:
        """Rows that are trained together: as many as fit of those that take equally many steps, the stack of
        the first row first."""
        alike: dict[int, list[int]] = {}
        for row, steps in enumerate(self._count_steps(masks)):
            alike.setdefault(steps, []).append(row)
        stacks = [
            rows[start : start + self.stack]
            for rows in alike.values()
            for start in range(0, len(rows), self.stack)
        ]
        return sorted(stacks, key=lambda rows: rows[0])

    def _count_steps(self, masks: np.ndarray) -> list[int]:
        full = self.recipe.subset == "weighted"
        sizes = [self.study.n if full else int(mask.sum()) for mask in masks]
        steps = [self.recipe.steps(size) for size in sizes]
        if 0 in steps:
            raise InputError(
                f"drop_last=True with batch_size={self.recipe.batch_size} leaves no step for a subset of "
                f"{sizes[steps.index(0)]} examples; choose a smaller batch or drop_last=False."
            )
        return steps

    def _train_weights(
        self, weights: torch.Tensor, seeds: list[int], keep_states: bool
    ) -> Iterator[Retrained]:
        start = perf_counter()
        count = len(seeds)
        if self.stack == 1:
            states = [train_one(self.step, self.data, weights[0], seeds[0])]
            outputs = [self._evaluate(states[0])]
        else:
            fill = [i % count for i in range(self.stack)]
            state = train_stack(self.step, self.data, weights[fill], [seeds[i] for i in fill])
            states = [_member(state, i) for i in range(count)]
            outputs = self._evaluate_stack(state)[:count]
        self._wait()
        seconds = (perf_counter() - start) / count
        for final, values in zip(states, outputs, strict=True):
            kept = {**final.parameters, **final.buffers} if keep_states else None
            yield Retrained(
                values, seconds, state=None if kept is None else {k: v.cpu().clone() for k, v in kept.items()}
            )

    def logits(self, parameters: dict[str, torch.Tensor], data: Resident | None = None) -> torch.Tensor:
        """Logits ``(targets, classes)`` in float32 of a trained state, in evaluation mode."""
        data = data or self.queries
        self.model.eval()
        with torch.no_grad(), reproducible(self.device):
            chunks = [
                torch.func.functional_call(self.model, parameters, (_cast(data.inputs(part), self.dtype),))
                for part in _slices(data)
            ]
        self.model.train()
        return torch.cat(chunks).float()

    def _evaluate(self, state: State) -> dict[str, np.ndarray]:
        parameters = {**state.parameters, **state.buffers}

        def call(x: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(self.model, parameters, (_cast(x, self.dtype),))

        return self._compute(call, 1)

    def _evaluate_stack(self, state: State) -> list[dict[str, np.ndarray]]:
        mapped = torch.func.vmap(
            lambda p, b, x: torch.func.functional_call(self.model, (p, b), (x,)), in_dims=(0, 0, None)
        )
        with evaluating_stacks(self.device):
            arrays = self._compute(lambda x: mapped(state.parameters, state.buffers, x), self.stack)
        return [{name: array[i] for name, array in arrays.items()} for i in range(self.stack)]

    def _compute(self, call: Callable[[torch.Tensor], torch.Tensor], models: int) -> dict[str, np.ndarray]:
        """The study's outputs (models, targets, ...), without the first axis for one model, a slice of the
        targets at a time: what a network returns for all of them may not fit in memory."""
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in self.study.outputs}
        self.model.eval()
        with torch.no_grad(), reproducible(self.device):
            for part in _slices(self.queries, models, self._values):
                values, y = call(self.queries.inputs(part)).float(), self.queries.y[part]
                if self.recipe.loss is None:
                    found = compute(self.study.outputs, values, y)
                else:
                    loss = torch.func.vmap(self.recipe.loss, (0, None)) if models > 1 else self.recipe.loss
                    found = {"loss": loss(values, y)}
                for name, value in found.items():
                    parts[name].append(value)
        self.model.train()
        axis = 1 if models > 1 else 0
        return {name: torch.cat(values, axis).cpu().numpy() for name, values in parts.items()}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _recordings(study: Study, step: Step, device: torch.device) -> dict[Any, Any]:
    """See `Step.recordings`; kept for as long as the study is, and for networks that look alike."""
    of, kept = _RECORDINGS.get(study, (None, {}))
    if of is not step.recipe:
        kept = {}
        _RECORDINGS[study] = step.recipe, kept
    named = (*step.model.named_parameters(), *step.model.named_buffers())
    shapes = tuple((name, tuple(tensor.shape), tensor.requires_grad) for name, tensor in named)
    return kept.setdefault((device, step.mixed, repr(step.model), shapes), {})


def use_mixed(recipe: Recipe, device: torch.device) -> bool:
    """Whether a run on `device` computes in bfloat16; a fact of the hardware, so the same in every process on
    it."""
    if recipe.precision != "auto":
        return recipe.precision == "mixed"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return x.to(dtype) if x.is_floating_point() else x  # tokens stay integers


def _half(model: nn.Module) -> torch.dtype | None:
    """The half precision that a network's own weights are in, if they are."""
    kinds = {p.dtype for p in model.parameters()}
    return next((kind for kind in (torch.bfloat16, torch.float16) if kind in kinds), None)


def _slices(data: Resident, models: int = 1, values: int = 1) -> list[slice]:
    """Examples that go through `models` networks together, each of which returns `values` numbers."""
    fed = _QUERY_VALUES.get(data.y.device.type, _QUERY_VALUES["cpu"])
    size = max(1, min(512, fed // max(1, max(data.x[0].numel(), values) * models)))
    return [slice(start, start + size) for start in range(0, len(data.y), size)]


def _member(state: State, i: int) -> State:
    def one(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {key: value[i] for key, value in tensors.items()}

    return State(one(state.parameters), one(state.buffers), {}, state.t[i])
