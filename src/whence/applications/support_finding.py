"""What a search for supports found: the Finding, its words, table, figure and examples."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from whence.applications.applied import Applied
from whence.applications.calibration import Calibration
from whence.applications.support_search import Protocol, Settings, TargetSupport
from whence.applications.survival import Curve, kaplan_meier
from whence.errors import InputError
from whence.evaluate.intervals import wilson
from whence.evaluate.removals import columns_in, helpfulness
from whence.evaluate.result import Result
from whence.finding import Chart, Examples, Series, Table

if TYPE_CHECKING:
    from whence.attribution import Attribution
    from whence.study import Study

SHOWN = 24  # examples of a support in a report


@dataclass(frozen=True)
class Certified(Result):
    """How often removing sets of stated sizes flips their targets, by retraining.

    `share` is of the `targets` for which there was a size, with Wilson's 95 % interval; `size` is the mean
    size; `without` counts targets for which no size within the cap was said.
    """

    rule: str
    share: float
    interval: tuple[float, float]
    size: float
    targets: int
    without: int
    flipped: tuple[Any, ...]


@dataclass(frozen=True)
class Support(Applied):
    """Supports of one or several targets.

    Attributes
    ----------
    rows : one `TargetSupport` for each target.
    calibration : fitted to these targets (None with fewer than 5 flips), to be used for others.
    trained : retrainings made for it, controls included.
    curve : share of targets flipped against set size, Kaplan-Meier; None where nothing was retrained.
    """

    rows: tuple[TargetSupport, ...] = ()
    calibration: Calibration | None = None
    trained: int = 0
    curve: Curve | None = None
    attribution: Attribution = field(repr=False, compare=False, kw_only=True)
    settings: Settings = field(repr=False, kw_only=True)

    def verify(self, study: Study, **options: Any) -> Support:
        """Search the same targets by retraining; `options` are those of `support`."""
        named = {key: getattr(self.settings, key) for key in Settings.__dataclass_fields__} | options
        named.setdefault("calibration", self.calibration)
        from whence.applications.support import support  # which makes these findings

        return support(self.attribution, study, targets=[row.target for row in self.rows], **named)

    def certify(
        self, study: Study, inflation: float | None = None, to: str | os.PathLike[str] | None = None
    ) -> Certified:
        """Retrain without the sets whose sizes were predicted, and count the targets that flip.

        Parameters
        ----------
        inflation : None takes the calibrated sizes; a number takes the attribution's own estimates, that many
            times enlarged (1.2 is the fifth of Ilyas et al. 2022).
        to : folder for the retrainings; default a temporary one.
        """
        sizes = {}
        for row in self.rows:
            size = row.calibrated if inflation is None else row.estimate
            grown = None if size is None else math.ceil(size * (inflation or 1.0) - 1e-9)
            if grown is not None and grown <= row.cap:
                sizes[row.target] = grown
        if not sizes:
            raise InputError("no target has a predicted size within its cap, so there is nothing to certify.")
        # Other seeds than the search's: sizes were calibrated on those.
        protocol = Protocol({"": self.attribution}, study, replace(self.settings, to=to))
        if self.settings.action == "relabel":
            protocol.find_runners_up([row.target for row in self.rows])
        protocol.flips.seed += 500_000
        protocol.base = protocol.spread = np.zeros(len(study.target_ids))
        jobs = [(protocol.open(self.attribution, one, None)[0], size) for one, size in sizes.items()]
        name = "calibrated" if inflation is None else f"inflated-{inflation:g}"
        outputs = protocol.flips.outputs(f"certify-{name}", jobs)
        flipped = [one for one, values in zip(sizes, outputs, strict=True) if values.mean() < 0]
        return Certified(
            rule="calibrated" if inflation is None else f"estimate x {inflation:g}",
            share=len(flipped) / len(sizes),
            interval=wilson(len(flipped), len(sizes)),
            size=float(np.mean(list(sizes.values()))),
            targets=len(sizes),
            without=len(self.rows) - len(sizes),
            flipped=tuple(flipped),
        )


def make(
    scores: Attribution,
    rows: tuple[TargetSupport, ...],
    settings: Settings,
    calibration: Calibration | None,
    trained: int,
    study: Study | None,
) -> Support:
    """The finding: its sentence, table, chart and examples."""
    verified, n = trained > 0, scores.shape[-1]
    curve = None
    if verified:
        sizes = [row.tried if row.support is None else row.support for row in rows]
        curve = kaplan_meier(sizes, [row.support is not None for row in rows])
    statement = (
        _one(rows[0], settings, scores, n) if len(rows) == 1 else _many(rows, settings, scores, curve, n)
    )
    check = (
        f"each set in {settings.retrainings} fresh retrainings against {settings.controls} on everything; "
        "every support flipped its target once more with seeds that the search had not seen"
    )
    title = f"Support of {_name(rows[0].target)}" if len(rows) == 1 else f"Support of {len(rows)} targets"
    return Support(
        title=title if settings.action == "remove" else f"Mislabelling {title[0].lower()}{title[1:]}",
        statement=statement,
        table=_table(rows, scores.output),
        chart=_one_chart(rows[0], calibration, scores)
        if len(rows) == 1
        else _curve_chart(curve, settings, rows),
        examples=[_examples(row, scores, study) for row in rows[:3] if row.examples],
        verified=check if verified else None,
        meaning=scores.meaning,
        provenance={
            "method": scores.method,
            "output": scores.output,
            "study": study.fingerprint if study is not None else scores.provenance.get("study"),
            "retrainings": trained,
            "action": settings.action,
            "certainty": settings.certainty,
            "seed": settings.seed,
            **({} if calibration is None else {"calibration": calibration.to_dict()}),
        },
        rows=rows,
        calibration=calibration,
        trained=trained,
        curve=curve,
        attribution=scores,
        settings=settings,
    )


def _one(row: TargetSupport, settings: Settings, scores: Attribution, n: int) -> str:
    name, deed = _name(row.target), _deed(settings)
    if not row.trials:
        size, how = (row.calibrated, "calibrated") if row.calibrated else (row.estimate, "as estimated")
        if size is None:
            return f"No set of up to {row.cap:,} of {n:,} training examples is predicted to flip {name}"
        return f"With {size:,} of {n:,} training examples {deed}, {name} is predicted to flip ({how})"
    if row.support is None:
        return f"{name} does not flip with up to {row.tried:,} of {n:,} training examples {deed}"
    assert row.margin is not None and row.margin_se is not None
    return (
        f"With {row.support:,} of {n:,} training examples {deed}, the mean {scores.output} of {name} goes "
        f"from {row.base:+.2f} to {row.margin:+.2f} (standard error {row.margin_se:.2f})"
    )


def _many(
    rows: tuple[TargetSupport, ...], settings: Settings, scores: Attribution, curve: Curve | None, n: int
) -> str:
    deed = _deed(settings)
    if curve is None:
        known = [row.calibrated or row.estimate for row in rows]
        sizes = sorted(size for size in known if size is not None)
        if not sizes:
            return f"None of {len(rows)} targets is predicted to flip within the cap"
        return (
            f"{len(sizes)} of {len(rows)} targets are predicted to flip within the cap, the median of these "
            f"with {sizes[len(sizes) // 2]:,} of {n:,} training examples {deed}"
        )
    half = curve.quantile(0.5)
    middle = f"more than {curve.largest:,.0f}" if half is None else f"{half:,.0f}"
    return (
        f"Half of {len(rows)} targets flip with {middle} or fewer of {n:,} training examples {deed}; "
        f"{curve.censored} do not flip up to their cap"
    )


def _deed(settings: Settings) -> str:
    return "left out" if settings.action == "remove" else "relabelled"


def _table(rows: tuple[TargetSupport, ...], output: str) -> Table:
    cells = [
        (
            _name(row.target),
            row.base,
            row.estimate,
            row.calibrated,
            row.words if row.trials else None,
            row.margin,
        )
        for row in rows
    ]
    columns = ("target", f"mean {output}", "estimate", "calibrated", "support", f"mean {output} without it")
    return Table(columns, cells)


def _one_chart(row: TargetSupport, calibration: Calibration | None, scores: Attribution) -> Chart | None:
    index = int(scores.target_index(row.target)[0])
    weights = np.sort(helpfulness(scores, index).astype(np.float64))[::-1]
    drops = np.r_[0.0, np.cumsum(weights[: row.cap])]
    series = []
    if row.trials:
        size, mean, error = (np.array(part) for part in zip(*row.trials, strict=True))
        series.append(
            Series(
                "retrained", [0, *size.tolist()], [row.base, *mean.tolist()],
                low=[row.base, *(mean - 1.96 * error).tolist()],
                high=[row.base, *(mean + 1.96 * error).tolist()],
            )
        )  # fmt: skip
    slope = calibration.slope if calibration is not None else 1.0 if scores.calibrated else None
    if slope is not None:
        shown = np.unique(np.linspace(0, row.cap, min(row.cap + 1, 60)).round().astype(int))
        name = "predicted, calibrated" if calibration is not None else "predicted"
        series.append(Series(name, shown.tolist(), (row.base - slope * drops[shown]).tolist()))
    x_title, y_title = "training examples removed", f"mean {scores.output} of the target"
    return Chart("lines", series, x_title, y_title) if series else None


def _curve_chart(curve: Curve | None, settings: Settings, rows: tuple[TargetSupport, ...]) -> Chart | None:
    x_title = f"training examples {_deed(settings)}"
    if curve is not None:
        return Chart(
            "steps", [curve_series("flipped", curve)], x_title, "share of targets flipped", log_x=True
        )
    sizes = [size for row in rows if (size := row.calibrated or row.estimate) is not None]
    return Chart("histogram", [Series("predicted support", sizes)], x_title, "targets") if sizes else None


def curve_series(name: str, curve: Curve) -> Series:
    """A Kaplan-Meier curve as a series that goes on to the largest size tried."""
    x, y = [1.0, *curve.size], [0.0, *curve.flipped]
    if curve.largest > x[-1]:
        x, y = [*x, curve.largest], [*y, y[-1]]
    return Series(name, x, y)


def _examples(row: TargetSupport, scores: Attribution, study: Study | None) -> Examples:
    columns = scores.train_index(row.examples[:SHOWN])
    weights = scores.weight[int(scores.target_index(row.target)[0]), columns]
    first = f", the first {SHOWN}" if len(row.examples) > SHOWN else ""
    return Examples(
        f"Support of {_name(row.target)}: {len(row.examples):,} examples{first}",
        (columns if study is None else columns_in(scores, study)[columns]).tolist(),
        notes=[f"{weight:+.3g}" for weight in weights],
    )


def _name(target: Any) -> str:
    return f"target {target}" if isinstance(target, int) else str(target)
