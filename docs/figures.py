"""Draw the figures of the docs from benchmarks/results/*.json, and write them into their pages.

    python docs/figures.py            draws what there are results for
    python docs/figures.py --check    says whether pages and pictures are up to date

The pictures are plain SVG, so that they look right on a code host, in light and in dark.
"""

import importlib
import json
import math
import re
import sys
from functools import partial
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
RESULTS = DOCS.parent / "benchmarks" / "results"

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 190, 16, 48
# Okabe and Ito's colours: told apart by colour-blind readers, and on white as on black
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #333 }
.axis { stroke: #8884; stroke-width: 1 }
@media (prefers-color-scheme: dark) { text { fill: #ccc } }
"""


def main():
    wanted = {}
    drawn = {
        "sample_complexity": sample_complexity,
        "methods": methods,
        "peers": partial(table, "method_figures", "peers_page", "methods.md"),
        "harmonic": harmonic,
        "keep": partial(table, "harmonic_figures", "keep_page", "how-to/how-linear.md"),
        "support": support,
        "leakage": partial(table, "application_figures", "leakage_page", "how-to/leakage.md"),
        "embedding": partial(table, "application_figures", "embedding_page", "how-to/embeddings.md"),
        "mislabels": partial(table, "detection_figures", "mislabels_page", "how-to/mislabels.md"),
        "modeldiff": partial(table, "detection_figures", "modeldiff_page", "how-to/compare-recipes.md"),
        "backdoor": partial(table, "detection_figures", "backdoor_page", "how-to/backdoors.md"),
        "gpu/retraining": on_a_gpu,
        "unlearning": unlearning,
        "datamil": partial(table, "selection_figures", "datamil_page", "how-to/choose-demonstrations.md"),
        "datamil_filling": partial(
            table, "selection_figures", "datamil_filling_page", "how-to/choose-demonstrations.md"
        ),
        "datamil_rollouts": rollouts,
        "dsdm": partial(table, "selection_figures", "dsdm_page", "how-to/choose-pretraining-data.md"),
        "gpu/dsdm": partial(table, "selection_figures", "gpu_dsdm_page", "how-to/choose-pretraining-data.md"),
    }
    for name, draw in drawn.items():
        source = RESULTS / f"{name}.json"
        if source.exists():
            wanted |= draw(json.loads(source.read_text(encoding="utf-8")), wanted)
        else:
            print(f"no {source.name} yet: run python -m benchmarks {name}")
    stale = [path for path, text in wanted.items() if not up_to_date(path, text)]
    if stale:
        sys.exit(f"not up to date: {', '.join(map(str, stale))}; run python docs/figures.py")


def sample_complexity(result, wanted):
    return {
        DOCS / "images" / "sample_complexity.svg": learning_curves(result["rows"]),
        DOCS / "how-to" / "how-many-models.md": page(result),
    }


def methods(result, wanted):
    sys.path.insert(0, str(DOCS))
    import method_figures

    where, study = DOCS / "methods.md", method_figures.study_of(result)
    return {
        DOCS / "images" / "methods.svg": method_figures.cost_curve(result, study),
        where: method_figures.page(where.read_text(encoding="utf-8"), result, study),
    }


def table(module, function, page, result, wanted):
    """A page whose only figure is a table that `function` of `module` writes into it."""
    sys.path.insert(0, str(DOCS))
    where = DOCS / page
    write = getattr(importlib.import_module(module), function)
    return {where: write(written(where, wanted), result)}


def harmonic(result, wanted):
    sys.path.insert(0, str(DOCS))
    import harmonic_figures as figures

    title = "R2 on unseen retrainings against the number of models"
    where = DOCS / "how-to" / "how-linear.md"
    return {
        DOCS / "images" / "harmonic.svg": learning_curves(figures.curves(result), "R2", title),
        where: figures.split_page(written(where, wanted), result),
    }


def support(result, wanted):
    sys.path.insert(0, str(DOCS))
    import application_figures as figures

    where = DOCS / "how-to" / "support.md"
    return {
        DOCS / "images" / "support.svg": figures.support_curves(result),
        where: figures.support_page(where.read_text(encoding="utf-8"), result),
    }


def on_a_gpu(result, wanted):
    sys.path.insert(0, str(DOCS))
    import gpu_figures

    methods = json.loads((RESULTS / "gpu" / "methods.json").read_text(encoding="utf-8"))
    where = DOCS / "how-to" / "on-a-gpu.md"
    return {where: gpu_figures.page(written(where, wanted), result, methods)}


def unlearning(result, wanted):
    sys.path.insert(0, str(DOCS))
    import unlearning_figures as figures

    where = DOCS / "how-to" / "unlearning.md"
    drawn = {DOCS / "images" / name: svg for name, svg in figures.pictures(result).items()}
    return drawn | {where: figures.page(written(where, wanted), result)}


def rollouts(result, wanted):
    sys.path.insert(0, str(DOCS))
    import rollout_figures as figures

    where = DOCS / "how-to" / "choose-demonstrations.md"
    drawn = {DOCS / "images" / figures.PICTURE: figures.profiles(result)}
    return drawn | {where: figures.page(written(where, wanted), result)}


def written(path, wanted):
    """A page as it will be: two results may write into one."""
    return wanted[path] if path in wanted else path.read_text(encoding="utf-8")


def up_to_date(path, text):
    """With --check, compare; else write."""
    if "--check" in sys.argv:
        return path.exists() and path.read_text(encoding="utf-8") == text
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return True


def page(result):
    """The page with what was measured in the place of whatever stands between its two marks."""
    text = (DOCS / "how-to" / "how-many-models.md").read_text(encoding="utf-8")
    settings, rows = result["settings"], result["rows"]
    most = max(row["models"] for row in rows)
    final = [row for row in rows if row["models"] in (0, most) and row["method"] != "noise ceiling"]
    final.sort(key=lambda row: -row["lds"])
    ceiling = next((row for row in rows if row["method"] == "noise ceiling"), None)
    words = (
        "\n![LDS on unseen retrainings against the number of models](../images/sample_complexity.svg)\n\n"
        f"CIFAR-10's cats and dogs, {settings['n']:,} training images, keep {settings['keep']:g}, "
        f"{settings['targets']:,} targets, {settings['held_out_masks']} held-out subsets with "
        f"{settings['held_out_seeds']} seeds each. Bands are 95 % intervals.\n\n"
        f"| with {most:,} models | LDS | 95 % interval |\n|---|---:|---|\n"
    )
    if ceiling:
        words += f"| *noise ceiling* | {ceiling['lds']:.3f} | {interval(ceiling)} |\n"
    words += "".join(f"| {row['method']} | {row['lds']:.3f} | {interval(row)} |\n" for row in final)
    words += "\nRepeat it with `python -m benchmarks sample_complexity`; `make docs` draws it.\n"
    pattern = r"(?s)(<!-- figure: sample_complexity -->).*(<!-- end of figure -->)"
    return re.sub(pattern, lambda match: f"{match[1]}\n{words}{match[2]}", text)


def interval(row):
    return "" if row.get("low") is None else f"{row['low']:.3f} to {row['high']:.3f}"


def learning_curves(rows, what="LDS", title="LDS on unseen retrainings against the number of models"):
    """SVG: a line with its band for each method over the number of models; ceilings and baselines broken."""
    lines = {}
    for row in rows:
        if row["models"] > 0:
            lines.setdefault(row["method"], []).append(row)
    curves = {name: sorted(points, key=lambda row: row["models"]) for name, points in lines.items()}
    models = sorted({row["models"] for points in curves.values() for row in points})
    flat = [row for row in rows if row["models"] == 0 and row["method"] != "random"]
    top = max([row["lds"] for row in flat] + [row.get("high") or row["lds"] for row in rows]) * 1.05
    bottom = min([0] + [row["lds"] if row.get("low") is None else row["low"] for row in rows])

    def x(count):
        share = math.log(count / models[0]) / max(math.log(models[-1] / models[0]), 1e-9)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value):
        return TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM)

    end = WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{title}</title><style>{STYLE}</style>",
    ]
    for tick in range(math.ceil(bottom * 5), math.floor(top * 5) + 1):
        height = y(tick / 5)
        parts.append(f'<path class="axis" d="M{LEFT} {height:.1f}H{end}"/>')
        parts.append(text(LEFT - 8, height + 4, f"{tick / 5:.1f}", "end"))
    shown = []
    for count in reversed(models):  # a label that would touch the one to its right is left out
        if not shown or x(shown[-1]) - x(count) > 48:
            shown.append(count)
    parts += [text(x(count), HEIGHT - BOTTOM + 20, f"{count:,}", "middle") for count in shown]
    parts.append(text((LEFT + end) / 2, HEIGHT - 8, "retrained models", "middle"))
    parts.append(
        f'<text transform="translate(14 {HEIGHT / 2 - 20}) rotate(-90)" text-anchor="middle">{what}</text>'
    )
    labels = []
    for row in flat:  # what no retraining of ours changes: the ceiling and the baselines
        dash = "5 4" if row["method"].endswith("ceiling") else "1 3"
        height = y(row["lds"])
        parts.append(f'<path d="M{LEFT} {height:.1f}H{end}" stroke="#888" stroke-dasharray="{dash}"/>')
        labels.append((height, row["method"], "#888"))
    for colour, (name, points) in zip(COLOURS, curves.items(), strict=False):
        if all(row.get("low") is not None for row in points):
            upper = [f"{x(row['models']):.1f} {y(row['high']):.1f}" for row in points]
            lower = [f"{x(row['models']):.1f} {y(row['low']):.1f}" for row in reversed(points)]
            parts.append(f'<path d="M{"L".join(upper + lower)}Z" fill="{colour}" fill-opacity=".15"/>')
        path = "L".join(f"{x(row['models']):.1f} {y(row['lds']):.1f}" for row in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(row["models"]):.1f}" cy="{y(row["lds"]):.1f}" r="3" fill="{colour}"/>'
            for row in points
        ]
        labels.append((y(points[-1]["lds"]), name, colour))
    parts += [
        f'<text x="{end + 10}" y="{height + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
        for height, name, colour in apart(labels)
    ]
    return "\n".join([*parts, "</svg>\n"])


def text(x, y, words, anchor):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'


def apart(labels, gap=17):
    """The labels from top to bottom, pushed down, then up, until none overlaps another."""
    placed = []
    for height, name, colour in sorted(labels):
        placed.append([max(height, placed[-1][0] + gap if placed else height), name, colour])
    lowest = HEIGHT - BOTTOM
    for label in reversed(placed):
        label[0] = min(label[0], lowest)
        lowest = label[0] - gap
    return placed


if __name__ == "__main__":
    main()
