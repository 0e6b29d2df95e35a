"""The second stage of PV-RCNN (Shi et al., CVPR 2020, arXiv 1912.13192, 3.3): a score and a code per proposal."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RoiOutputs:
    """What the second stage says of the proposals of a batch. B frames, R proposals a frame.

    Attributes:
        logits: [B, R] logit of the score, which is the probability that the box is right.
        codes: [B, R, 7] codes of the boxes, as of `olivine.detectors.pv_rcnn.roi_frame.encode_in_rois`.
    """

    logits: Tensor
    codes: Tensor
