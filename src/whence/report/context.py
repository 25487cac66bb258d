"""What the sections of one report share: the study, the bank, the attribution it is about, and the chosen
targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np

from whence.attribution import Attribution
from whence.errors import InputError
from whence.evaluate.alignment import Heldout, heldout, predictions
from whence.report import images
from whence.report.scores import Scoreboard

_MARGINS = ("margin", "margin_max")


@dataclass
class Context:
    """Everything a section may want to look up. All parts are optional; a section shows what there is."""

    study: Any = None
    bank: Any = None
    attribution: Attribution | None = None
    board: Scoreboard | None = None
    wanted: Sequence[Any] | None = None  # ids of the targets to show
    first: Sequence[Any] = ()  # ids that go before others when targets are chosen here
    count: int = 12
    k: int = 8

    @property
    def output(self) -> str:
        return self.attribution.output if self.attribution is not None else "output"

    @cached_property
    def weight(self) -> np.ndarray:
        """(target, train); of a vector output, the row of each target's own class (or the first output)."""
        assert self.attribution is not None
        weight = self.attribution.weight
        if weight.ndim == 2:
            return weight
        labels = self.labels("target")
        chosen = (
            np.zeros(len(weight), int)
            if labels is None
            else np.array([labels[p] for p in self.positions("target")])
        )
        return weight[np.arange(len(weight)), np.minimum(chosen, weight.shape[1] - 1)]

    # Which example is which
    # -----------------------------------------------------------------------------------------

    def _find(self, side: str) -> tuple[int, ...]:
        assert self.attribution is not None
        ids = getattr(self.attribution, f"{side}_ids").tolist()
        if self.study is None:
            return tuple(range(len(ids)))
        known = np.asarray(getattr(self.study, f"{side}_ids")).tolist()
        if known == ids:
            return tuple(range(len(ids)))
        where = {str(name): i for i, name in enumerate(known)}
        missing = [str(name) for name in ids if str(name) not in where]
        if missing:
            raise InputError(
                f"`study` does not know the {side} id {missing[0]!r} of the attribution; pass the study it"
                " was made from."
            )
        return tuple(where[str(name)] for name in ids)

    @cached_property
    def _places(self) -> dict[str, tuple[int, ...]]:
        return {side: self._find(side) for side in ("target", "train")}

    def positions(self, side: str) -> tuple[int, ...]:
        """Place in the study of each row (target) or column (train) of the attribution."""
        return self._places[side]

    def labels(self, side: str) -> np.ndarray | None:
        """Integer labels of the study's examples on one side, or None."""
        found = getattr(self.study, f"{side}_labels", None)
        return None if found is None else np.asarray(found)

    def label_of(self, side: str, index: int) -> str:
        """Class of an example (position in the study) in words; empty where unknown."""
        labels = self.labels(side)
        if labels is None:
            return ""
        value = labels[index]
        classes = getattr(self.study, "classes", None)
        return str(classes[int(value)]) if classes else str(value)

    def name_of(self, side: str, index: int) -> str:
        """Id of an example as words: string ids stand as they are, numbers get the side in front."""
        ids = getattr(self.study, f"{side}_ids", None)
        if ids is None and self.attribution is not None:
            ids = getattr(self.attribution, f"{side}_ids")
        value = index if ids is None or index >= len(ids) else np.asarray(ids)[index]
        return f"{side} {value}" if isinstance(value, int | np.integer) else str(value)

    def identity(self, side: str, index: int) -> str:
        """The id of an example as it stands in the study, without words around it."""
        ids = getattr(self.study, f"{side}_ids", None)
        if ids is None and self.attribution is not None:
            ids = getattr(self.attribution, f"{side}_ids")
        return str(index if ids is None or index >= len(ids) else np.asarray(ids)[index])

    def picture(self, side: str, index: int) -> str | None:
        """`data:` address of an example's image, or None."""
        if not getattr(self.study, "is_image", False):
            return None
        image = self.study.image(side, int(index))
        return None if image is None else images.data_address(image)

    def words(self, side: str, index: int) -> str:
        """The text of an example, where the study's inputs are text."""
        inputs = getattr(self.study, f"{side}_inputs", None)
        if inputs is None or getattr(self.study, "is_image", False):
            return ""
        try:
            value = inputs[index]
        except (IndexError, KeyError, TypeError):
            return ""
        return str(value) if isinstance(value, str) else ""

    # Which targets to show
    # --------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> list[int]:
        """Rows of the attribution shown one by one: the wanted ids, else a round over the classes in their
        order."""
        assert self.attribution is not None
        if self.wanted is not None:
            return self.attribution.target_index(list(self.wanted)).tolist()
        ids = {str(name): row for row, name in enumerate(self.attribution.target_ids.tolist())}
        queues: dict[str, list[int]] = {}
        for row, position in enumerate(self.positions("target")):
            queues.setdefault(self.label_of("target", position), []).append(row)
        rounds = [row for turn in zip_longest(*queues.values()) for row in turn if row is not None]
        checked = [ids[str(name)] for name in self.first if str(name) in ids]
        chosen = list(dict.fromkeys([*checked, *rounds]))[: self.count]
        labels = self.labels("target")
        places = self.positions("target")
        return sorted(chosen, key=lambda row: (int(labels[places[row]]) if labels is not None else 0, row))

    def target_title(self, row: int) -> str:
        """Name and class of a row of the attribution."""
        position = self.positions("target")[row]
        label = self.label_of("target", position)
        return f"{self.name_of('target', position)}{', ' + label if label else ''}"

    # What the bank holds
    # ----------------------------------------------------------------------------------------------

    @cached_property
    def realised(self) -> np.ndarray | None:
        """Outputs (retrainings, rows of the attribution) of the training part of the bank; None without a
        bank."""
        outputs = self._read(lambda: np.asarray(self.bank.select("train", self.output).outputs))
        if outputs is None or outputs.ndim != 2 or self.attribution is None:
            return None
        where = {name: i for i, name in enumerate(np.asarray(self.bank.target_ids).tolist())}
        columns = [where.get(name) for name in self.attribution.target_ids.tolist()]
        return None if None in columns or not len(outputs) else outputs[:, columns]

    @cached_property
    def held_out(self) -> tuple[Heldout, np.ndarray] | None:
        """Held-out retrainings and the predictions for them (masks, target); None without, or for vector
        outputs."""
        scores = self.attribution
        held = None if scores is None else self._read(lambda: heldout(scores, self.bank))
        if held is None or scores is None or held.outputs.ndim != 3:
            return None
        return held, predictions(scores, self.bank, held)

    @cached_property
    def _correlations(self) -> dict[str, float]:
        board = self.board
        if board is None or board.per_target is None or board.target_ids is None:
            return {}
        return {
            str(name): float(value)
            for name, value in zip(board.target_ids.tolist(), board.per_target.tolist())
        }

    def correlation(self, row: int) -> float | None:
        """Held-out rank correlation of one row of the attribution, where the scoreboard has it."""
        assert self.attribution is not None
        return self._correlations.get(str(self.attribution.target_ids[row]))

    def _read(self, read: Any) -> Any:
        """A bank that lacks an output or a part leaves a section out; it does not spoil the report."""
        if self.bank is None or self.attribution is None:
            return None
        try:
            return read()
        except (InputError, KeyError):
            return None

    @property
    def is_margin(self) -> bool:
        return self.output in _MARGINS
