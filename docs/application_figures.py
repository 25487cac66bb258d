"""What the benchmarks of the applications measured, for their how-to pages: tables, and support's curves."""

import math
import sys
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harmonic_figures import repeat, replaced

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 190, 16, 48
# as many as rankers: Okabe and Ito's, then greys for what knows nothing
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a6761d", "#666", "#999"]
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.axis { stroke: #8884; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } }
"""


def support_page(text, result):
    """A row for each ranker, and how often sets of the predicted sizes flip."""
    settings = result["settings"]
    rankers = [row for row in result["rows"] if "ranker" in row]
    sizes = [row for row in result["rows"] if "sizes" in row]
    rankers.sort(key=lambda row: (isinstance(row["median"], str), row["median"]))
    words = [
        "![Share of targets flipped against the number of images left out](../images/support.svg)",
        "",
        f"CIFAR-10's cats and dogs, {settings['n']:,} training images, {settings['flipped']} targets, "
        f"every set "
        f"retrained {settings['retrainings']} times, at most {settings['limit']} images left out. The "
        f"datamodels "
        f"rest on {settings['models']:,} retrainings. p is of the log-rank test against a random order.",
        "",
        "| ranking | median support | flipped | p | LDS | cost (trainings) |",
        "|---|---:|---:|---:|---|---:|",
    ]
    words += [
        f"| {row['ranker']} | {_size(row['median'])} | {row['flipped']} of {settings['flipped']} | "
        f"{_p(row['p_random'])} | {row['lds']:.3f} ({row['lds_low']:.3f} to {row['lds_high']:.3f}) | "
        f"{row['trainings']:,.0f} |"
        for row in rankers
    ]
    words += [
        "",
        "Sets of the size that a datamodel predicts, retrained: how many of them flip their target.",
        "",
        "| sizes | flipped | mean size | targets |",
        "|---|---|---:|---:|",
    ]
    words += [
        f"| {row['sizes']} | {row['certified']:.0%} ({row['low']:.0%} to {row['high']:.0%}) | "
        f"{row['mean_size']:.0f} | {row['targets']} |"
        for row in sizes
        if row["mean_size"] is not None
    ]
    words += ["", repeat("support", 35)]
    return replaced(text, "support", "\n".join(words))


def _size(median):
    return median if isinstance(median, str) else f"{median:.0f}"


def _p(value):
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def leakage_page(text, result):
    """Average precision by evidence and by kind of duplicate."""
    rows = [row for row in result["rows"] if "evidence" in row]
    kinds = [key for key in rows[0] if key != "evidence"]
    words = [
        f"CIFAR-10's cats and dogs, {result['settings']['n']:,} training images, "
        f"{result['settings']['duplicates']} known duplicates: planted ones by kind of change, and real "
        f"ones that "
        "pixel matching finds. Average precision of the ranking of all pairs:",
        "",
        f"| evidence | {' | '.join(kinds)} |",
        f"|---|{'---:|' * len(kinds)}",
    ]
    words += [f"| {row['evidence']} | {' | '.join(f'{row[kind]:.2f}' for kind in kinds)} |" for row in rows]
    called = [row for row in result["rows"] if "suspects_by" in row]
    words += [
        "",
        "| pairs with a suspicion of 0.8 or more | called | precision | recall |",
        "|---|---:|---:|---:|",
    ]
    words += [
        f"| {row['suspects_by']} | {row['called']} | {_share(row['precision'])} | {_share(row['recall'])} |"
        for row in called
    ]
    words += ["", repeat("leakage", 6)]
    return replaced(text, "leakage", "\n".join(words))


def _share(value):
    return "" if value is None else f"{value:.2f}"


def embedding_page(text, result):
    """Purity and neighbours by attribution, and what removing the ends of components did."""
    rows = [row for row in result["rows"] if "purity" in row]
    words = []
    for study in dict.fromkeys(row["study"] for row in rows):
        mine = [row for row in rows if row["study"] == study]
        words += [
            f"{study}, {mine[0]['clusters']} clusters; by chance the purity is "
            f"{mine[0]['purity_by_chance']:.2f} and {mine[0]['of_the_class_by_chance']:.0%} of "
            f"neighbours are of "
            "the class:",
            "",
            "| embedding | purity | neighbours of the class |",
            "|---|---:|---:|",
        ]
        words += [
            f"| {row['attribution']} | {row['purity']:.2f} | {row['neighbours_of_the_class']:.0%} |"
            for row in mine
        ]
        words.append("")
    pulls = [row for row in result["rows"] if "component" in row]
    words += [
        "Components by retraining: how the mean margin of the upper end changes, less that of the lower "
        "one, when "
        "the training images at one end are removed (down for the upper end's own, up for the lower "
        "end's).",
        "",
        "| study | component | removed | apart | 95 % interval |",
        "|---|---:|---|---:|---|",
    ]
    words += [
        f"| {row['study']} | {row['component']} | {row['removed_end']} | {row['apart']:+.2f} | "
        f"{row['low']:+.2f} to "
        f"{row['high']:+.2f} |"
        for row in pulls
    ]
    words += ["", repeat("embedding", 12)]
    return replaced(text, "embedding", "\n".join(words))


def support_curves(result):
    """SVG: Kaplan-Meier curves of the rankers over set size, on a logarithmic axis."""
    curves, limit = result["details"]["curves"], result["settings"]["limit"]
    end = WIDTH - RIGHT

    def x(size):
        return LEFT + math.log(max(size, 1)) / math.log(limit) * (end - LEFT)

    def y(share):
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>Share of targets flipped against images left out</title><style>{STYLE}</style>",
    ]
    for tick in range(6):
        parts.append(f'<path class="axis" d="M{LEFT} {y(tick / 5):.1f}H{end}"/>')
        parts.append(_text(LEFT - 8, y(tick / 5) + 4, f"{tick / 5:.0%}", "end"))
    for size in (1, 2, 5, 10, 20, 50, 100, 200, 500):
        if size <= limit:
            parts.append(_text(x(size), HEIGHT - BOTTOM + 20, f"{size}", "middle"))
    parts.append(_text((LEFT + end) / 2, HEIGHT - 8, "training images left out", "middle"))
    labels = []
    best_first = sorted(curves, key=lambda name: -_area(curves[name], limit))
    for number, name in enumerate(best_first):
        curve, colour = curves[name], COLOURS[number % len(COLOURS)]
        path, share = [f"M{x(1):.1f} {y(0):.1f}"], 0.0
        for size, flipped in zip(curve["size"], curve["flipped"], strict=True):
            path.append(f"H{x(size):.1f}V{y(flipped):.1f}")
            share = flipped
        path.append(f"H{end}")
        parts.append(f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        labels.append((y(share), name, colour))
    placed = []
    for height, name, colour in sorted(labels):
        placed.append((max(height, placed[-1][0] + 17 if placed else height), name, colour))
    parts += [
        f'<text x="{end + 8}" y="{height + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
        for height, name, colour in placed
    ]
    return "\n".join([*parts, "</svg>\n"])


def _area(curve, limit):
    """Mean share flipped over the logarithm of the size."""
    sizes, shares = [1.0, *curve["size"], float(limit)], [0.0, *curve["flipped"]]
    return sum(
        share * math.log(b / a) for share, a, b in zip(shares, sizes[:-1], sizes[1:], strict=True) if b > a
    )


def _text(x, y, words, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
