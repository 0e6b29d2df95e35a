"""Running statistics for a network that has none: batch norms see data, no weight changes.

A random network in evaluation mode normalises by statistics that it never collected, so its features hardly differ from
point to point, and probing it is a floor that anything clears. With statistics of the training scans it is the random
projection that probing should be measured against.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import count

import torch
from torch import nn

from olivine.data.batch import Batch
from olivine.data.loader import Loader
from olivine.engine.distribution import Distribution
from olivine.segmentation.task import SegmentationTask


def calibrate(task: SegmentationTask, loader: Loader, batches: int, processes: Distribution) -> None:
    """Replace the running statistics of the backbone's batch norms by their mean over training batches.

    The batches are the first ones of the training, so the result depends on the seed alone; the first process's
    statistics are everyone's.

    Args:
        task: whose backbone is calibrated, in place; moved to the device, and put back in its mode afterwards.
        loader: the training batches.
        batches: how many, over as many epochs as it takes.
        processes: the processes.
    """
    task.to(processes.device)
    norms = [module for module in task.backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    training = task.training
    task.backbone.train()
    with torch.no_grad(), closing(_forever(loader)) as stream:
        for _ in range(batches):
            cloud = next(stream).to(processes.device).cloud
            task.backbone(cloud)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    task.train(training)
    processes.share_buffers(task)


def _forever(loader: Loader) -> Generator[Batch]:
    for epoch in count():
        yield from loader.batches(epoch)
