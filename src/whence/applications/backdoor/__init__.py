"""Backdoors: attacks on studies of images, how well they work, and finding the poisoned examples."""

from whence.applications.backdoor.attack import Poisoned, poison
from whence.applications.backdoor.defences import (
    activation_clustering,
    at_random,
    baselines,
    losses,
    self_influence,
    spectral_signatures,
    whitened_outliers,
)
from whence.applications.backdoor.detect import backdoor
from whence.applications.backdoor.finding import Backdoor, Group
from whence.applications.backdoor.forecast import Gain, expected_ratio, measured_gain, retrainings_needed
from whence.applications.backdoor.harden import Adversarial, Interpolated
from whence.applications.backdoor.measure import AttackSuccess, attack_success
from whence.applications.backdoor.null import Reproduced
from whence.applications.backdoor.removal import Change, Removal
from whence.applications.backdoor.triggers import Blend, Corners, Patch, Pixel, Split, Trigger

__all__ = [
    "Adversarial",
    "AttackSuccess",
    "Backdoor",
    "Blend",
    "Change",
    "Corners",
    "Gain",
    "Group",
    "Interpolated",
    "Patch",
    "Pixel",
    "Poisoned",
    "Removal",
    "Reproduced",
    "Split",
    "Trigger",
    "activation_clustering",
    "at_random",
    "attack_success",
    "backdoor",
    "baselines",
    "expected_ratio",
    "losses",
    "measured_gain",
    "poison",
    "retrainings_needed",
    "self_influence",
    "spectral_signatures",
    "whitened_outliers",
]
