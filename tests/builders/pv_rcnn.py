"""PV-RCNN as the tests have it: as narrow as in the reference outputs, and on a grid that takes no time."""

import numpy as np
import torch

from builders.second import KITTI_VOXELS
from olivine.backbones import VoxelNetConfig
from olivine.data.needs import Inputs
from olivine.detectors.parts.birds_eye_backbone import BirdsEyeConfig
from olivine.detectors.pv_rcnn import PvRcnnConfig
from olivine.detectors.pv_rcnn.keypoint_head import KeypointHeadConfig
from olivine.detectors.pv_rcnn.proposals import EvaluationProposals, ProposalConfig, TrainingProposals
from olivine.detectors.pv_rcnn.roi_head import RoiHeadConfig
from olivine.detectors.pv_rcnn.roi_pooling import RoiGridConfig
from olivine.detectors.pv_rcnn.roi_targets import RoiTargetConfig
from olivine.detectors.pv_rcnn.set_abstraction import VoxelSetAbstractionConfig

NARROW_MLPS = ((8, 8), (6, 8))
SMALL_VOXELS = KITTI_VOXELS.model_copy(update={"bounds_m": (0, -6.4, -3, 12.8, 6.4, 1)})


def narrow_config(keypoints=512, **changes):
    """The network of the reference outputs: the encoder at full width, everything after it narrow."""
    published = PvRcnnConfig()
    looks = ("raw_points", "x_conv1", "x_conv2", "x_conv3", "x_conv4")
    narrow = {name: getattr(published.set_abstraction, name).model_copy(update={"mlps": NARROW_MLPS}) for name in looks}
    return PvRcnnConfig(
        birds_eye=BirdsEyeConfig(layers=(2, 2), channels=(8, 12), up_channels=(10, 14)),
        set_abstraction=VoxelSetAbstractionConfig(keypoints=keypoints, channels=16, **narrow),
        keypoint_head=KeypointHeadConfig(channels=(16, 16)),
        roi_head=RoiHeadConfig(grid=RoiGridConfig(mlps=NARROW_MLPS), shared=(24, 20), scores=(16, 14), boxes=(16, 14)),
        **changes,
    )


def small_config(**changes):
    """Narrow, with few keypoints and proposals."""
    proposals = ProposalConfig(
        training=TrainingProposals(candidates=300, keep=40), evaluation=EvaluationProposals(candidates=100, keep=20)
    )
    own = {"proposals": proposals, "roi_targets": RoiTargetConfig(samples=16), **changes}
    return narrow_config(own.pop("keypoints", 64), **own)


def small_network(dtype=torch.float32, **changes):
    """A small network on the grid of `random_frame`."""
    torch.manual_seed(0)
    return small_config(**changes).build(VoxelNetConfig(), Inputs(SMALL_VOXELS)).to(dtype)


def points_of(frame):
    """[N, 4] points in the middles of a frame's voxels (see `random_frame`), with intensities."""
    features, indices = frame
    low, size = np.array(SMALL_VOXELS.bounds_m[:3]), np.array(SMALL_VOXELS.size_m)
    return np.column_stack(((indices[:, ::-1] + 0.5) * size + low, np.abs(features[:, 3]) % 1)).astype(np.float32)
