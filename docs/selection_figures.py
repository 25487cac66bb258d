"""What the benchmarks of selection measured, for their how-to pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harmonic_figures import missed, repeat, replaced


def dsdm_page(text, result):
    """What `dsdm` found, on its how-to page."""
    return replaced(text, "dsdm", "\n".join([*_dsdm(result), repeat("dsdm", 54)]))


def gpu_dsdm_page(text, result):
    """The same with what a GPU adds."""
    settings = result["settings"]
    words = [
        f"{settings['gpu']}: {settings['seeds']} trainings of every choice, and TRAK averaged over "
        f"{settings['checkpoints']} proxies.",
        "",
        *_dsdm(result),
        "Repeat it with `python -m benchmarks gpu_dsdm` (about six minutes on that machine).",
    ]
    return replaced(text, "gpu/dsdm", "\n".join(words))


def _dsdm(result):
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
        *missed(result),
    ]
    return words


def datamil_page(text, result):
    """Success of every rule, over the kept fraction, and the two estimates beside each other."""
    rows, settings = result["rows"], result["settings"]
    tasks = [task.removesuffix("-v3") for task in settings["targets"]]
    count = len(settings["targets"]) + len(settings["others"])
    mixed, descent = settings["cotraining"], settings["descent"]
    words = [
        f"{settings['pool_episodes']:,} episodes of {count} MetaWorld tasks, "
        f"{settings['expert_share']:.0%} of them by the expert, the others noisy, for a wrong goal, stopped "
        f"early or at random; {settings['demonstrations']} expert demonstrations of a task to choose by, as "
        f"many others to report the loss on. Success over {settings['seeds']} seeds of "
        f"{settings['episodes']} rollouts each, with 95 % intervals over seeds, "
        f"{settings['fraction']:.0%} of the pool kept:",
        "",
        f"| chosen by | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
    ]
    words += successes(rows, "success", tasks)
    tried = [f"{100 * fraction:.3g}" for fraction in settings["fractions"]]
    plan = settings["narrowing"]
    words += [
        "",
        f"Each rule at that one of {', '.join(tried[:-1])} and {tried[-1]} % whose policies lose least on "
        f"the {settings['demonstrations']} demonstrations to choose by, task by task. Narrowing takes the "
        f"guided choice of {plan['candidates']:.0%} through {plan['rounds']} rounds of {plan['models']} "
        f"policies of {plan['steps']} steps and {plan['injection']['trials']} metagradients, with the ranks "
        "of the same two rules:",
        "",
        f"| chosen by | kept | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 3) + "|",
    ]
    words += successes(rows, "success_tuned", tasks, kept=True)
    words += ["", "The narrowed choice and the best other rule again, with as many further seeds:", ""]
    words += [f"| chosen by | kept | mean | {' | '.join(tasks)} |", "|---" * (len(tasks) + 3) + "|"]
    words += successes(rows, "success_tuned_again", tasks, kept=True)
    words += [
        "",
        "Each rule at the fraction that succeeds most often in trials instead, "
        f"{settings['tried']['episodes']} rollouts of each policy from other placements than the reported:",
        "",
        f"| chosen by | kept | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 3) + "|",
    ]
    words += successes(rows, "success_tried", tasks, kept=True)
    words += [
        "",
        f"What knowing the {settings['expert']} expert episodes of the task would give:",
        "",
        f"| chosen by | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
    ]
    words += successes(
        [row for row in rows if row.get("success_oracle") not in ("all data", "target only")],
        "success_oracle",
        tasks,
    )
    words += [
        "",
        f"{settings['fraction']:.0%} of the pool kept, and co-training: {mixed['alpha']:.0%} of each batch "
        f"are the {settings['demonstrations']} demonstrations, and all policies take {mixed['steps']:,} "
        f"steps for {settings['final_steps']:,}. The descent takes the guided choice through "
        f"{descent['rounds']} rounds of {descent['trials']} policies of {descent['steps']} steps:",
        "",
        f"| chosen by | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
        *successes(rows, "success_cotrained", tasks),
        "",
        f"The same with {100 * settings['fractions'][0]:.3g}%, by some of the rules:",
        "",
        f"| chosen by | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
        *successes(
            [row for row in rows if row.get("success_cotrained_on_few") not in ("all data", "target only")],
            "success_cotrained_on_few",
            tasks,
        ),
    ]
    curve = [row for row in rows if "curve" in row]
    fractions = list(dict.fromkeys(row["kept"] for row in curve))
    words += [
        "",
        f"Success on {settings['targets'][0].removesuffix('-v3')} over the fraction that is kept:",
        "",
        f"| chosen by | {' | '.join(f'{fraction:.0%}' for fraction in fractions)} |",
        f"|---|{'---:|' * len(fractions)}",
    ]
    for name in dict.fromkeys(row["chosen_by"] for row in curve):
        cells = [f"{row['success']:.2f}" for row in curve if row["chosen_by"] == name]
        words.append(f"| {name} | {' | '.join(cells)} |")
    surrogate = {
        row["surrogate"]: row["rank_correlation_of_minus_loss_with_success"]
        for row in rows
        if "surrogate" in row
    }
    words += [
        "",
        "Rank correlations: of regression and metagradient over all episodes; of the regression and the "
        "guided one with retrainings that they have not seen; of minus the held-out loss with success over "
        "the policies of a task:",
        "",
        "| task | the estimates | regression, held out | guided, held out | loss and success |",
        "|---|---:|---:|---:|---:|",
    ]
    words += [
        f"| {row['estimates_of'].removesuffix('-v3')} | {row['rank_correlation']:.2f} | "
        f"{row['held_out_correlation_of_regression']:.2f} | {row['held_out_correlation_of_guided']:.2f} | "
        f"{surrogate[row['estimates_of']]:.2f} |"
        for row in rows
        if "estimates_of" in row
    ]
    cost = next(row for row in rows if "ratio_all_tasks" in row)
    words += [
        "",
        f"The regression's {settings['retrainings']:,} retrainings took {cost['ratio_one_task']:.1f} times "
        f"the processor time of the metagradient of one task, and {cost['ratio_all_tasks']:.1f} times that "
        f"of all {len(tasks)}.",
        "",
        *missed(result),
        repeat("datamil", 80),
    ]
    return replaced(text, "datamil", "\n".join(words))


def datamil_filling_page(text, result):
    """What known fillings do to success and to the loss, the estimate's choices with their tail drawn at
    random, and the descent from its choice."""
    rows, settings = result["rows"], result["settings"]
    tasks = [task.removesuffix("-v3") for task in settings["targets"]]
    plan, experts, share = settings["validation"], settings["expert"], settings["fraction"]
    rest = round(share * settings["pool_episodes"]) - experts
    words = [
        f"On {len(plan['tasks'])} other tasks of the pool, policies that are co-trained on the {experts} "
        f"expert episodes of the task and, but for the first row, on {rest} others as well; {plan['seeds']} "
        f"seeds of {plan['episodes']} rollouts, intervals over tasks and seeds:",
        "",
        "| filled with | success | loss on held-out demonstrations, nats |",
        "|---|---:|---:|",
        *told(rows, "known_filling"),
        "",
        f"What is chosen there, {share:.0%} of the pool:",
        "",
        "| chosen by | success | loss on held-out demonstrations, nats |",
        "|---|---:|---:|",
        *told(rows, "validation"),
        "",
        f"The {len(tasks)} reported tasks, {settings['seeds']} seeds of {settings['episodes']} rollouts, "
        f"{share:.0%} by rank:",
        "",
        f"| chosen by | mean | {' | '.join(tasks)} |",
        "|---" * (len(tasks) + 2) + "|",
        *successes(rows, "success_ranked", tasks),
    ]
    if settings["head"]:
        words += ["", f"With {_head(settings['head'])}:", "", f"| chosen by | mean | {' | '.join(tasks)} |"]
        words += ["|---" * (len(tasks) + 2) + "|", *successes(rows, "success_filled", tasks)]
    words += ["", *missed(result), repeat("datamil_filling", 55)]
    return replaced(text, "datamil_filling", "\n".join(words))


def told(rows, kind):
    return [
        f"| {row[kind]}{', ' + _head(row['head']) if row.get('head') else ''} | {row['success']:.2f} "
        f"({row['low']:.2f}..{row['high']:.2f}) | {row['held_out_loss']:.2f} |"
        for row in rows
        if kind in row
    ]


def _head(head):
    return f"the best {100 * head:.3g}% by rank, the rest at random"


def successes(rows, kind, tasks, kept=False):
    return [
        f"| {row[kind]} | {f'{_kept(row)} | ' if kept else ''}{row['mean']:.2f} ({row['low']:.2f}.."
        f"{row['high']:.2f}) | {' | '.join(row[task] for task in tasks)} |"
        for row in rows
        if kind in row and "curve" not in row
    ]


def _kept(row):
    """Fractions of the tasks, or the one of all; none for the demonstrations alone."""
    one = row["kept"]
    return one if isinstance(one, str) else "" if one == 0 else f"{100 * one:.3g}%"


def _cell(rows, rule, task):
    found = [row for row in rows if (row["rule"], row["task"]) == (rule, task)]
    if not found:
        return "–"
    row = found[0]
    times = "" if row["multiplier"] is None else f" ({row['multiplier'].split(' ')[0]})"
    return f"{row['loss']:.2f}{times}"
