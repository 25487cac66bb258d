"""Unlearning by the hundred: base models, oracles and unlearned models of a study, in banks that resume.

A method can only be judged by distributions: many models trained on everything and made to forget, beside as
many retrained without the forget set. All of one experiment see the same study (`examined`), so that one
attribution and one set of base models serve every request.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from whence.applications.unlearning.base import Edit, Unlearn
from whence.applications.unlearning.certificate import Certificate, certify
from whence.applications.unlearning.outputs import Outputs, Part
from whence.applications.unlearning.request import Request, examined
from whence.errors import InputError
from whence.evaluate.removals import FRESH
from whence.provenance import fingerprint
from whence.study.outputs import compute
from whence.study.trainer import Retrained, Trainer
from whence.study.variants import with_outputs, with_trainer
from whence.subsets import Subsets
from whence.training.finetune import Finetuner

if TYPE_CHECKING:
    from whence.bank import Bank
    from whence.study import Study


class Experiment:
    """Models of a study to unlearn with, and oracles to judge by.

    Parameters
    ----------
    study : with a Recipe; looked at as `examined(study)`.
    models : base models, and oracles of each request, to judge by.
    to : folder of the banks; run the same again to resume.
    spare : further oracles of each request, for the floor (as many as `models` give it at full size) and for
        `OracleMatching`, which may not match those that judge it.
    seed : of the base models; oracles have seeds of their own.
    together : models unlearned in one stack.
    device, workers, progress : as in `whence.retrain`. Unlearning runs in this process.
    """

    def __init__(
        self,
        study: Study,
        models: int = 100,
        *,
        to: str | os.PathLike[str],
        spare: int = 0,
        seed: int = 0,
        together: int = 25,
        device: str | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> None:
        if models < 2 or spare < 0 or together < 1:
            raise InputError(
                f"models={models}, spare={spare} and together={together} must be at least 2, 0 and 1."
            )
        self.study, self.models, self.spare, self.seed = examined(study), models, spare, seed
        self.folder, self.together = Path(to), min(together, models)
        self.device, self.workers, self.progress = device, workers, progress
        self._tuner: Finetuner | None = None

    @property
    def tuner(self) -> Finetuner:
        """What trains the models further, kept from request to request."""
        if self._tuner is None:
            self._tuner = Finetuner(self.study, self.device)
        return self._tuner

    def bases(self) -> Bank:
        """Models trained on everything, with their weights."""
        return self._retrained([], self.models, self.seed, "bases", self.models)

    def oracles(self, forget: Sequence[Any]) -> Bank:
        """Models retrained without `forget` (ids): first those that judge, then the spare ones."""
        request = Request.of(self.study, forget)
        name = f"oracles-{_key(request)}"
        return self._retrained(request.forget.tolist(), self.models + self.spare, self.seed + FRESH, name, 0)

    @property
    def spare_rows(self) -> tuple[int, ...]:
        """Rows of the spare oracles in their bank."""
        return tuple(range(self.models, self.models + self.spare))

    def unlearned(self, method: Unlearn, forget: Sequence[Any], checkpoints: int = 0) -> Bank:
        """The base models after unlearning, row by row: margins, and the weights of the first `checkpoints`.

        Raises
        ------
        InputError : what the request or the method refuses, before anything is trained.
        """
        request = Request.of(self.study, forget)
        method.check(request)
        if checkpoints and not isinstance(method, Edit):
            raise InputError(f"{method.name} changes no weights, so there are none to keep; pass 0.")
        bases = self.bases()
        said = {
            "kind": "unlearning",
            "method": method.describe(),
            "forget": fingerprint(request.forget),
            "bases": {"study": self.study.fingerprint, "seed": self.seed, "together": self.together},
        }
        made = with_trainer(
            with_outputs(self.study, ("margin", "margin_max")),
            lambda study, device: _Unlearner(self, method, request, bases, study),
            said,
        )
        name = f"{method.name.replace(' ', '-')}-{_key(request)}-{fingerprint(said)[:8]}"
        return self._retrained(request.forget.tolist(), self.models, self.seed, name, checkpoints, made)

    def parts(self, method: Unlearn, forget: Sequence[Any]) -> dict[str, Part]:
        """Everything that judges `method` on a request, made where it is not there yet, for `certify`.

        Spare oracles, where there are two or more, are the second set that gives the floor. Models without
        finite outputs are left out; `Bank.errors` of `unlearned` tells how many.
        """
        request = Request.of(self.study, forget)
        method.check(request)
        oracles, judging = self.oracles(forget), range(self.models)
        sides = {
            "unlearned": self._outputs(self.unlearned(method, forget), judging),
            "oracles": self._outputs(oracles, judging),
            "before": self._outputs(self.bases(), judging),
        }
        if self.spare >= 2:
            sides["oracles_again"] = self._outputs(oracles, self.spare_rows)
        return {
            name: Part(
                **{side: Outputs(found.margin[:, at], found.correct[:, at]) for side, found in sides.items()},
                ids=self.study.target_ids[at],
            )
            for name, at in self.points(request).items()
        }

    def points(self, request: Request) -> dict[str, np.ndarray]:
        """Positions among the targets of the forget set, of what is kept, and of the study's own targets."""
        position = {identity: i for i, identity in enumerate(self.study.target_ids.tolist())}
        own = np.array([position[identity] for identity in self.study.train_ids.tolist()])
        return {
            "forget": own[request.forget],
            "retain": own[request.retain],
            "validation": np.setdiff1d(np.arange(len(position)), own),
        }

    def _outputs(self, bank: Bank, rows: Sequence[int]) -> Outputs:
        sample = bank.select(None, "margin")
        chosen = np.isin(sample.rows, list(rows))
        return Outputs(sample.outputs[chosen], bank.select(None, "margin_max").outputs[chosen] > 0)

    def certify(self, method: Unlearn, forget: Sequence[Any], bins: int | None = None) -> Certificate:
        """The certificate of `method` on a request."""
        cost = method.cost(self.study, forget)
        return certify(
            self.parts(method, forget),
            self.study,
            forget,
            method=method.name,
            cost=cost.share,
            attribution_cost=cost.before or None,
            bins=bins,
        )

    def _retrained(
        self,
        gone: list[int],
        count: int,
        seed: int,
        name: str,
        checkpoints: int,
        made: Study | None = None,
    ) -> Bank:
        from whence.retraining import retrain  # the executor stack loads only where something is trained

        return retrain(
            self.study if made is None else made,
            count,
            subsets=Subsets.leaving_out(self.study.n, [gone]),
            seeds=count,
            seed=seed,
            to=self.folder / f"{name}.zarr",
            checkpoints=checkpoints,
            workers=self.workers if made is None else 0,
            device=self.device,
            block=None if made is None else self.together,
            progress=self.progress,
        )


class _Unlearner(Trainer):
    """Takes the base models of the seeds that it is given, and makes them forget."""

    def __init__(
        self, experiment: Experiment, method: Unlearn, request: Request, bases: Bank, study: Study
    ) -> None:
        self.experiment, self.method, self.request = experiment, method, request
        self.bases, self.study = bases, study
        sample = bases.select()
        self.row = dict(zip(sample.seed.tolist(), sample.rows.tolist(), strict=True))

    def choose(self, masks: np.ndarray, seeds: np.ndarray, most: int | None = None) -> dict[str, Any]:
        """Stacks of one size, as the experiment says."""
        return {"driver": "stacked", "stack": self.experiment.together, "seconds_per_model": 0.0}

    def train(self, masks: np.ndarray, seeds: np.ndarray, keep_states: bool = False) -> Iterator[Retrained]:
        """See `Trainer.train`; every mask is that of the request."""
        size, tuner = self.experiment.together, self.experiment.tuner
        labels = torch.as_tensor(self.study.target_labels, device=tuner.device)
        for start in range(0, len(seeds), size):
            begin = perf_counter()
            wanted = [int(seed) for seed in seeds[start : start + size]]
            # a stack of one size, so that no model depends on its company
            filled = [wanted[i % len(wanted)] for i in range(size)]
            state = tuner.load([self.bases.checkpoint(self.row[seed]) for seed in filled])
            kept: list[Any] = [None] * size
            if keep_states and isinstance(self.method, Edit):
                state = self.method.edit(tuner, state, self.request, filled)
                logits, kept = tuner.logits(state), tuner.unload(state)
            else:
                logits = self.method.logits(tuner, state, self.request, filled)
            values = compute(self.study.outputs, logits.float(), labels)
            arrays = {name: value.cpu().numpy() for name, value in values.items()}
            seconds = (perf_counter() - begin) / len(wanted)
            for i in range(len(wanted)):
                yield Retrained({name: array[i] for name, array in arrays.items()}, seconds, kept[i])


def _key(request: Request) -> str:
    return fingerprint(request.study.train_ids[request.forget])[:10]
