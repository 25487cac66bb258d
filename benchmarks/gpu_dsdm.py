"""On a GPU: the DsDm benchmark with sixteen trainings of every choice and twenty proxies.

The pool, the targets, the recipes and the rules are those of `dsdm`. What a GPU adds is numbers: DsDm
averages TRAK over twenty proxies in place of four, every choice is trained on sixteen times in place of
three, and the predicted loss is held against 300 random subsets in place of 60. Choices are of one size, the
smaller.
"""

from __future__ import annotations

import time

from benchmarks import dsdm
from benchmarks.harness import RUNS, Result, need_cuda

FULL = dsdm.FULL | {"fractions": (0.05,), "checkpoints": 20, "seeds": 16, "subsets": 300, "workers": 0}


def run(quick: bool = False) -> Result:
    name, start = need_cuda(), time.perf_counter()
    settings = dsdm.QUICK if quick else FULL
    result = dsdm.measure("gpu/dsdm", settings, RUNS / f"dsdm-gpu-n{settings['rows']}", "cuda")
    result.settings["gpu"] = name
    result.details["wall_seconds"] = round(time.perf_counter() - start, 1)
    return result
