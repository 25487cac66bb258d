"""What the benchmarks of selection measured, for their how-to pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harmonic_figures import repeat, replaced


def dsdm_page(text, result):
    """Losses and compute multipliers of every rule at the smallest fraction, and predicted against realised
    loss."""
    settings = result["settings"]
    least, tasks = min(settings["fractions"]), settings["tasks"]
    words = [
        f"{settings['rows']:,} rows of {settings['length']} tokens ({settings['tokens'] / 1e6:.1f} million) "
        f"from {settings['domains']} domains ({settings['raw_megabytes']:.0f} MB of raw text, two domains of "
        f"junk), {settings['targets']} examples of each task in each half, {settings['seeds']} seeds. Scores "
        f"are from a model of {settings['proxy_parameters']:,} parameters. Loss in nats per token after "
        f"training on {least:.0%} of the rows, and how many times as much random data is as good.",
    ]
    for model in ("proxy", "final"):
        rows = [row for row in result["rows"] if row.get("model") == model and row["fraction"] == least]
        if not rows:
            continue
        count = settings[f"{model}_parameters"]
        heads = " | ".join(tasks)
        words += ["", f"| model of {count:,} parameters | {heads} |", "|---" * (len(tasks) + 1) + "|"]
        for rule in dict.fromkeys(row["rule"] for row in rows):
            cells = [_cell(rows, rule, task) for task in tasks]
            words.append(f"| {rule} | {' | '.join(cells)} |")
    lds = [row for row in result["rows"] if "lds" in row]
    words += [
        "",
        f"Predicted against realised target loss over {lds[0]['subsets']} random subsets of "
        f"{settings['keep']:.0%}, {lds[0]['seeds']} seeds each (Spearman):",
        "",
        "| task | LDS | noise ceiling |",
        "|---|---:|---:|",
        *(f"| {row['task']} | {row['lds']:.2f} | {row['ceiling']:.2f} |" for row in lds),
        "",
        *_claims(result),
        repeat("dsdm", 54),
    ]
    return replaced(text, "dsdm", "\n".join(words))


def _cell(rows, rule, task):
    found = [row for row in rows if (row["rule"], row["task"]) == (rule, task)]
    if not found:
        return "–"
    row = found[0]
    times = "" if row["multiplier"] is None else f" ({row['multiplier'].split(' ')[0]})"
    return f"{row['loss']:.2f}{times}"


def _claims(result):
    missed = [claim for claim in result["claims"] if not claim["holds"]]
    if not missed:
        return []
    return [
        "What was promised and missed:",
        "",
        *(f"- {claim['claim']}: {claim['value']:.2f}, wanted {claim['mark']}" for claim in missed),
        "",
    ]
