"""What `python -m benchmarks unlearning` measured, for docs/how-to/unlearning.md: a table and two figures."""

import math
from html import escape

from harmonic_figures import missed, repeat, replaced
from method_figures import BOTTOM, HEIGHT, LEFT, OTHER, RIGHT, STYLE, TOP, WIDTH, label

COLOURS = {
    "kernel matching": "#882255",
    "datamodel matching": "#d55e00",
    "datamodel direct": "#d55e00",
    "oracle matching": "#009e73",
    "gradient": "#0072b2",
    "ascent and descent": "#0072b2",
    "SCRUB": "#cc79a7",
    "distillation": "#e69f00",
    "random labels": "#e69f00",
}
LEAST = 1e-3  # a method that costs nothing is drawn here


def reported(result):
    """Method -> means over the reported forget sets."""
    distances = [row for row in result["rows"] if "set" in row]
    others = {(row["also"], row["method"]): row for row in result["rows"] if "also" in row}
    found = {}
    for name in dict.fromkeys(row["method"] for row in distances):
        mine = [row for row in distances if row["method"] == name and row["forget_p95"] is not None]
        both = [row | others[row["set"], name] for row in mine]
        if not both:  # it diverged on every set
            continue
        found[name] = {
            key: sum(row[key] for row in both) / len(both)
            for key in ("forget_p95", "retain_p95", "validation_p95", "compute", "ulira")
            if all(row[key] is not None for row in both)
        } | {"sets": len(both)}
    return found


def pictures(result):
    """Name -> SVG: KLoM against compute, and against the LDS of the attribution that was matched with."""
    means = reported(result)
    small = [
        (row["cost"], row["forget_p95"], row["tuned"], False)
        for row in result["rows"]
        if "tuned" in row and row["forget_p95"] is not None
    ]
    large = [
        (row["compute"], row["forget_p95"], name, True) for name, row in means.items() if name != "floor"
    ]
    floor = means["floor"]["forget_p95"]
    quality = [
        (row["lds"], row["forget"], row["matched_with"], True)
        for row in result["rows"]
        if "matched_with" in row
    ]
    return {
        "unlearning_cost.svg": scatter(
            small + large, floor, "compute, in retrainings", "KLoM on the forget set against compute", True
        ),
        "unlearning_quality.svg": scatter(
            quality, floor, "LDS of the attribution", "KLoM on the forget set against LDS", False
        ),
    }


def scatter(points, floor, x_title, title, log):
    """SVG of (x, y, name, named): small dots without a name, large ones with it."""
    xs = [math.log10(max(point[0], LEAST)) if log else point[0] for point in points]
    low, high = (math.floor(min(xs)), math.ceil(max(xs))) if log else (min(0.0, *xs), max(xs) * 1.05)
    top = max(point[1] for point in points) * 1.05

    def place(value):
        at = math.log10(max(value, LEAST)) if log else value
        return LEFT + (at - low) / max(high - low, 1e-9) * (WIDTH - LEFT - RIGHT)

    def height(value):
        return TOP + (top - value) / top * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
    ]
    for tick in range(0, math.floor(top) + 1, 2):
        parts.append(f'<path class="axis" d="M{LEFT} {height(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(label(LEFT - 8, height(tick) + 4, str(tick), "end"))
    ticks = [10.0**power for power in range(low, high + 1)] if log else [i / 10 for i in range(11)]
    for tick in ticks:
        if LEFT <= place(tick) <= WIDTH - RIGHT + 1:
            parts.append(label(place(tick), HEIGHT - BOTTOM + 20, f"{tick:g}", "middle"))
    parts.append(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_title, "middle"))
    parts.append(f'<text transform="translate(14 {HEIGHT / 2 + 70}) rotate(-90)">P95 KLoM, forget set</text>')
    parts.append(
        f'<path d="M{LEFT} {height(floor):.1f}H{WIDTH - RIGHT}" stroke="#888" stroke-dasharray="5 4"/>'
    )
    parts.append(label(LEFT + 4, height(floor) + 16, "floor", "start"))
    taken = []
    for x, y, name, named in sorted(points, key=lambda point: (point[3], -point[1])):
        colour = next((c for start, c in COLOURS.items() if name.startswith(start)), OTHER)
        at, up = place(x), height(y)
        words = f"<title>{escape(name)}: {y:.2f} at {x:.3g}</title>"
        size, shade = (5, 1) if named else (2.5, 0.45)
        parts.append(
            f'<circle cx="{at:.1f}" cy="{up:.1f}" r="{size}" fill="{colour}" fill-opacity="{shade}">{words}'
            "</circle>"
        )
        if not named:
            continue
        wide = 7.4 * len(name)
        beside = [(at + 8, up), (at - 8 - wide, up)]
        for start, line in beside + [(at - wide / 2, up - 15 * k) for k in (1, 2, 3)]:
            inside = LEFT < start and start + wide < WIDTH
            if inside and all(abs(line - u) > 13 or start + wide < s or start > s + w for s, u, w in taken):
                taken.append((start, line, wide))
                parts.append(
                    f'<text x="{start:.1f}" y="{line + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
                )
                break
    return "\n".join([*parts, "</svg>\n"])


def _by_set(result):
    rows = [row for row in result["rows"] if "set" in row]
    found = {(row["set"], row["method"]): row["forget_p95"] for row in rows}
    names = sorted({row["set"] for row in rows}, key=lambda name: -found[name, "nothing"])
    shown = ("nothing", "kernel matching", "datamodel matching", "floor")
    return [f"| {name} | {' | '.join(f'{found[name, one]:.2f}' for one in shown)} |" for name in names]


def page(text, result):
    """The page with what was measured in the place of whatever stands between its two marks."""
    means, settings = reported(result), result["settings"]
    floor = means.pop("floor")
    words = [
        "![95th percentile of KLoM on the forget set against compute](../images/unlearning_cost.svg)",
        "",
        f"CIFAR-10 in two classes with long tails, {2 * sum(settings['sizes']):,} training images under "
        f"labels that people gave ({100 * settings['wrong_labels']:.0f} % of them wrong), means over "
        f"{floor['sets']} forget sets, {settings['models']} models a side. Small dots are settings tried on "
        "another forget set; large ones are the setting chosen there, on the others. 95th "
        "percentiles of KLoM:",
        "",
        "| | forget | retain | validation | U-LiRA | compute |",
        "|---|---:|---:|---:|---:|---:|",
        f"| *floor* | {floor['forget_p95']:.2f} | {floor['retain_p95']:.2f} | "
        f"{floor['validation_p95']:.2f} | {floor['ulira']:.2f} | |",
    ]
    words += [
        f"| {name} | {row['forget_p95']:.2f} | {row['retain_p95']:.2f} | {row['validation_p95']:.2f} | "
        f"{row['ulira']:.2f} | {100 * row['compute']:.1f} % |"
        for name, row in sorted(means.items(), key=lambda item: item[1]["forget_p95"])
    ]
    clock = [
        f"{row['timed']} {100 * row['time_share']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
        for row in result["rows"]
        if "timed" in row
    ]
    words += [
        "",
        "Compute counts examples and multiplications. By the clock, beside retrainings on the same two "
        f"cores, it is more for a network as small as this one: {', '.join(clock)}.",
        "",
        "The forget part, set by set:",
        "",
        "| forget set | nothing | kernel matching | datamodel matching | floor |",
        "|---|---:|---:|---:|---:|",
        *_by_set(result),
        "",
        "How good must the attribution be? The same matching, with others:",
        "",
        "![95th percentile of KLoM on the forget set against the LDS of the attribution]"
        "(../images/unlearning_quality.svg)",
        "",
        *missed(result),
        repeat("unlearning", 60),
    ]
    return replaced(text, "unlearning", "\n".join(words))
