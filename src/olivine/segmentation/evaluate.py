"""Scoring a trained network over a split, cloud by cloud, in memory that does not grow with the split."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from olivine.data.loader import Loader
from olivine.host import fetched
from olivine.segmentation.iou import ConfusionMatrix
from olivine.segmentation.task import SegmentationTask

Sink = Callable[[str, NDArray[np.uint8]], object]
"""Takes the token of a frame and the predicted class of each of its points."""


def evaluate(
    task: SegmentationTask,
    loader: Loader,
    classes: int,
    *,
    device: torch.device | str = "cpu",
    sink: Sink | None = None,
) -> ConfusionMatrix:
    """Predict every point of a split and count it against its label.

    Clouds are taken as they are, without augmentation where the loader was made without. Under several processes each
    one handles the frames of its loader and the counts are added up at the end.

    Args:
        task: the trained task; put in evaluation mode, and back as it was afterwards.
        loader: unshuffled batches of the split.
        classes: number of classes C.
        device: where the task is.
        sink: is handed every frame's predictions, [N] uint8 in file order; None keeps none.

    Returns:
        The confusion matrix over all labelled points, and how many frames and points there were; its counts are zero
        where the split has no labels.
    """
    matrix = ConfusionMatrix(classes)
    training = task.training
    task.eval()
    try:
        for batch in loader.batches(epoch=0):
            predictions = fetched(task.predict(batch.to(device)), "the predictions of a batch")
            labels, offsets = batch.cloud.point_labels, batch.cloud.point_offsets
            if labels is not None:
                matrix.update(predictions, labels.cpu())
            _count_frames(matrix, offsets, labels)
            if sink is not None:
                for token, cloud in zip(batch.tokens, _per_frame(predictions, offsets), strict=True):
                    sink(token, cloud)
    finally:
        task.train(training)
    matrix.all_reduce()
    return matrix


def _count_frames(matrix: ConfusionMatrix, offsets: torch.Tensor, labels: torch.Tensor | None) -> None:
    for first, end in pairwise(offsets.tolist()):
        matrix.saw(end - first, None if labels is None else labels[first:end])


def _per_frame(predictions: torch.Tensor, offsets: torch.Tensor) -> list[NDArray[np.uint8]]:
    """Cut predictions [N] of a batch into those of its frames."""
    return [part.numpy() for part in predictions.tensor_split(offsets[1:-1])]
