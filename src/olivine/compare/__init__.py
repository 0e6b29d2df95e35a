"""Arms × protocols × seeds from one recipe into one table.

An arm is a pretraining recipe, or none (training from scratch). A protocol is a segmentation recipe. Every run is an
ordinary run folder under `<out>/<name>/`; a comparison that is started again skips what is done and continues what
was interrupted.
"""

from olivine.compare.config import ArmReference, CompareConfig, ProtocolReference, RecipeReference
from olivine.compare.jobs import Failure
from olivine.compare.plan import pretraining_folder
from olivine.compare.results import Comparison
from olivine.compare.run import check_recipes, compare

__all__ = [
    "ArmReference",
    "CompareConfig",
    "Comparison",
    "Failure",
    "ProtocolReference",
    "RecipeReference",
    "check_recipes",
    "compare",
    "pretraining_folder",
]
