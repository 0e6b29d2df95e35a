"""The loss of STRL, which is that of BYOL (arXiv 2006.07733, eq. 2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared distance of unit vectors: `mean_b ‖p_b/‖p_b‖ − z_b/‖z_b‖‖² = mean_b (2 − 2 cos(p_b, z_b))`.

    Args:
        prediction: [B, D] what the online network predicts of each frame's other view, B ≥ 1.
        target: [B, D] what the target network made of it.

    Returns:
        Scalar in 0…4, float32 or wider also for half-precision features.
    """
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    cosine = (normalize(prediction.to(dtype)) * normalize(target.to(dtype))).sum(1)
    return 2 - 2 * cosine.mean()
