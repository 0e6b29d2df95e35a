"""Detectors, one file or folder each, and the choice between them; `parts` is what several are made of."""

from typing import Annotated, TypeAlias

from olivine.components import Open
from olivine.detectors.base import Detector, OwnDetectorConfig
from olivine.detectors.parts.detections import Detections
from olivine.detectors.pv_rcnn import PvRcnnConfig
from olivine.detectors.second import SecondConfig

DetectorConfig: TypeAlias = Annotated[SecondConfig | PvRcnnConfig | OwnDetectorConfig, Open()]
"""The choice of detector in a recipe, told apart by `name`; each has `classes` and `build(backbone, inputs)`."""

__all__ = ["Detections", "Detector", "DetectorConfig", "OwnDetectorConfig", "PvRcnnConfig", "SecondConfig"]
