"""whence: whence did this prediction come?

Learn how every training example shaped a model's output on every target, by retraining on subsets, and put
that knowledge to work::

    import whence

    study = whence.Study(train=(images, labels), targets=(test_images, test_labels), recipe=recipe)
    bank = whence.retrain(study, 2_000, keep=0.5, to="runs/pets.zarr")
    scores = whence.methods.Datamodel().attribute(bank)
    print(whence.evaluate.lds(scores, bank))

Names are imported when first used, so that ``import whence`` is quick and loads neither torch nor any extra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from whence import applications, evaluate, methods, study
    from whence.attribution import Attribution, Effect
    from whence.bank import Bank
    from whence.errors import InputError
    from whence.finding import Finding
    from whence.report import report
    from whence.retraining import retrain
    from whence.study import (
        SGD,
        Adam,
        AdamW,
        Augment,
        Constant,
        Cosine,
        Erase,
        Recipe,
        Stairs,
        Study,
        Triangle,
        datasets,
    )
    from whence.subsets import Plan, Subsets
    from whence.training import networks

__version__ = "0.1.0"

# public name -> the module it lives in
_WHERE: dict[str, str] = {
    "Study": "whence.study",
    "Recipe": "whence.study",
    "SGD": "whence.study",
    "Adam": "whence.study",
    "AdamW": "whence.study",
    "Constant": "whence.study",
    "Stairs": "whence.study",
    "Triangle": "whence.study",
    "Cosine": "whence.study",
    "Augment": "whence.study",
    "Erase": "whence.study",
    "Subsets": "whence.subsets",
    "Plan": "whence.subsets",
    "Bank": "whence.bank",
    "retrain": "whence.retraining",
    "Attribution": "whence.attribution",
    "Effect": "whence.attribution",
    "Finding": "whence.finding",
    "InputError": "whence.errors",
}
# modules that are reached as attributes; `whence.report` can also be called
_ROOMS: dict[str, str] = {
    "methods": "whence.methods",
    "evaluate": "whence.evaluate",
    "applications": "whence.applications",
    "report": "whence.report",
    "study": "whence.study",
    "datasets": "whence.study.datasets",
    "networks": "whence.training.networks",
}

__all__ = [
    "Study",
    "Recipe",
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Stairs",
    "Triangle",
    "Cosine",
    "Augment",
    "Erase",
    "Subsets",
    "Plan",
    "Bank",
    "retrain",
    "Attribution",
    "Effect",
    "Finding",
    "InputError",
    "methods",
    "evaluate",
    "applications",
    "report",
    "study",
    "datasets",
    "networks",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _ROOMS:
        value = importlib.import_module(_ROOMS[name])
    else:
        raise AttributeError(f"module 'whence' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
