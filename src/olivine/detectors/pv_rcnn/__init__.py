"""PV-RCNN: boxes of objects in two stages (Shi et al., CVPR 2020, arXiv 1912.13192), a file for each of its parts."""

from olivine.detectors.pv_rcnn.network import PvRcnn, PvRcnnConfig

__all__ = ["PvRcnn", "PvRcnnConfig"]
