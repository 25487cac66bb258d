"""What attributions are good for. Each application is a function in a file of its own that returns a Finding.

All keep to one form, ``X(attribution, study=None, ...)``. Without a study the finding is what the attribution
predicts and says that it was not verified; with one the claim is checked by retraining, as it is by
``finding.verify(study)`` later. A finding is an `Applied`: its sentence, table, figure and pictures are plain
data that `whence.report` draws and ``print`` shows, and further fields hold the result in its own terms.
"""

from whence.applications.applied import Applied
from whence.applications.backdoor import (
    Backdoor,
    Gain,
    backdoor,
    expected_ratio,
    measured_gain,
    retrainings_needed,
)
from whence.applications.calibration import Calibration, calibrate
from whence.applications.compare_recipes import compare_recipes
from whence.applications.compare_support import SupportComparison, compare_support
from whence.applications.embedding import Embedding, embedding
from whence.applications.feature_effects import Contrast, FeatureEffect, FeatureEffects, feature_effects
from whence.applications.groups import GroupEffect, Groups, groups
from whence.applications.halves import Halves
from whence.applications.keep import Keep, keep
from whence.applications.leakage import leakage
from whence.applications.leakage_finding import Detection, Judged, Leakage, Suspect
from whence.applications.linearity import Linearity, linearity
from whence.applications.mislabels import mislabels
from whence.applications.mislabels_cleaning import Arm, Cleaning
from whence.applications.mislabels_finding import Mislabel, Mislabels, RankingScore, Recovery
from whence.applications.pixel_matches import best_matches, pixel_correlation, pixel_similarity
from whence.applications.planting import Pair, Planted, plant_duplicates
from whence.applications.recipe_comparison import RecipeComparison
from whence.applications.residuals import Direction
from whence.applications.selection import SelectionFinding, compare_selections
from whence.applications.support import support
from whence.applications.support_finding import Certified, Support
from whence.applications.support_search import TargetSupport
from whence.applications.survival import Curve, LogRank, kaplan_meier, log_rank
from whence.applications.unlearning import (
    Certificate,
    Challenge,
    KLoM,
    ULiRA,
    certify,
    challenge_score,
    forget_sets,
    klom,
    ulira,
)

__all__ = [
    "Applied",
    "Arm",
    "Backdoor",
    "Calibration",
    "Certificate",
    "Certified",
    "Challenge",
    "Cleaning",
    "Curve",
    "Detection",
    "Embedding",
    "Contrast",
    "Direction",
    "FeatureEffect",
    "FeatureEffects",
    "GroupEffect",
    "Gain",
    "Groups",
    "Halves",
    "Judged",
    "KLoM",
    "Keep",
    "Leakage",
    "Linearity",
    "LogRank",
    "Mislabel",
    "Mislabels",
    "Pair",
    "Planted",
    "RankingScore",
    "Recovery",
    "RecipeComparison",
    "SelectionFinding",
    "Support",
    "SupportComparison",
    "Suspect",
    "TargetSupport",
    "ULiRA",
    "backdoor",
    "best_matches",
    "calibrate",
    "certify",
    "challenge_score",
    "compare_selections",
    "compare_support",
    "compare_recipes",
    "feature_effects",
    "expected_ratio",
    "groups",
    "embedding",
    "forget_sets",
    "kaplan_meier",
    "keep",
    "klom",
    "leakage",
    "linearity",
    "log_rank",
    "measured_gain",
    "mislabels",
    "pixel_correlation",
    "pixel_similarity",
    "plant_duplicates",
    "retrainings_needed",
    "support",
    "ulira",
]
