"""KITTI's scores of detected objects: average precision in the image, from above, in space, and of the heading."""

from olivine.detection.kitti.average_precision import average_precision
from olivine.detection.kitti.folders import score_folders
from olivine.detection.kitti.rules import CLASSES, read_class_rules
from olivine.detection.kitti.scores import KittiScores

__all__ = ["CLASSES", "KittiScores", "average_precision", "read_class_rules", "score_folders"]
