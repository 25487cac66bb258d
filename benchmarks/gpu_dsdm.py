"""On a GPU: the DsDm benchmark with sixteen trainings of every choice, and a final model of fifteen proxies.

The pool, the targets, the proxy's recipe and the rules are those of `dsdm`; what a GPU adds is numbers: DsDm
averages TRAK over twenty proxies in place of four, every choice is trained on sixteen times in place of
three, the predicted loss is held against 300 random subsets, and all rules are trained on by the final model
too. That model's learning rate goes with the inverse of its width, as the others' do; on a pilot pool
(`material(pilot=True)`) random choices were worse by 0.1 to 0.6 with twice of it.
"""

from __future__ import annotations

import time

from benchmarks import dsdm
from benchmarks.harness import RUNS, Result, need_cuda

FULL = dsdm.FULL | {
    "final": {"width": 256, "depth": 4, "heads": 4},
    "lr": {"proxy": 3e-3, "final": 7.5e-4},
    "fractions": (0.05,),
    "checkpoints": 20,
    "seeds": 16,
    "subsets": 300,
    "all_rules_on_final": True,
    "workers": 0,
}


def run(quick: bool = False) -> Result:
    name, start = need_cuda(), time.perf_counter()
    settings = dsdm.QUICK | {"all_rules_on_final": True} if quick else FULL
    result = dsdm.measure("gpu/dsdm", settings, RUNS / f"dsdm-gpu-n{settings['rows']}", "cuda")
    result.settings["gpu"] = name
    result.details["wall_seconds"] = round(time.perf_counter() - start, 1)
    return result
