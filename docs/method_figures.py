"""What `python -m benchmarks methods` measured, for docs/methods.md: a table, and LDS against compute."""

import math
import re
from html import escape

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 16, 48
# Okabe and Ito's colours: told apart by colour-blind readers, and on white as on black
FAMILIES = {
    "guided": "#d55e00",
    "TRAK": "#0072b2",
    "influence": "#009e73",
    "ridge": "#e69f00",
    "LASSO": "#e69f00",
    "difference of means": "#e69f00",
    "gradient": "#cc79a7",
    "TracIn": "#cc79a7",
}
OTHER = "#888"
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.axis { stroke: #8884; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } }
"""


def shown(result):
    """The rows that are of a method, without the priors that were only there to be beaten."""
    return [row for row in result["rows"] if "lds" in row and not row["method"].startswith("prior ")]


def page(text, result, figure):
    """The page with what was measured in the place of whatever stands between its two marks."""
    rows = shown(result)
    studies = list(dict.fromkeys(row["study"] for row in rows))
    cells = {(row["method"], row["study"]): row for row in rows}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    methods.sort(key=lambda name: -max(row["lds"] for row in rows if row["method"] == name))
    ceilings = {row["study"]: row["ceiling"] for row in rows if row.get("ceiling") is not None}
    words = [
        f"![LDS against compute on {figure}](images/methods.svg)",
        "",
        "LDS on held-out retrainings with its 95 % interval. A number behind a method counts the models "
        "that it uses. Ridges and penalties were chosen on other retrainings than these.",
        "",
        f"| | {' | '.join(studies)} |",
        f"|---|{'---:|' * len(studies)}",
        f"| *noise ceiling* | {' | '.join(number(ceilings.get(study)) for study in studies)} |",
    ]
    words += [
        f"| {name} | {' | '.join(cell(cells.get((name, study))) for study in studies)} |" for name in methods
    ]
    words += ["", "Repeat it with `python -m benchmarks methods`; `make docs` writes it here."]
    pattern = r"(?s)(<!-- figure: methods -->).*?(<!-- end of figure -->)"
    body = "\n".join(words)
    return re.sub(pattern, lambda match: f"{match[1]}\n\n{body}\n\n{match[2]}", text)


def peers_page(text, result):
    """The page with the race against other libraries between its two marks."""
    rows, settings = result["rows"], result["settings"]
    speeds = {(row["one_checkpoint"], row["against"]): row for row in rows if "one_checkpoint" in row}
    pairs = [row for row in rows if "ours" in row]
    first = rows[0]
    words = [
        f"LDS on the same held-out retrainings, from the same checkpoints ({described(settings)}; noise "
        f"ceiling {first['lds'] / first['of_ceiling']:.2f}), and how many times as fast `whence` takes and "
        f"scores the gradients of one checkpoint, in turns on {result['machine']['cores']} cores, no GPU.",
        "",
        "| whence | LDS | other library | LDS | difference | times as fast |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in pairs:
        speed = speeds.get((row["ours"], row["theirs"]))
        low, high = (signed(row[end]) for end in ("low", "high"))
        words.append(
            f"| {row['ours'].removeprefix('whence ')} | {row['lds_ours']:.3f} | {row['theirs']} | "
            f"{row['lds_theirs']:.3f} | {signed(row['difference'])} ({low} to {high}) | "
            + (
                f"{speed['times_as_fast']:.1f} ({speed['lowest']:.1f} to {speed['highest']:.1f}) |"
                if speed
                else "|"
            )
        )
    words += ["", "Repeat it with `python -m benchmarks peers` after `pip install -e '.[bench]'`."]
    pattern = r"(?s)(<!-- figure: peers -->).*?(<!-- end of figure -->)"
    body = "\n".join(words)
    return re.sub(pattern, lambda match: f"{match[1]}\n\n{body}\n\n{match[2]}", text)


def described(settings):
    theirs = ", ".join(f"{name} {version}" for name, version in settings["peers"].items())
    return (
        f"{settings['study']}, n = {settings['n']:,}, {settings['targets']} targets, "
        f"{settings['checkpoints']} checkpoints; {theirs}"
    )


def signed(value):
    return f"{value:+.3f}" if abs(value) >= 5e-4 else "0.000"


def number(value):
    return "" if value is None else f"{value:.2f}"


def cell(row):
    if row is None:
        return ""
    interval = "" if row.get("low") is None else f" ({row['low']:.2f} to {row['high']:.2f})"
    return number(row["lds"]) + interval


def study_of(result):
    """The study that is drawn: a conv net where there is one."""
    studies = list(dict.fromkeys(row["study"] for row in shown(result)))
    return "cifar2" if "cifar2" in studies else studies[0]


def cost_curve(result, study):
    """SVG: LDS over trainings (models trained, and the attribution's own time in trainings)."""
    rows = [row for row in shown(result) if row["study"] == study]
    costs = [max(row["trainings_worth"], 0.01) for row in rows]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    high = max(high, low + 1)
    ceiling = next((row["ceiling"] for row in rows if row.get("ceiling") is not None), None)
    top = max([row["lds"] for row in rows] + ([ceiling] if ceiling else [])) * 1.08
    bottom = min([0.0] + [row["lds"] for row in rows])

    def x(cost):
        return LEFT + (math.log10(max(cost, 0.01)) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(value):
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>LDS against compute on {escape(study)}</title><style>{STYLE}</style>",
    ]
    for tick in range(math.ceil(bottom * 5), math.floor(top * 5) + 1):
        parts.append(f'<path class="axis" d="M{LEFT} {y(tick / 5):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(label(LEFT - 8, y(tick / 5) + 4, f"{tick / 5:.1f}", "end"))
    for power in range(low, high + 1):
        parts.append(label(x(10.0**power), HEIGHT - BOTTOM + 20, f"{10.0**power:g}", "middle"))
    parts.append(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "compute, in trainings", "middle"))
    if ceiling is not None:
        parts.append(
            f'<path d="M{LEFT} {y(ceiling):.1f}H{WIDTH - RIGHT}" stroke="#888" stroke-dasharray="5 4"/>'
        )
        parts.append(label(LEFT + 4, y(ceiling) - 5, "noise ceiling", "start"))
    taken = []
    for row in sorted(rows, key=lambda row: -row["lds"]):
        at, height, name = x(row["trainings_worth"]), y(row["lds"]), row["method"]
        colour = next((c for start, c in FAMILIES.items() if name.startswith(start)), OTHER)
        value = f"<title>{escape(name)}: {row['lds']:.3f}, {row['trainings_worth']:.3g} trainings</title>"
        parts.append(f'<circle cx="{at:.1f}" cy="{height:.1f}" r="4" fill="{colour}">{value}</circle>')
        # a label goes where none is yet: to the right, or to the left near the edge
        wide = 7 * len(name)
        start = at + 8 if at + 8 + wide < WIDTH else at - 8 - wide
        if all(abs(height - h) > 13 or start + wide < s or start > s + w for s, h, w in taken):
            taken.append((start, height, wide))
            parts.append(
                f'<text x="{start:.1f}" y="{height + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
            )
    return "\n".join([*parts, "</svg>\n"])


def label(x, y, words, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
