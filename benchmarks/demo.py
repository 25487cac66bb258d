"""`make demo` as a benchmark: its time, its LDS against baselines, and its removals checked by retraining.

Run it on a machine that does nothing else; the time counts everything after the installation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.harness import Result
from whence.cli.demo import MODELS
from whence.cli.demo import run as demo

BASELINES = ("penultimate features", "pixels", "random")


def run(quick: bool = False) -> Result:
    """Run the demo into a temporary folder and hold it to what it promises."""
    with tempfile.TemporaryDirectory() as folder:
        found = demo(Path(folder), models=400 if quick else MODELS, quiet=True)
    scores, checked = found["comparison"]["scores"], found["counterfactual"]
    main = scores["datamodels"]
    result = Result(
        "demo",
        {
            "n": main["n"],
            "retrainings": found["retrainings"],
            "keep": main["keep"],
            "held_out_masks": main["n_masks"],
            "seeds_per_mask": main["seeds"],
            "targets_removed_for": checked["targets"],
            "retrainings_per_removal": checked["retrainings"],
        },
    )
    for name, score in scores.items():
        low, high = score["interval"]
        result.row(method=name, lds=score["mean"], low=low, high=high, ceiling=score["ceiling"])
    for row in checked["rows"]:
        result.row(
            **{key: row[key] for key in ("target", "kind", "k", "predicted", "realised", "realised_se")}
        )
    best = max(scores[name]["interval"][1] for name in BASELINES)
    overall = checked["overall"]
    result.claim("seconds after the installation", found["seconds"], at_most=240)
    result.claim("retrainings", found["retrainings"], at_least=1000)
    result.claim(
        "LDS: lower end of the datamodels above every baseline's upper end",
        main["interval"][0] - best,
        at_least=0.0,
    )
    result.claim(
        "Spearman of predicted with realised change, over targets and sizes",
        overall["spearman"],
        at_least=0.8,
        interval=overall["spearman_interval"],
    )
    result.claim("targets whose removals were verified", checked["targets"], at_least=5)
    return result
