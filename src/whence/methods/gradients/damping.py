"""What a recipe says about the curvature: its weight decay, and a damping from how long it trained.

Kronecker factors are damped by a share of each layer's mean eigenvalue instead (Grosse et al. 2023, appendix
D): a single number for all layers is too much for some of them.
"""

from __future__ import annotations

from whence.study.recipe import SGD, AdamW, Recipe

OF_MEAN_EIGENVALUE = 0.1


def weight_decay(recipe: Recipe) -> float:
    """The L2 penalty's second derivative; 0 for AdamW, whose decay is not a part of the loss."""
    return 0.0 if isinstance(recipe.optimizer, AdamW) else float(recipe.optimizer.weight_decay)


def auto_damping(recipe: Recipe, count: int) -> float:
    """One over the summed learning rates of a run on `count` examples.

    Gradient descent on a curvature h for a time t (the learning rates summed, over 1 - momentum) turns a
    gradient g into a move of (1 - exp(-h t))/h g, where the minimum is g/h away; 1/(h + 1/t) has the same
    limits: t
    along flat directions, 1/h along steep ones. Adam's steps are not in units of the loss; there a rule
    of thumb takes their place: 1e-3.
    """
    optimizer = recipe.optimizer
    if not isinstance(optimizer, SGD):
        return 1e-3
    total = recipe.steps(count)
    rates = sum(optimizer.lr * recipe.schedule.factor(step, total) for step in range(total))
    return (1 - optimizer.momentum) / max(rates, 1e-12)
