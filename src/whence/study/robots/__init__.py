"""Robot demonstrations as examples: episodes become steps, and steps train a behaviour-cloning policy.

from whence.study import robots

prior = robots.read("demonstrations.npz")
study = robots.cloning_study(prior, targets, robots.cloning_recipe(prior, epochs=20, batch_size=1024))
"""

from whence.study.robots.behaviours import Behaviour, EarlyStop, Expert, RandomWalk, WrongGoal
from whence.study.robots.cloning import cloning_recipe, cloning_study, target_groups, target_ids
from whence.study.robots.demonstrations import Demonstrations
from whence.study.robots.files import from_lerobot, read
from whence.study.robots.generation import generate
from whence.study.robots.policy_loss import TanhGaussian
from whence.study.robots.simulator import Simulator

__all__ = [
    "Behaviour",
    "Demonstrations",
    "EarlyStop",
    "Expert",
    "RandomWalk",
    "Simulator",
    "TanhGaussian",
    "WrongGoal",
    "cloning_recipe",
    "cloning_study",
    "from_lerobot",
    "generate",
    "read",
    "target_groups",
    "target_ids",
]
