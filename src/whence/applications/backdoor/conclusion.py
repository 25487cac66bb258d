"""From groups and their p-values to a Backdoor finding: its sentence, table, figure and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.backdoor.candidates import Candidate
from whence.applications.backdoor.finding import Backdoor, Group
from whence.applications.backdoor.null import Reproduced, critical
from whence.evaluate.removals import columns_in
from whence.finding import Chart, Examples, Series, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

SHOWN = 40  # members in a strip of pictures
MEANING = (
    "A group that stands out is a strong coherent group: its members raise each other's outputs, and hardly "
    "any others'. A backdoor does that, and so do near-duplicates, a watermark or a rare kind; which it is, "
    "the members have to show."
)


def concluded(
    attribution: Attribution,
    study: Study | None,
    found: Sequence[Candidate],
    p: np.ndarray,
    checks: Mapping[int, Reproduced | None],
    level: float,
    provenance: Mapping[str, Any],
) -> Backdoor:
    """The finding.

    found : candidates; p : ``(m,)`` of the null of natural groups. checks : of some candidates, whether they
    were found in both halves of a bank (None: there was none to find); empty without a bank.
    """
    p = p.copy()
    for i, check in checks.items():
        p[i] = max(p[i], 1.0 if check is None else check.p_value)
    order = sorted(range(len(found)), key=lambda i: -found[i].strength)
    out = [i for i in order if p[i] <= level]
    groups = tuple(_group(found[i], attribution, float(p[i]), checks.get(i)) for i in order)
    members = np.concatenate([found[i].members for i in out]) if out else np.zeros(0, np.int64)
    natural = [one for i, one in enumerate(found) if i not in out]
    detectable = _detectable(natural, level, _retained(attribution))
    return Backdoor(
        title="Backdoor, or another strong group",
        statement=_statement(groups, len(out), detectable, attribution),
        table=_table(groups),
        chart=_chart(groups, natural, level),
        examples=_examples(groups[: max(len(out), 1)], len(out), attribution, study),
        meaning=f"{MEANING} Weights: {attribution.meaning}",
        provenance=provenance,
        detected=bool(out),
        p_value=float(min(p[i] for i in out) if out else p[order[0]]),
        level=level,
        groups=groups,
        member_ids=tuple(attribution.train_ids[members].tolist()),
        detectable=detectable,
        members=members,
        score=_score([found[i] for i in order], len(attribution.train_ids)),
        attribution=attribution,
    )


def _group(one: Candidate, attribution: Attribution, p: float, check: Reproduced | None) -> Group:
    return Group(
        label=one.label,
        size=one.size,
        members=tuple(attribution.train_ids[one.members].tolist()),
        effect=one.effect,
        support=one.support,
        ratio=one.ratio,
        separation=one.separation,
        evidence=one.evidence,
        strength=one.strength,
        p_value=p,
        stability=one.stability,
        reproduced=check,
    )


def _score(found: Sequence[Candidate], n: int) -> np.ndarray:
    """(n,) how far each example belongs to the strongest candidate of its class, times that one's strength;
    `found` has the strongest first."""
    score, done = np.zeros(n), set()
    for one in found:
        if one.label not in done:
            members = one.tie[np.isin(one.pool, one.members)]
            score[one.pool] = one.strength * one.tie / members.mean()
            done.add(one.label)
    return score


def _retained(attribution: Attribution) -> np.ndarray:
    """(n,) share of a weight that is left in each training example's row: ridge takes the rest."""
    freedom = attribution.diagnostics.get("degrees_of_freedom")
    if freedom is None:
        return np.ones(len(attribution.train_ids))
    return np.asarray(freedom)[attribution.target_index(attribution.train_ids)] / len(attribution.train_ids)


def _detectable(natural: Sequence[Candidate], level: float, retained: np.ndarray) -> dict[int, float]:
    """Size -> D that would have stood out beside these natural groups."""
    needed = critical([one.strength for one in natural], level)
    if not np.isfinite(needed):
        return {}
    found = {}
    for size in sorted({size for one in natural for size in one.background}):
        needs = [
            one.support_needed(needed, size) / retained[one.pool].mean()
            for one in natural
            if size in one.background
        ]
        found[size] = float(np.median(needs))
    return found


def _statement(
    groups: Sequence[Group], out: int, detectable: Mapping[int, float], attribution: Attribution
) -> str:
    first = groups[0]
    if out:
        rest = groups[out].strength
        which = (
            f"A strong coherent group was found: {_name(first)}"
            if out == 1
            else f"{out} strong coherent groups were found, the strongest {_name(first)}"
        )
        return (
            f"{which}; each other member raises a member's {attribution.output} by {first.effect:.3g}, all "
            f"together by {first.support:.3g}; it is {first.strength / rest:.1f} times as strong as the "
            f"strongest group that does not stand out (p = {first.p_value:.2g})"
        )
    words = (
        f"Nothing found: the strongest group, {_name(first)}, is no stronger than groups of these data are "
        f"(p = {first.p_value:.2g})"
    )
    if detectable:
        size = sorted(detectable)[len(detectable) // 2]
        words += (
            f"; {size} examples of one class that together raise each other's {attribution.output} by "
            f"{detectable[size]:.3g} or more would have been found"
        )
    return words


def _name(group: Group) -> str:
    return f"{group.size} training examples" + ("" if group.label is None else f" of class {group.label}")


def _table(groups: Sequence[Group]) -> Table:
    columns = (
        "class", "examples", "of each", "of all", "d sqrt(p) / sigma", "separation", "evidence", "strength",
        "p", "in the other half",
    )  # fmt: skip
    rows = [
        (
            "all" if one.label is None else str(one.label),
            one.size,
            one.effect,
            one.support,
            one.ratio,
            one.separation,
            one.evidence,
            one.strength,
            one.p_value,
            None if one.reproduced is None else one.reproduced.effect,
        )
        for one in groups
    ]
    return Table(columns, rows)


def _chart(groups: Sequence[Group], natural: Sequence[Candidate], level: float) -> Chart:
    names = [f"{number + 1}: {_name(one)}" for number, one in enumerate(groups)]
    series = [Series("strength", names, [one.strength for one in groups])]
    needed = critical([one.strength for one in natural], level)
    if np.isfinite(needed):
        series.append(Series(f"needed for p = {level:g}", names, [needed] * len(names)))
    return Chart("bars", series, "group", "strength")


def _examples(
    groups: Sequence[Group], out: int, attribution: Attribution, study: Study | None
) -> list[Examples]:
    place = np.arange(len(attribution.train_ids)) if study is None else columns_in(attribution, study)
    strips = []
    for number, one in enumerate(groups):
        at = place[attribution.train_index(list(one.members[:SHOWN]))]
        what = "Strong coherent group" if number < out else "Strongest group, not out of the ordinary"
        strips.append(
            Examples(f"{what}: {_name(one)}, those with the strongest ties first", at.tolist(), "train")
        )
    return strips
