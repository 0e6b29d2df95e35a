"""DeepCluster: deep clustering for unsupervised learning (Caron et al., arXiv 1807.05520), for LiDAR.

Before each epoch the features of all regions of all scans are clustered by k-means; during the epoch the backbone
learns to tell each region's cluster, under augmentation, through a linear classifier that starts anew.

    cloud ── backbone ── mean per region ─┬─ between epochs: whitening ── k-means ── assignments
                                          └─ ReLU ── classifier ── cross-entropy with them
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from olivine.backbones import Backbone, BackboneConfig
from olivine.config import Config
from olivine.data.batch import Batch
from olivine.data.needs import Inputs, Needs
from olivine.host import sent, waiting
from olivine.methods.base import Method
from olivine.methods.deepcluster.assignments import Assignments, agreement
from olivine.methods.deepcluster.losses import balanced_cross_entropy
from olivine.methods.deepcluster.regions import RegionConfig, regions
from olivine.methods.deepcluster.whitening import Whitening
from olivine.methods.parts.gather import gather_rows
from olivine.methods.parts.kmeans import kmeans, nearest
from olivine.rows import take_rows
from olivine.streams import torch_stream

_CLASSIFIER_SPREAD = 0.01
"""Standard deviation of the weights of a fresh classifier, as published."""
_ROWS = 65536
"""Regions that are whitened at a time."""


class DeepClusterConfig(Config):
    """Deep clustering: group features, learn to predict the groups, group again."""

    name: Literal["deepcluster"] = "deepcluster"
    """Chooses this method."""
    regions: RegionConfig = Field(default_factory=RegionConfig)
    """What is clustered."""
    feature_dim: int = Field(default=64, ge=2)
    """Size of the features that are pooled and clustered."""
    clusters: int = Field(default=512, ge=2)
    """Number of clusters K; published are 10 000 for ImageNet's 1.3 million images, ten for each class."""
    components: PositiveInt | None = 32
    """Principal components of the features that k-means sees, whitened; null keeps all (published: 256 of 4096)."""
    iterations: PositiveInt = 20
    """Iterations of k-means."""
    fit_regions: PositiveInt = 131_072
    """At most so many regions, drawn at random, settle the centroids; all regions are then assigned to them. The
    default is 256 per cluster; more changes centroids little and takes longer."""

    def build(self, backbone: BackboneConfig, inputs: Inputs) -> DeepCluster:
        """The method around a fresh backbone.

        Args:
            backbone: which 3-D network to train.
            inputs: what its input is.
        """
        return DeepCluster(self, backbone.build(inputs))


class DeepCluster(Method):
    """The method.

    Args:
        config: the settings.
        backbone: the network that is trained.

    Attributes:
        classifier: tells a region's cluster from its feature.
        assignments: the cluster of every region of the dataset.
        nmi: float64, how much of the previous assignments the present ones keep, in 0…1; 0 in the first epoch.
        moved: float64, share of regions whose companions of the previous assignments are mostly elsewhere now.
    """

    nmi: Tensor
    moved: Tensor

    def __init__(self, config: DeepClusterConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.needs = Needs()
        self.backbone = backbone
        self.heads = nn.ModuleDict({"point": backbone.pretraining_head(config.feature_dim)})
        self.classifier = nn.Linear(config.feature_dim, config.clusters)
        self.assignments = Assignments()
        self.register_buffer("nmi", torch.zeros((), dtype=torch.float64))
        self.register_buffer("moved", torch.ones((), dtype=torch.float64))

    def start_epoch(self, epoch: int, batches: Callable[[], Iterator[Batch]]) -> None:  # noqa: ARG002
        """Cluster the features of all regions, and start a classifier of the new clusters.

        Each process looks at its share of the frames. The centroids follow from regions of all processes and are the
        same whatever their number; each process assigns its own regions, and all learn of all assignments. Whatever is
        random follows from the seed of the first batch of the first process, so from the run's seed and the epoch.

        Args:
            epoch: which epoch; not used, since the seeds of the batches depend on it.
            batches: gives every frame of this process's share once.
        """
        with waiting("a look at all scans between epochs", self.nmi.device):
            self._cluster(batches)

    def _cluster(self, batches: Callable[[], Iterator[Batch]]) -> None:
        keys, features, seed = self._look(batches())
        generator = torch_stream("clusters", seed)
        sample = self._sample(keys, features, generator)
        if len(sample):
            whiten = Whitening.of(sample, self.config.components)
            centroids = kmeans(whiten(sample), self.config.clusters, generator, iterations=self.config.iterations)
            labels = torch.cat([nearest(whiten(part), centroids) for part in torch.split(features, _ROWS)])
        else:
            labels = keys[:0]
        self._assign(gather_rows(keys), gather_rows(labels))
        with torch.no_grad():
            weight = torch.randn(self.classifier.weight.shape, generator=generator) * _CLASSIFIER_SPREAD
            self.classifier.weight.copy_(weight)
            self.classifier.bias.zero_()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of one batch.

        Args:
            batch: any batch; nothing but its cloud and `samples` is looked at. Regions that were not there when the
                assignments were made take no part.

        Returns:
            `loss`; for the log the `accuracy` of the classifier on this batch, the number of `regions` that took part,
            how many `clusters` have a region, `nmi` and `moved` (see the attributes), and the diagnostics of the
            embedding of regions against their clusters' rows of the classifier.
        """
        with self.stage("backbone"):
            features = self.embed(batch.cloud).of_voxels()
        with self.stage("loss"):
            places = regions(batch, self.config.regions)
            labels = self.assignments.look_up(places.keys)
            assigned = (labels >= 0).nonzero()[:, 0]
            hidden = take_rows(torch.relu(places.mean(features)), sent(assigned, features.device))
            labels = sent(labels[assigned], features.device)
            logits = self.classifier(hidden)
            sizes = sent(self.assignments.sizes(self.config.clusters), features.device)
            return {
                "loss": balanced_cross_entropy(logits, labels, sizes),
                "accuracy": (logits.argmax(1) == labels).sum() / max(1, len(labels)),
                "regions": torch.tensor(float(len(labels))),
                "clusters": (sizes > 0).sum().float(),
                "nmi": self.nmi.float(),
                "moved": self.moved.float(),
                **self.diagnostics(hidden, take_rows(self.classifier.weight, labels)),
                **self.learned_from("regions with a cluster", len(labels)),
            }

    @torch.no_grad()
    def _look(self, batches: Iterator[Batch]) -> tuple[Tensor, Tensor, int]:
        """Names and features of the regions of this process's frames, and the seed that all processes agree on.

        The network is in evaluation mode, as published: a region's feature depends on its scan alone, not on the scans
        that happen to share its batch nor on the number of processes, and no running statistics move. Before the first
        epoch these are those of nothing, which does not matter: on the simulated world the first clusters then explain
        40 % of the variance of the regions' class shares, and 41 % with the statistics of each batch (chance: 2 %).
        """
        device = self.classifier.weight.device
        keys, features, seeds = [torch.empty(0, dtype=torch.int64, device=device)], [], []
        training = self.training
        self.eval()
        for batch in batches:
            places = regions(batch, self.config.regions)
            keys.append(places.keys.to(device))
            features.append(places.mean(self.embed(batch.cloud).of_voxels()))
            seeds.append(batch.seed)
        self.train(training)
        features = features or [self.classifier.weight.new_empty(0, self.config.feature_dim)]
        first = gather_rows(torch.tensor(seeds[:1], dtype=torch.int64, device=device))
        return torch.cat(keys), torch.cat(features), int(first[0]) if len(first) else 0

    def _sample(self, keys: Tensor, features: Tensor, generator: torch.Generator) -> Tensor:
        """[S, D] features of regions drawn from all processes, in the order of their names."""
        everywhere = gather_rows(keys).sort().values
        drawn = torch.randperm(len(everywhere), generator=generator)[: self.config.fit_regions]
        own = torch.isin(keys, everywhere[drawn.to(keys.device)])
        names, sample = gather_rows(keys[own]), gather_rows(features[own])
        return sample[names.argsort()]

    def _assign(self, keys: Tensor, labels: Tensor) -> None:
        """Take new assignments, and note how far they are from the previous ones."""
        keys, labels = keys.cpu(), labels.cpu()
        previous = self.assignments.look_up(keys)
        both = previous >= 0
        nmi, moved = agreement(previous[both], labels[both])
        self.nmi.fill_(nmi)
        self.moved.fill_(moved)
        self.assignments.replace(keys, labels)
