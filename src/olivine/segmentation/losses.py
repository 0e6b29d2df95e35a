"""The two losses of segmentation on voxels: cross-entropy and the Lovász-softmax.

Labels are training classes 1…C with 0 for ignored. The network has one output per real class, so column `c - 1`
belongs to class `c`: the ignored class is neither predicted nor counted. Shape letters: V voxels, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from olivine.data.labels import IGNORED
from olivine.host import fetched, sent
from olivine.rows import take_rows


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy averaged over the labelled voxels.

    Args:
        logits: [V, C] scores, column `c - 1` for class `c`.
        labels: [V] int64 training class 1…C, 0 ignored.

    Returns:
        Scalar; zero, still attached to the graph, where no voxel is labelled.
    """
    total = F.cross_entropy(logits, labels - 1, ignore_index=IGNORED - 1, reduction="sum")
    return total / (labels != IGNORED).sum().clamp(min=1)


def lovasz_softmax(probabilities: Tensor, labels: Tensor, classes: Literal["present", "all"] = "present") -> Tensor:
    """Lovász-softmax: the convex extension of the Jaccard loss, averaged over classes.

    Berman, Triki & Blaschko, *The Lovász-Softmax loss*, CVPR 2018 (arXiv 1705.08790), equations 8, 9 and 11. All
    labelled voxels of the batch are taken together.

    Args:
        probabilities: [V, C] class probabilities, column `c - 1` for class `c`.
        labels: [V] int64 training class 1…C, 0 ignored; best on the CPU, since the host has to know.
        classes: `"present"` averages over the classes that occur in `labels`, as in the paper's experiments; `"all"`
            over all C.

    Returns:
        Scalar in 0…1; zero, still attached to the graph, where no voxel is labelled.
    """
    device, known = probabilities.device, fetched(labels, "which voxels have a label")
    rows = (known != IGNORED).nonzero()[:, 0]
    if len(rows) == 0:
        return probabilities.sum() * 0.0
    counts = torch.bincount(known[rows] - 1, minlength=probabilities.shape[1])
    wanted = sent((counts > 0 if classes == "present" else counts >= 0).nonzero()[:, 0], device)
    labelled = sent(rows, device)
    target = sent(known[rows] - 1, device)
    # One row per class: the sort below then runs over contiguous memory.
    chosen = take_rows(take_rows(probabilities, labelled).t(), wanted)
    chosen = chosen.to(torch.promote_types(chosen.dtype, torch.float32))
    foreground = target == wanted[:, None]
    errors = torch.where(foreground, 1.0 - chosen, chosen)
    with torch.no_grad():
        order = errors.argsort(dim=1, descending=True)
        slopes = _jaccard_slopes(foreground.gather(1, order), errors.dtype)
        weights = torch.empty_like(slopes).scatter_(1, order, slopes)
    return (errors * weights).sum(1).mean()


def _jaccard_slopes(foreground: Tensor, dtype: torch.dtype) -> Tensor:
    """How much the Jaccard loss grows as each voxel joins the set of wrong ones, in the given order.

    With G voxels of the class, of which I are still right after F of them and B others went wrong, the loss is
    1 − I/U with I = G − F and U = G + B. One more of the class adds 1/U, one more of the others adds I/((U − 1)·U).
    Written so, no two nearly equal losses are subtracted, which in float32 costs all digits on large clouds.

    Args:
        foreground: [C, V] bool, whether the voxel belongs to the class, by falling error.
        dtype: of the result.

    Returns:
        [C, V] slopes, each row summing to 1.
    """
    wrong_inside = foreground.cumsum(1)
    size = wrong_inside[:, -1:]
    rank = torch.arange(1, foreground.shape[1] + 1, device=foreground.device)
    union = (size + rank - wrong_inside).to(dtype)
    right = (size - wrong_inside).to(dtype)
    # A class without voxels has an empty union before the first error; that error alone makes the loss 1.
    outside = torch.where(union > 1, right / (union - 1).clamp(min=1), (size == 0).to(dtype))
    return torch.where(foreground, 1.0, outside) / union
