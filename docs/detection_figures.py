"""What the benchmarks of mislabels, of the comparison of recipes and of backdoors measured, for their how-to
pages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harmonic_figures import repeat, replaced

LISTED = (
    "combined",
    "AUM",
    "data map",
    "out-of-fold margin",
    "self-confidence",
    "cleanlab",
    "cleanlab, 5-fold",
    "in-fold margin",
    "self-influence, TRAK",
    "self-influence, gradient dot",
    "self-influence, influence",
    "self-influence, ridge datamodel",
    "memorisation",
    "self-influence, random",
)


def mislabels_page(text, result):
    """AUC by ranking and data, the number of wrong labels, and accuracy without the suspects."""
    rows = [row for row in result["rows"] if "ranking" in row]
    data = list(dict.fromkeys(row["data"] for row in rows))
    cells = {(row["data"], row["ranking"]): row for row in rows}
    settings = result["settings"]
    words = [
        f"{settings['n']:,} training images each, {settings['flipped']:.0%} of the labels flipped at "
        "random, or as people gave them (CIFAR-10N). Area under the ROC curve of each ranking; a 95 % "
        "interval is about 0.01 wide on MNIST, 0.03 to 0.04 on CIFAR-10 and 0.02 for the worst labels. "
        "*Self-confidence* and *cleanlab* are confident learning, from the bank's out-of-fold probabilities "
        "or from five folds.",
        "",
        f"| ranking | {' | '.join(data)} |",
        f"|---|{'---:|' * len(data)}",
    ]
    words += [f"| {name} | {' | '.join(_auc(cells.get((one, name))) for one in data)} |" for name in LISTED]
    told = {row["data"]: row for row in result["rows"] if "wrong" in row}
    accuracy = {(row["data"], row["training_set"]): row for row in result["rows"] if "training_set" in row}
    words += [
        "",
        "How many are wrong, and what retraining without the suspects of *combined* does to the accuracy on "
        "right labels, against leaving out as many at random:",
        "",
        "| data | wrong | estimated | by confident learning | precision, recall of suspects | accuracy |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for one in data:
        row, after = told[one], accuracy[one, "removed"]
        words.append(
            f"| {one} | {row['wrong']:,} | {row['estimated']:,.0f} | {row['by_confident_learning']:,.0f} | "
            f"{row['precision_of_suspects']:.2f}, {row['recall']:.2f} | {100 * after['against_random']:+.1f} "
            f"({100 * after['low']:+.1f} to {100 * after['high']:+.1f}) points |"
        )
    words += ["", repeat("mislabels", 33)]
    return replaced(text, "mislabels", "\n".join(words))


def _auc(row):
    return "" if row is None else f"{row['auc']:.3f}"


def modeldiff_page(text, result):
    """Whether the planted stamp was found, dose by dose, and what was found where nothing was planted."""
    rows, settings = result["rows"], result["settings"]["stamp"]
    first = next(row for row in rows if row.get("compared") == "stamp" and row["component"] == 0)
    itself = next(row for row in rows if "against_itself" in row)
    effects = [row for row in rows if "stamp" in row]
    doses = list(dict.fromkeys(row["stamp"] for row in effects))
    cells = {(row["recipe"], row["stamp"]): row for row in effects}
    recipes = list(dict.fromkeys(row["recipe"] for row in effects))
    other = result["details"]["with and without augmentation"]
    tried, trials, passed = (itself[key] for key in ("components_tried", "against_itself", "passed"))
    words = [
        f"A white stamp on {settings['share']:.0%} of the shirts among {settings['n']} images of "
        f"Fashion-MNIST, {settings['models']:,} retrainings of each recipe. The first component of what the "
        f"recipe that sees it has beyond the other passes; {first['precision_30']:.0%} of the 30 training "
        f"images of largest weight carry the stamp. Of {tried} components in {trials} comparisons of one "
        f"recipe with itself, {passed} passed. The stamp changes the probability of a shirt, by recipe, with "
        f"{settings['retrainings']} fresh models each:",
        "",
        f"| corner | {' | '.join(dose.removeprefix('a ') for dose in doses)} |",
        f"|---|{'---:|' * len(doses)}",
    ]
    words += [
        f"| {recipe} | {' | '.join(_effect(cells[recipe, dose]) for dose in doses)} |" for recipe in recipes
    ]
    words += [
        "",
        "Nothing planted, a conv net on CIFAR-10's cats and dogs, with against without augmentation: "
        f'"{other["statement"]}."',
        "",
        repeat("modeldiff", 13),
    ]
    return replaced(text, "modeldiff", "\n".join(words))


def _effect(row):
    return f"{row['effect']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def backdoor_page(text, result):
    """What was found of each attack, beside the usual defences, and what removing it did."""
    rows, settings = result["rows"], result["settings"]
    cells = [row for row in rows if "gain_needed" in row]
    ranks = {_key(row): row for row in rows if "AUROC of whence" in row}
    names = [
        key.removeprefix("AUROC of ") for key in next(iter(ranks.values())) if key.startswith("AUROC of ")
    ]
    after = {(_key(row), row["removed"]): row for row in rows if "removed" in row}
    clean = [row for row in rows if "clean_study" in row]
    alarms = sum(row["found"] for row in clean)
    words = [
        f"Fashion-MNIST, {settings['n']:,} training images, a small perceptron, {settings['models']:,} "
        f"retrainings on {settings['keep']:.0%} of the images. *Forecast* is whether the first "
        f"{settings['pilot']} of them promise a find. Area under the ROC curve of whence's ranking and of "
        "the usual defences:",
        "",
        f"| attack, images | attack success | forecast | p | {' | '.join(names)} |",
        f"|---|---:|---|---:|{'---:|' * len(names)}",
    ]
    for row in cells:
        areas = [f"{ranks[_key(row)]['AUROC of ' + name]:.2f}" for name in names]
        words.append(
            f"| {_key(row)} | {row['success']:.0%} | {row['forecast']} | {row['p_value']:.3f} | "
            f"{' | '.join(areas)} |"
        )
    kinds = list(dict.fromkeys(kind for _, kind in after))
    words += [
        "",
        "Attack success after images were removed and models retrained, and the change of clean accuracy, "
        "in points:",
        "",
        f"| attack, images | {' | '.join(kinds)} |",
        f"|---|{'---:|' * len(kinds)}",
    ]
    words += [
        f"| {_key(row)} | {' | '.join(_removed(after.get((_key(row), kind))) for kind in kinds)} |"
        for row in cells
    ]
    words += [
        "",
        f"In {alarms} of {len(clean)} clean sets of {settings['clean_n']} images (MNIST, Fashion-MNIST) "
        "something was called found.",
        "",
        repeat("backdoor", 20),
    ]
    return replaced(text, "backdoor", "\n".join(words))


def _key(row):
    return f"{row['attack']}, {row['poisoned']}"


def _removed(row):
    return "" if row is None else f"{row['success']:.1%}, {100 * row['accuracy_change']:+.1f}"
