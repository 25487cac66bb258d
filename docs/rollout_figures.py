"""What `python -m benchmarks datamil_rollouts` measured: tables for its how-to page, and effects by rank."""

from html import escape
from math import log

from harmonic_figures import missed, repeat, replaced
from method_figures import STYLE, label
from selection_figures import successes, told

PICTURE = "rollout_profiles.svg"
COLOURS = ("#0072b2", "#d55e00", "#009e73")
PANEL, GAP, LEFT, TOP, HEIGHT, FOOT = 150, 14, 56, 30, 170, 74


def page(text, result):
    """Success of the rollout datamodel's choices beside the rules', and what its rounds and trials were."""
    rows, settings = result["rows"], result["settings"]
    tasks = [task.removesuffix("-v3") for task in settings["targets"]]
    plan, cost = settings["validation"], next(row for row in rows if "cost" in row)
    rounds = [row for row in rows if "rounds_of" in row]
    names = [name for name in rounds[0] if name.startswith("round_")]
    words = [
        f"{cost['policies']} policies of {cost['steps_of_each']:,} steps of {settings['rollout_batch']} for "
        f"each task, {cost['rollouts']:,} rollouts in all; {settings['fraction']:.0%} of the pool, "
        f"co-trained for {settings['cotraining']['steps']:,} steps in the end. On "
        f"{len(plan['tasks'])} other tasks of the pool, {plan['seeds']} seeds of {plan['episodes']} "
        "rollouts, intervals over tasks and seeds:",
        "",
        "| chosen by | success | loss on held-out demonstrations, nats |",
        "|---|---:|---:|",
        *told(rows, "validation"),
        "",
        f"The {len(tasks)} reported tasks, {settings['seeds']} seeds of {settings['episodes']} rollouts:",
        "",
        f"| chosen by | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
        *successes(rows, "success_of", tasks),
        "",
        "Episodes of the task itself in the choices, means over the reported tasks:",
        "",
        *_choices(rows, "choice_by"),
        "",
        f"![Effect on success along the ranks of each rule](../images/{PICTURE})",
        "",
        "What an episode at a rank of each rule does: success if the whole choice were such, above that of "
        "the policies on average. The parts of the rules add up.",
        "",
        "Mean success of the policies of each round in their trials, and how well the success of each is "
        "foretold from all others (rank correlation):",
        "",
        f"| task | {' | '.join(name.replace('_', ' ') for name in names)} | foretold |",
        "|---" + "|---:" * (len(names) + 1) + "|",
        *(
            f"| {row['rounds_of'].removesuffix('-v3')} | "
            f"{' | '.join(f'{row[name]:.2f}' for name in [*names, 'correlation_of_what_is_foretold'])} |"
            for row in rounds
        ),
        "",
        *missed(result),
        repeat("datamil_rollouts", 70),
    ]
    return replaced(text, "datamil_rollouts", "\n".join(words))


def _choices(rows, kind):
    mine = [row for row in rows if kind in row]
    kinds = [name for name in mine[0] if name.startswith("own, ")]
    return [
        f"| chosen by | {' | '.join(name.removeprefix('own, ') for name in kinds)} |",
        "|---" + "|---:" * len(kinds) + "|",
        *(f"| {row[kind]} | {' | '.join(f'{row[name]:.0f}' for name in kinds)} |" for row in mine),
    ]


def profiles(result):
    """SVG: for each reported task a panel, a line for each rule over the logarithm of the rank."""
    rows = [row for row in result["rows"] if "profile_of" in row]
    tasks = [task for task in result["settings"]["targets"] if any(row["profile_of"] == task for row in rows)]
    names = list(dict.fromkeys(row["rule"] for row in rows))
    lines = {
        (row["profile_of"], row["rule"]): [
            (float(key.removeprefix("rank_")), value) for key, value in row.items() if key.startswith("rank_")
        ]
        for row in rows
    }
    values = [value for task in tasks for name in names for _, value in lines[task, name]]
    ranks = [rank for rank, _ in lines[tasks[0], names[0]]]
    low, high = min(values) * 1.05, max(values) * 1.05

    def x(rank, number):
        share = log(rank / ranks[0]) / log(ranks[-1] / ranks[0])
        return LEFT + number * (PANEL + GAP) + share * PANEL

    def y(value):
        return TOP + (high - value) / (high - low) * HEIGHT

    width = LEFT + len(tasks) * (PANEL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + FOOT}" role="img">',
        f"<title>Effect on success along the ranks of each rule</title><style>{STYLE}</style>",
    ]
    step = next(size for size in (0.1, 0.2, 0.5, 1, 2, 5) if (high - low) / size <= 6)
    ticks = [step * i for i in range(round(low / step), round(high / step) + 1)]
    for tick in (tick for tick in ticks if low <= tick <= high):
        parts.append(label(LEFT - 8, y(tick) + 4, f"{tick:.1f}", "end"))
        parts += [
            f'<path class="axis" d="M{x(ranks[0], i):.1f} {y(tick):.1f}H{x(ranks[-1], i):.1f}"/>'
            for i in range(len(tasks))
        ]
    for i, task in enumerate(tasks):
        parts.append(label(x(ranks[0], i) + PANEL / 2, TOP - 12, task.removesuffix("-v3"), "middle"))
        for rank in (10, 100, 1000):
            if ranks[0] <= rank <= ranks[-1]:
                parts.append(label(x(rank, i), TOP + HEIGHT + 18, f"{rank:,}", "middle"))
        for colour, name in zip(COLOURS, names, strict=False):
            path = "L".join(f"{x(rank, i):.1f} {y(value):.1f}" for rank, value in lines[task, name])
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    parts.append(label(width / 2, TOP + HEIGHT + 38, "rank by the rule, the best first", "middle"))
    aside = f"translate(14 {TOP + HEIGHT / 2:.0f}) rotate(-90)"
    parts.append(f'<text transform="{aside}" text-anchor="middle">success</text>')
    at = LEFT
    for colour, name in zip(COLOURS, names, strict=False):
        parts.append(f'<text x="{at}" y="{TOP + HEIGHT + 62}" style="fill:{colour}">{escape(name)}</text>')
        at += 8 * len(name) + 24
    return "\n".join([*parts, "</svg>\n"])
