"""Several rankers on one protocol: which of them flips targets by the smallest sets, and at what cost.

The same targets, the same controls, the same caps and the same number of retrainings for all, so that the
curves differ by the rankings alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from whence.applications.applied import Applied
from whence.applications.support_finding import Support, curve_series, make
from whence.applications.support_search import Action, Protocol, Settings, check_targets
from whence.applications.survival import LogRank, log_rank
from whence.errors import InputError
from whence.finding import Chart, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study


@dataclass(frozen=True)
class SupportComparison(Applied):
    """Supports of the same targets under several rankers.

    Attributes
    ----------
    supports : name -> `Support`.
    reference : the ranker that the others are tested against.
    tests : name -> log-rank test of that ranker against the reference, stratified by target.
    trained : retrainings made, controls included.
    """

    supports: dict[str, Support] = field(default_factory=dict)
    reference: str = ""
    tests: dict[str, LogRank] = field(default_factory=dict)
    trained: int = 0

    def verify(self, study: Study, **options: Any) -> SupportComparison:
        """The whole comparison again, with other training seeds; `options` are those of `compare_support`."""
        first = next(iter(self.supports.values()))
        named = {key: getattr(first.settings, key) for key in Settings.__dataclass_fields__}
        named |= {"seed": first.settings.seed + 1, "to": None, "reference": self.reference} | options
        named.setdefault("targets", [row.target for row in first.rows])
        scores = {name: found.attribution for name, found in self.supports.items()}
        return compare_support(scores, study, **named)


def compare_support(
    attributions: Mapping[str, Attribution],
    study: Study,
    *,
    targets: int | Sequence[Any] | None = 30,
    reference: str | None = None,
    cost: Mapping[str, float] | None = None,
    action: Action = "remove",
    limit: int | None = None,
    certainty: float = 0.95,
    retrainings: int = 5,
    controls: int = 40,
    steps: int = 7,
    seed: int = 0,
    to: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    progress: bool = False,
) -> SupportComparison:
    """Counterfactual support under several rankers: share of targets flipped against set size.

    Parameters
    ----------
    attributions : name -> Attribution of one output of this study.
    reference : name of the ranker that the others are tested against; default the one called "random", else
        the last.
    cost : name -> what the attribution cost, in trainings of one model, for the table.
    targets, action, ... : as in `support`. The retrainings are at most about
        ``rankers * targets * retrainings * (steps + 2) + controls``.

    Raises
    ------
    InputError : as `support`; fewer than two attributions; an unknown name in `reference` or `cost`.
    """
    if len(attributions) < 2:
        raise InputError(f"attributions holds {len(attributions)}; a comparison needs two or more.")
    names = list(attributions)
    reference = reference or ("random" if "random" in names else names[-1])
    unknown = [name for name in (reference, *(cost or {})) if name not in attributions]
    if unknown:
        raise InputError(f"{unknown[0]!r} is not among the attributions, which are {', '.join(names)}.")
    settings = Settings(
        action, limit, certainty, retrainings, controls, steps, seed, to, workers, progress
    )  # fmt: skip
    protocol = Protocol(attributions, study, settings)
    for name, scores in attributions.items():
        missing = set(next(iter(attributions.values())).target_ids.tolist()) - set(scores.target_ids.tolist())
        if missing:
            raise InputError(f"{name!r} lacks target {min(map(str, missing))}, which the first one explains.")
    if targets is not None:
        check_targets(next(iter(attributions.values())), targets)
    protocol.measure_controls()
    ids = protocol.choose(targets)
    if action == "relabel":
        protocol.find_runners_up(ids)
    opened = {
        name: [protocol.open(scores, one, None) for one in ids] for name, scores in attributions.items()
    }
    protocol.flips.search([one for found in opened.values() for one, _ in found])
    supports = {}
    for name, scores in attributions.items():
        rows, calibration = protocol.rows(scores, ids, opened[name], None)
        trained = protocol.flips.retrainings * sum(len(one.trials) for one, _ in opened[name])
        supports[name] = make(scores, rows, settings, calibration, trained, study)
    return _finding(supports, reference, dict(cost or {}), settings, protocol)


def events(found: Support) -> tuple[list[int], list[bool]]:
    """Sizes (t,) and whether each is a support rather than the end of a search, for `log_rank`."""
    return (
        [row.tried if row.support is None else row.support for row in found.rows],
        [row.support is not None for row in found.rows],
    )


def _finding(
    supports: dict[str, Support],
    reference: str,
    cost: dict[str, float],
    settings: Settings,
    protocol: Protocol,
) -> SupportComparison:
    tests = {
        name: log_rank(events(found), events(supports[reference]), paired=True)
        for name, found in supports.items()
        if name != reference
    }
    ranked = sorted(supports, key=lambda name: _middle(supports[name]))
    best, n = ranked[0], protocol.study.n
    rows = [_row(name, supports[name], tests.get(name), cost.get(name)) for name in ranked]
    targets = len(supports[best].rows)
    deed = "leaving out" if settings.action == "remove" else "relabelling"
    half = supports[best].curve.quantile(0.5)  # type: ignore[union-attr]
    found = f"{half:,.0f}" if half is not None else f"more than {settings.cap(n):,}"
    return SupportComparison(
        title="Support by ranker" if settings.action == "remove" else "Mislabelling support by ranker",
        statement=(
            f"Half of {targets} targets flip by {deed} {found} or fewer of {n:,} training examples that "
            f"{best} names first"
        ),
        table=Table(
            ("ranker", "median", "flipped", "of", "at half the cap", "log-rank p", "cost (trainings)"), rows
        ),
        chart=Chart(
            "steps",
            [curve_series(name, supports[name].curve) for name in ranked],  # type: ignore[arg-type]
            "training examples " + ("left out" if settings.action == "remove" else "relabelled"),
            "share of targets flipped",
            log_x=True,
        ),
        verified=(
            f"each set in {settings.retrainings} fresh retrainings against {settings.controls} on "
            f"everything, {protocol.flips.trained:,} in all; every support flipped its target once more with "
            "seeds that the search had not seen"
        ),
        meaning=(
            "Kaplan-Meier curves: a target that no set up to the cap flips counts as larger than the cap. p "
            f"is of the log-rank test against {reference}, stratified by target."
        ),
        provenance={
            "study": protocol.study.fingerprint,
            "action": settings.action,
            "seed": settings.seed,
            "cap": settings.cap(n),
            "methods": {name: found.attribution.method for name, found in supports.items()},
        },
        supports=supports,
        reference=reference,
        tests=tests,
        trained=protocol.flips.trained,
    )


def _middle(found: Support) -> tuple[float, float]:
    """Sorts by median size, then by the share flipped (a median may lie beyond the cap)."""
    assert found.curve is not None
    half = found.curve.quantile(0.5)
    return (float("inf") if half is None else half, -found.curve.at(found.curve.largest))


def _row(name: str, found: Support, test: LogRank | None, cost: float | None) -> tuple[Any, ...]:
    assert found.curve is not None
    half, flipped = found.curve.quantile(0.5), sum(row.support is not None for row in found.rows)
    middle = f"> {found.curve.largest:.0f}" if half is None else half
    shown = None if test is None else test.p if test.ahead else f"{test.p:.3g} (behind)"
    at_half = found.curve.at(max(row.cap for row in found.rows) / 2)
    return (name, middle, flipped, len(found.rows), at_half, shown, cost)
