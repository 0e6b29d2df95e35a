"""DeepCluster: the method, its settings, and the formulas it is made of."""

from olivine.methods.deepcluster.assignments import Assignments, agreement
from olivine.methods.deepcluster.losses import balanced_cross_entropy
from olivine.methods.deepcluster.method import DeepCluster, DeepClusterConfig
from olivine.methods.deepcluster.regions import RegionConfig, Regions, regions
from olivine.methods.deepcluster.whitening import Whitening

__all__ = [
    "Assignments",
    "DeepCluster",
    "DeepClusterConfig",
    "RegionConfig",
    "Regions",
    "Whitening",
    "agreement",
    "balanced_cross_entropy",
    "regions",
]
