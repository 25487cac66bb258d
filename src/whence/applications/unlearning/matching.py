"""Matching: a short fine-tuning towards logits that a retrained model would have.

Georgiev, Rinberg, Park, Garg, Ilyas, Madry, Neel 2024, "Attribute-to-Delete: Machine Unlearning via Datamodel
Matching" (arXiv 2410.23232). Gradient ascent has no point at which to stop, and points are forgotten at
different speeds; here each point has a target of its own.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from whence.applications.unlearning.base import Cost, Edit, costs
from whence.applications.unlearning.effects import check_logits, check_staying, removal
from whence.applications.unlearning.objectives import CentredSquares, centred
from whence.applications.unlearning.request import Request, examined
from whence.attribution import Attribution
from whence.bank import Bank
from whence.errors import InputError
from whence.provenance import fingerprint
from whence.study.recipe import Adam, Stairs

if TYPE_CHECKING:
    from whence.study import Study
    from whence.training.finetune import Finetuner
    from whence.training.step import State


@dataclass(frozen=True, kw_only=True)
class Matching(Edit):
    """Squared distance of centred logits from target logits, by Adam, on the forget set (`forgetting` times)
    and on examples to keep, drawn anew for each model.

    Parameters
    ----------
    lr : of the first epoch; each further epoch has `decay` times the rate before.
    epochs, batch_size : of the further training.
    forgetting : copies of each example of the forget set.
    keeping : examples to keep, in sizes of the forget set.
    """

    lr: float = 1e-3
    epochs: int = 5
    batch_size: int = 512
    forgetting: int = 1
    keeping: int = 3
    decay: float = 0.95

    @abc.abstractmethod
    def targets(
        self, tuner: Finetuner, state: State, request: Request, seeds: list[int], points: torch.Tensor
    ) -> torch.Tensor:
        """Centred logits ``(models, k, classes)`` to reach at training examples `points` ``(models, k)``."""

    def edit(self, tuner: Finetuner, state: State, request: Request, seeds: list[int]) -> State:
        """See `Edit.edit`."""
        points = request.drawn(seeds, self.forgetting, self.keeping * len(request.forget))
        return tuner.teach(
            state,
            points,
            self.targets(tuner, state, request, seeds, points).to(tuner.dtype),
            CentredSquares(),
            seeds,
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=Adam(self.lr),
            schedule=Stairs(self.decay, self.epochs),
        )

    @classmethod
    def grid(cls, **given: Any) -> tuple[Matching, ...]:
        """Learning rate 5e-4, 1e-3 or 3e-3, batches of 16; 8 epochs of 1 copy and keeping 5, 4 of 3 and
        10, or 1 of 10 and 40: about 50 passes over the forget set each, with more and more of the others."""
        budgets = ((8, 1, 5), (4, 3, 10), (1, 10, 40))
        return tuple(
            cls(lr=lr, epochs=epochs, batch_size=16, forgetting=forgetting, keeping=keeping, **given)
            for epochs, forgetting, keeping in budgets
            for lr in (5e-4, 1e-3, 3e-3)
        )

    def _points(self, study: Study, forget: Sequence[Any]) -> tuple[int, int]:
        """Examples of an epoch, and how many of them differ."""
        count = len(forget)
        kept = min(self.keeping * count, study.n - count)
        return self.forgetting * count + kept, count + kept


@dataclass(frozen=True, kw_only=True)
class OracleMatching(Matching):
    """Targets are the mean logits of models truly retrained without the forget set: what matching could do
    with a perfect attribution. It needs what it is to save.

    Parameters
    ----------
    oracles : a bank of `examined(study)` retrained without the forget set and nothing else, with its logits.
    each : oracles whose mean is one model's target, drawn for it.
    rows : rows of the bank to draw from; default all. Keep those that judge the result out.
    """

    oracles: Bank = field(repr=False, compare=False)
    each: int = 1
    rows: tuple[int, ...] | None = field(default=None, repr=False)
    name: ClassVar[str] = "oracle matching"

    def check(self, request: Request) -> None:
        """See `Unlearn.check`."""
        bank = self.oracles
        if bank.study_fingerprint not in (request.study.fingerprint, examined(request.study).fingerprint):
            raise InputError(
                f"the bank of oracles at {str(bank.path)!r} is of another study; retrain "
                "whence.applications.unlearning.examined(study) without the forget set."
            )
        if "logits" not in bank.outputs:
            raise InputError(
                f"the bank of oracles at {str(bank.path)!r} records {', '.join(bank.outputs)}, but matching "
                "needs the logits of every class; retrain whence.applications.unlearning.examined(study)."
            )
        masks = bank.masks(rows=None if self.rows is None else list(self.rows))
        if len(masks) < self.each or (masks != request.mask).any():
            raise InputError(
                f"the bank of oracles at {str(bank.path)!r} must have {self.each} or more retrainings "
                f"without exactly the {len(request.forget)} examples to forget, received {len(masks)} rows "
                f"of which {int((masks != request.mask).any(1).sum())} leave out others."
            )

    def targets(
        self, tuner: Finetuner, state: State, request: Request, seeds: list[int], points: torch.Tensor
    ) -> torch.Tensor:
        """See `Matching.targets`."""
        place = {identity: i for i, identity in enumerate(self.oracles.target_ids.tolist())}
        at = np.array([place[identity] for identity in request.study.train_ids.tolist()])
        used, where = np.unique(at[points.numpy()], return_inverse=True)
        rows = None if self.rows is None else list(self.rows)
        found = torch.as_tensor(self.oracles.outputs_of("logits", rows=rows, targets=used))
        drawn = [request.rng(seed, 3).choice(len(found), self.each, replace=False) for seed in seeds]
        where = where.reshape(points.shape)
        answers = [found[torch.as_tensor(mine)].mean(0)[w] for mine, w in zip(drawn, where, strict=True)]
        return centred(torch.stack(answers))

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        return costs(study, forget, self.epochs * self._points(study, forget)[0], before=float(self.each))

    def describe(self) -> dict[str, Any]:
        """See `Unlearn.describe`; the oracles as their bank's study and masks."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "oracles"}
        rows = None if self.rows is None else list(self.rows)
        return {"name": self.name, **plain, "rows": rows, "oracles": self.oracles.plan.spec()}


@dataclass(frozen=True, kw_only=True)
class DatamodelMatching(Matching):
    """Targets are the model's own logits plus the change that an attribution predicts for leaving the forget
    set out: a simulated oracle.

    Parameters
    ----------
    attribution : of the logits, calibrated, with all training examples among its targets; see `examined`,
        `fit_scale` and `two_class_logits`.
    staying : share of the predicted change that is asked for at examples that stay. A datamodel is of
        retrainings in which an example is itself left out half of the time; one that stays, and is learnt by
        heart, moves less. 0 asks the model to stay as it is there.
    """

    attribution: Attribution = field(repr=False, compare=False)
    staying: float = 1.0
    name: ClassVar[str] = "datamodel matching"

    def check(self, request: Request) -> None:
        """See `Unlearn.check`."""
        check_staying(self.staying)
        check_logits(self.attribution, request.study)

    def targets(
        self, tuner: Finetuner, state: State, request: Request, seeds: list[int], points: torch.Tensor
    ) -> torch.Tensor:
        """See `Matching.targets`."""
        study = request.study
        change = torch.as_tensor(removal(self.attribution, request, study.train_ids, self.staying))
        return centred(tuner.logits(state, points)) + change[points].to(tuner.device)

    def cost(self, study: Study, forget: Sequence[Any]) -> Cost:
        """See `Unlearn.cost`."""
        points, different = self._points(study, forget)
        return costs(study, forget, self.epochs * points, different, attribution_cost(self.attribution))

    def describe(self) -> dict[str, Any]:
        """See `Unlearn.describe`; the attribution as a fingerprint of its weights."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "attribution"}
        return {"name": self.name, **plain, "attribution": fingerprint(self.attribution.weight)}


def attribution_cost(attribution: Attribution) -> float | None:
    """Retrainings on the whole training set that cost as much as those that an attribution was fitted to;
    None where it does not say."""
    told = attribution.provenance
    rows = told.get("train_rows", told.get("models"))
    if rows is None or attribution.keep is None:
        return None
    return (rows + told.get("validation_rows", 0)) * attribution.keep
