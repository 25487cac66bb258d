"""What `python -m benchmarks harmonic` and `keep` measured, for docs/how-to/how-linear.md."""

import re


def replaced(text, name, body):
    """The page with `body` between the two marks of a figure."""
    pattern = rf"(?s)(<!-- figure: {name} -->).*?(<!-- end of figure -->)"
    return re.sub(pattern, lambda match: f"{match[1]}\n\n{body}\n\n{match[2]}", text)


def repeat(name, minutes):
    """How to measure it again, and how long that took on two cores which other work used, too."""
    return (
        f"Repeat it with `python -m benchmarks {name}` (about {minutes} minutes on two cores that had other "
        "work as well); `make docs` writes it here."
    )


def missed(result):
    """The claims of a result that do not hold, as lines of a page."""
    found = [claim for claim in result["claims"] if not claim["holds"]]
    if not found:
        return []
    return [
        "What was promised and missed:",
        "",
        *(f"- {claim['claim']}: {claim['value']:.2f}, wanted {claim['mark']}" for claim in found),
        "",
    ]


def curves(result):
    """Rows for the drawing of learning curves: R2 of ridge on each small study, and its ceiling."""
    points = [row for row in result["rows"] if row.get("method") == "ridge"]
    studies = list(dict.fromkeys(row["study"] for row in points))[:2]
    rows = []
    for study in studies:
        mine = [row for row in points if row["study"] == study]
        for row in mine:
            rows.append({"method": study, "models": row["models"], "lds": row["r2"]})
            rows[-1] |= {"low": row["low"], "high": row["high"]}
        rows.append({"method": f"{study}: ceiling", "models": 0, "lds": mine[-1]["r2_ceiling"]})
    return rows


def split_page(text, result):
    """The splits, the ends of the curves and the spread of the designs in the place of whatever stands
    there."""
    points = [row for row in result["rows"] if row.get("method") == "ridge"]
    parts = {(row["split"], row["part"]): row for row in result["rows"] if "split" in row}
    words = [
        "![R2 of ridge datamodels against the number of models, with the ceiling of linear datamodels]"
        "(../images/harmonic.svg)",
        "",
        "R2 on held-out retrainings of ridge datamodels fitted to ever more retrainings; broken, the ceiling "
        "that the split "
        "states without fitting any. Bands and ranges are 95 % intervals.",
        "",
        "| | linear | non-linear | seed | best R2 | R2 reached | forecast | models |",
        "|---|---|---|---|---:|---|---:|---:|",
    ]
    for study in dict.fromkeys(name for name, _ in parts):
        last = [row for row in points if row["study"] == study][-1]
        cells = [_range(parts[study, part]) for part in ("linear", "non-linear", "seed")]
        words.append(
            f"| {study} | {' | '.join(cells)} | {last['r2_ceiling']:.3f} | {last['r2']:.3f} "
            f"({last['low']:.3f} to "
            f"{last['high']:.3f}) | {last['forecast_r2']:.3f} | {last['models']:,} |"
        )
    simulated = [row for row in result["rows"] if "simulated" in row]
    most = max(row["trainings"] for row in simulated)
    words += [
        "",
        f"The estimators on a simulated learner whose linear share is {simulated[0]['true']:g} "
        f"(n = {result['settings']['simulated']['n']:,}, one target, {most:,} trainings):",
        "",
        "| | mean | spread |",
        "|---|---:|---:|",
    ]
    chosen = [row for row in simulated if row["trainings"] == most]
    words += [f"| {row['simulated']} | {row['mean']:.2f} | {row['spread']:.2f} |" for row in chosen]
    words += ["", repeat("harmonic", 85)]
    return replaced(text, "harmonic", "\n".join(words))


def keep_page(text, result):
    """LDS by kept fraction, a table for each study."""
    words = []
    for study in dict.fromkeys(row["study"] for row in result["rows"] if "judged_at" in row):
        cells = [row for row in result["rows"] if row["study"] == study and "judged_at" in row]
        own = [row for row in result["rows"] if "keep" in row and row["study"].startswith(f"{study},")]
        about = {row["keep"]: row for row in own}
        judges = sorted({row["judged_at"] for row in cells})
        name = next(iter(about.values()))["study"]
        words += [
            f"{name}: LDS of ridge datamodels by the fraction they were estimated at and judged at, with "
            "as many training steps for each.",
            "",
            f"| estimated at | {' | '.join(f'at {judge:g}' for judge in judges)} | models | seconds a model "
            f"| linear |",
            f"|---|{'---|' * len(judges)}---:|---:|---:|",
        ]
        for keep in judges:
            row = {cell["judged_at"]: cell for cell in cells if cell["estimated_at"] == keep}
            each = [f"{row[j]['lds']:.3f} ({row[j]['low']:.3f} to {row[j]['high']:.3f})" for j in judges]
            mine = about[keep]
            words.append(
                f"| {keep:g} | {' | '.join(each)} | {mine['models']:,} | {mine['seconds_per_model']:.2g} | "
                f"{_percent(mine['linear_of_determined'])} ({_percent(mine['low'])} to "
                f"{_percent(mine['high'])}) |"
            )
        words.append("")
    words += [
        'Under "linear", the linear share of what subsets of that size determine. ' + repeat("keep", 12)
    ]
    return replaced(text, "keep", "\n".join(words))


def _range(row):
    return f"{row['share']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _percent(share):
    return f"{min(max(share, 0), 1):.0%}"
