"""Can I trust these numbers? LDS of every method with interval, against the noise ceiling."""

from __future__ import annotations

import numpy as np

from whence.report import numbers
from whence.report.block import Section, facts, figure_block, paragraph
from whence.report.context import Context
from whence.report.figures import lds_bars, lds_per_target
from whence.report.html import Markup, table, tag
from whence.report.scores import MethodScore, Scoreboard, capital
from whence.report.sections.base import section


@section.register
def _(board: Scoreboard, context: Context) -> list[Section]:
    rows = [
        (
            capital(row.name),
            row.lds,
            row.interval[0] if row.interval else None,
            row.interval[1] if row.interval else None,
            _share(row, board),
            _kind(row, board),
        )
        for row in board.ranked
    ]
    numbers_table = table(
        ["Method", "LDS", "95 % low", "95 % high", "Share of ceiling", "Kind"],
        [
            (n, numbers.fixed(v, 3), numbers.fixed(a, 3), numbers.fixed(b, 3), s, kind)
            for n, v, a, b, s, kind in rows
        ],
        "LDS of each method on held-out retrainings",
    )
    body = [
        paragraph(
            "LDS, the linear datamodelling score, asks of each target: does the method put unseen training"
            " subsets into the order that retraining on them gives? It is the mean Spearman correlation"
            " over targets; 0 is chance. ",
            (
                "Retraining is noisy, so even a perfect predictor cannot reach 1: the dashed noise ceiling"
                " is what it could reach."
                if board.ceiling is not None
                else "No noise ceiling is known here; it takes at least two seeds for each held-out mask."
            ),
        ),
        facts(
            [
                ("held-out masks", board.masks and numbers.count(board.masks)),
                ("seeds per mask", board.seeds),
                ("targets", None if board.per_target is None else numbers.count(len(board.per_target))),
                ("fitted on", board.models and numbers.plural(board.models, "retraining")),
                ("keep", None if board.keep is None else f"{board.keep:g}"),
                ("interval", "95 % bootstrap"),
                (
                    "constant predictions, counted as 0",
                    numbers.plural(board.constant, "target") if board.constant else None,
                ),
            ]
        ),
        figure_block(lds_bars(board), alt=f"Bar chart. {describe(board)}", numbers=numbers_table),
        _spread(board),
    ]
    return [
        Section(
            "trust",
            "Trust",
            "Can I trust these numbers?",
            headline(board),
            Markup("".join(part for part in body if part)),
        )
    ]


def headline(board: Scoreboard) -> str:
    """The finding in one line, no stronger than the intervals allow."""
    lead, rival, name = board.lead, board.best_baseline, capital(board.main)
    several = board.subject.endswith("rank")
    rest = f"{_share(lead, board)} of what the noise allows" if board.ceiling and lead.lds > 0 else ""
    if rival is None or rival is lead:
        found = f"{board.subject} unseen retrainings with LDS {numbers.fixed(lead.lds)}"
        return f"{found}, {rest}" if rest else found
    values = f"LDS {numbers.fixed(lead.lds)} against {numbers.fixed(rival.lds)}"
    settled = [ahead(lead, row) for row in board.rows if row.baseline and row is not lead]
    if all(settled):
        found = f"{board.subject} unseen retrainings better than every baseline: {values}"
        return f"{found}, and {rest}" if rest else found
    if ahead(lead, rival) is False:
        return (
            f"{name} {'do' if several else 'does'} not beat the baselines: {values} for {_lower(rival.name)}"
        )
    return f"{name} cannot be told from {_lower(rival.name)}: {values}, a difference within the uncertainty"


def verdict(board: Scoreboard) -> Markup:
    """The opening sentence of a report, in plain words."""
    lead, rival = board.lead, board.best_baseline
    subject = "These datamodels rank" if "datamodel" in lead.name.lower() else board.subject
    parts = [
        Markup(
            f"{tag('span', subject)} unseen retrainings with LDS"
            f" {tag('b', numbers.estimate(lead.lds, lead.interval))}"
        )
    ]
    if board.ceiling is not None:
        means = f" for {board.seeds}-seed means" if board.seeds and board.seeds > 1 else ""
        parts.append(
            Markup(f"the noise ceiling{tag('span', means)} is {tag('b', numbers.fixed(board.ceiling))}")
        )
    if rival is not None and rival is not lead:
        parts.append(
            Markup(
                f"the best baseline, {tag('span', _lower(rival.name))}, reaches"
                f" {tag('b', numbers.fixed(rival.lds))}"
            )
        )
    return Markup("; ".join(parts) + ".")


def describe(board: Scoreboard) -> str:
    """All bars in words."""
    words = "; ".join(f"{row.name} {numbers.estimate(row.lds, row.interval)}" for row in board.ranked)
    if board.ceiling is not None:
        words += f"; noise ceiling {numbers.estimate(board.ceiling, board.ceiling_interval)}"
    return words + "."


def ahead(lead: MethodScore, rival: MethodScore) -> bool | None:
    """True or False where the evidence says which is better (paired interval, else disjoint ones), None
    where not."""
    if rival.lead is not None:
        return True if rival.lead[0] > 0 else False if rival.lead[1] < 0 else None
    if lead.interval is None or rival.interval is None:
        return None
    return (
        True
        if lead.interval[0] > rival.interval[1]
        else False
        if rival.interval[0] > lead.interval[1]
        else None
    )


def _spread(board: Scoreboard) -> Markup | None:
    if board.per_target is None or np.isfinite(board.per_target).sum() < 8:
        return None
    values = board.per_target[np.isfinite(board.per_target)]
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    words = (
        f"Half of the targets have a correlation above {numbers.fixed(middle)}; one in ten lies below"
        f" {numbers.fixed(low)} and one in ten above {numbers.fixed(high)}."
    )
    caption = "The mean hides a spread. A single target's correlation rests on few masks and is noisy itself."
    alt = f"Histogram of the Spearman correlation of {len(values)} targets. {words}"
    return tag("div", tag("h3", words), figure_block(lds_per_target(values), alt=alt, caption=caption))


def _share(row: MethodScore, board: Scoreboard) -> str:
    return "–" if not board.ceiling or board.ceiling <= 0 else numbers.percent(row.lds / board.ceiling)


def _kind(row: MethodScore, board: Scoreboard) -> str:
    return "studied here" if row.name == board.main else "baseline" if row.baseline else "other method"


def _lower(name: str) -> str:
    """A capital that only began a label goes when the name stands inside a sentence: "Pixel similarity",
    not "TRAK"."""
    return name[0].lower() + name[1:] if len(name) > 1 and name[1].islower() else name
