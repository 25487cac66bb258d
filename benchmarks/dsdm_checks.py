"""Parts of the DsDm benchmark: scores kept on disk, predicted against realised losses, what was chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import whence
from benchmarks.dsdm_pool import Material
from whence.applications.selection import SelectionFinding, Selector
from whence.evaluate.ceiling import noise_ceiling
from whence.evaluate.correlation import Resamples, correlations


@dataclass(frozen=True, eq=False)
class Remembered(Selector):
    """A rule whose scores are kept on disk."""

    rule: Selector
    folder: Path

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def needs(self) -> tuple[str, ...]:
        return self.rule.needs

    @property
    def targeted(self) -> bool:
        return self.rule.targeted

    @property
    def random(self) -> bool:
        return self.rule.random

    def scores(self, pool, seed=0):
        name = re.sub(r"\W+", "-", f"{self.name}-{pool.task if self.targeted else 'all'}-{seed}")
        path = self.folder / f"{name}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            found = self.rule.scores(pool, seed)
            np.save(path, found, allow_pickle=False)
        return np.load(path, allow_pickle=False)


def predicted(result, scores, study, tasks, settings, folder, device) -> tuple[float, tuple[float, float]]:
    """Predicted against realised mean loss of the report halves, over random subsets."""
    bank = whence.retrain(
        study,
        settings["subsets"] * settings["subset_seeds"],
        keep=settings["keep"],
        to=folder / "subsets.zarr",
        seed=settings["seed"] + 1,
        seeds=settings["subset_seeds"],
        validation=0.0,
        held_out=0.0,
        workers=settings["workers"],
        device=device,
        progress=False,
    )
    runs = bank.by_mask("train", "loss")
    place = {identity: i for i, identity in enumerate(bank.target_ids.tolist())}
    means = [np.asarray(runs.outputs)[:, :, [place[i] for i in ids]].mean(2) for _, ids in tasks.values()]
    realised = np.stack(means, 2).astype(np.float64)  # (subsets, seeds, tasks)
    weights = scores.data["weight"].sel(target=list(tasks)).values
    expected = np.asarray(runs.masks, np.float64) @ weights.T
    observed = realised.mean(1)
    each = correlations(expected, observed, "spearman")
    resamples = Resamples(len(expected), len(tasks), 1000, 0)
    draws = resamples.mean_over_targets(resamples.correlations(expected, observed, "spearman"))
    mean, ends = float(each.mean()), resamples.interval(draws, float(each.mean()))
    ceiling = noise_ceiling(realised, "spearman")
    for i, task in enumerate(tasks):
        result.row(
            task=task,
            lds=float(each[i]),
            ceiling=noise_ceiling(realised[:, :, i : i + 1], "spearman").ceiling,
            subsets=len(expected),
            seeds=realised.shape[1],
            spread_of_loss=float(observed[:, i].std(ddof=1)),
        )
    result.row(
        task="mean",
        lds=mean,
        ceiling=ceiling.ceiling,
        subsets=len(expected),
        seeds=realised.shape[1],
        spread_of_loss=float(observed.std(0, ddof=1).mean()),
    )
    result.details["predicted"] = {
        task: {"predicted": expected[:, i], "realised": observed[:, i]} for i, task in enumerate(tasks)
    }
    return mean, ends


def composition(finding: SelectionFinding, data: Material, settings: dict[str, Any]) -> dict[str, Any]:
    """Shares of the domains in what each rule chose at the smallest fraction, and in the pool."""
    names = data.candidates.names
    share = {"pool": {name: float((names == name).mean()) for name in data.raw_bytes}}
    for choice in finding.choices:
        if choice.fraction != min(settings["fractions"]):
            continue
        chosen = names[np.concatenate(choice.draws)]
        key = choice.selector if choice.task is None else f"{choice.selector} for {choice.task}"
        share[key] = {
            name: round(float((chosen == name).mean()), 4)
            for name in data.raw_bytes
            if (chosen == name).any()
        }
    return share
