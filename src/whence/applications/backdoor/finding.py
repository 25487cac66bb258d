"""What a search for planted groups found, and what happens when the members are removed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.backdoor.null import Reproduced
from whence.applications.backdoor.removal import Removal, describe, remove
from whence.errors import InputError
from whence.evaluate.removals import check_retrainings
from whence.evaluate.result import Result

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study


@dataclass(frozen=True)
class Group(Result):
    """A coherent group of training examples of one class.

    Attributes
    ----------
    label : its class, None where all were searched together. members : ids, strongest tie first.
    effect : d, how much higher the members' weights on each other are than those between them and the rest of
        the class, in units of the output per example.
    support : (size - 1) d, what all the others do for a member.
    ratio : d sqrt(size) / sigma, sigma the spread of single weights; searches find a block from 4 or 5 on.
    separation : gap between the ties of members and of the rest of the class, in spreads of the latter; in
    pure
        noise the luckiest set has 3 to 4.
    evidence : size separation^2 / 2, the log-likelihood that the group explains, in nats.
    strength : evidence times support, by which groups are ordered and compared.
    p_value : of a natural group this far above the others of these data
    (`whence.applications.backdoor.null`).
    stability : size -> mean share of the best set of that size that a search from elsewhere ends with, too.
    reproduced : with a bank, the group looked for in one half of the retrainings and scored in the other.
    """

    label: Any
    size: int
    members: tuple[Any, ...]
    effect: float
    support: float
    ratio: float
    separation: float
    evidence: float
    strength: float
    p_value: float
    stability: dict[int, float]
    reproduced: Reproduced | None = None


@dataclass(frozen=True)
class Backdoor(Applied):
    """Coherent groups of training examples, and whether one is too strong to be one of many.

    A group that is found is a *strong coherent group*: training on its members raises their outputs, and
    hardly any others'. A planted trigger does that; so do near-duplicates, a watermark, a rare kind.

    Attributes
    ----------
    detected : whether a group stands out at `level`. p_value : of the strongest group (with a bank, the
    larger
        of its two).
    groups : all groups found, strongest first; those that stand out have `p_value` at most `level`.
    members : ``(g,)`` positions in the attribution's training examples of the groups that stand out,
    strongest
        first; empty where none does. member_ids : their ids.
    score : ``(n,)`` how far an example belongs to the strongest group of its class (its tie, the members'
    mean
        being 1) times the strength of that group: a ranking of all examples, also where nothing stands out.
    detectable : size -> D: a group of that size whose members together raise each other's output by so much
        would have been found, however it is mixed with the rest; what a negative answer rules out. D is the
        effect itself, of which a ridge datamodel's weights hold a part.
    removal : what removing the members did, after `verify`.
    """

    detected: bool = False
    p_value: float = 1.0
    level: float = 0.05
    groups: tuple[Group, ...] = ()
    member_ids: tuple[Any, ...] = ()
    detectable: dict[int, float] = field(default_factory=dict)
    removal: Removal | None = None
    members: np.ndarray = field(repr=False, compare=False, kw_only=True)
    score: np.ndarray = field(repr=False, compare=False, kw_only=True)
    attribution: Attribution = field(repr=False, compare=False, kw_only=True)

    def verify(
        self,
        study: Study,
        *,
        triggered: Study | None = None,
        group: int | None = None,
        retrainings: int = 10,
        seed: int = 0,
        to: str | os.PathLike[str] | None = None,
        workers: int | None = None,
        progress: bool = False,
    ) -> Backdoor:
        """Remove the members, and as many random examples of the same classes, and retrain.

        Nobody who looks for a backdoor has the trigger. What can be seen without it: whether the members'
        outputs hang on each other (what they lose when all are out, beside what the random ones lose when
        those are out), and that the other targets lose nothing. With `triggered`, how often the attack
        succeeds before and after.

        Parameters
        ----------
        study : of the same training set; the one of the attribution, whose targets are the training examples,
            or one with other targets (a test set).
        triggered : the same training set with triggered inputs as targets, under the label that the attack
            wants.
        group : number in `groups` of the one to remove; default all that stand out.
        retrainings : fresh seeds for each training set, at least 2; costs three times as many, and twice as
            many with `triggered`.
        seed, workers, progress : as in `whence.retrain`. to : folder that keeps the retrainings.

        Raises
        ------
        InputError : no group stands out and none was named; another training set.
        """
        check_retrainings(retrainings)
        if group is None and not self.detected:
            raise InputError(
                "no group stands out, so there is nothing to remove; name one of `groups` to remove it all "
                "the same."
            )
        if group is not None and not 0 <= group < len(self.groups):
            raise InputError(f"group is {group}, but there are {len(self.groups)} of them, from 0.")
        ids = self.member_ids if group is None else self.groups[group].members
        folder = None if to is None else Path(to)
        found = remove(self.attribution, study, ids, triggered, retrainings, seed, folder, workers, progress)
        return replace(self, verified=describe(found, self.attribution.output), removal=found)
