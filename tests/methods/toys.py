"""Small batches with everything a method may ask for, made from a seed, and a backbone that takes no time."""

import torch
from torch import nn
from torch.nn.functional import normalize

from olivine.data.batch import Batch, Cloud, PixelPairs
from olivine.sparse import SparseTensor


def toy_batch(
    *, frames=2, voxels=60, pairs=40, images=2, classes=4, size=(32, 24), seed=0, draw_seed=0, labelled=True
) -> Batch:
    """A batch of `frames` clouds of `voxels` voxels, `pairs` pairs in all and `images` images a frame.

    Args:
        size: (width, height) of the images.
        seed: draws the content.
        draw_seed: `Batch.seed`.
        labelled: draw weak labels, a tenth of them unknown; otherwise all are unknown.
    """
    generator = torch.Generator().manual_seed(seed)
    coordinates = torch.cat([_voxels(frame, voxels, generator) for frame in range(frames)])
    count = len(coordinates)
    voxel = torch.randint(count, (pairs,), generator=generator)
    label = torch.randint(classes, (pairs,), generator=generator)
    label[torch.rand(pairs, generator=generator) < (0.1 if labelled else 2.0)] = 255
    cloud = Cloud(
        coordinates=coordinates,
        features=torch.rand(count, 1, generator=generator),
        points_m=coordinates[:, 1:].float() * 0.1,
        point_voxel=torch.arange(count),
        point_offsets=torch.arange(frames + 1) * voxels,
    )
    return Batch(
        tokens=tuple(str(frame) for frame in range(frames)),
        cloud=cloud,
        images=torch.rand(frames * images, 3, size[1], size[0], generator=generator),
        pairs=PixelPairs(
            point=voxel,
            voxel=voxel,
            # Each voxel's pixels lie in the images of its own frame.
            image=coordinates[voxel, 0].long() * images + torch.randint(images, (pairs,), generator=generator),
            uv=torch.rand(pairs, 2, generator=generator) * (torch.tensor(size) - 1),
            label=label,
            range_m=1 + 50 * torch.rand(pairs, generator=generator) ** 2,
        ),
        seed=draw_seed,
    )


def _voxels(frame: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """[count, 4] distinct voxels of one frame."""
    side = max(4, round(2 * count ** (1 / 3)))
    flat = torch.randperm(side**3, generator=generator)[:count]
    xyz = torch.stack([flat // side**2, flat // side % side, flat % side], dim=1)
    return torch.cat([torch.full((count, 1), frame), xyz], dim=1).int()


class ToyBackbone(nn.Module):
    """A backbone that looks at one voxel at a time: fast, with batch statistics, and the heads of a real one."""

    def __init__(self, out_channels: int, *, class_head: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(16, out_channels) for _ in range(1 + class_head))

    def forward(self, tensor: SparseTensor) -> SparseTensor | tuple[SparseTensor, ...]:
        position = tensor.coordinates[:, 1:].to(tensor.features.dtype) / 10
        hidden = self.stem(torch.cat([tensor.features, position], dim=1))
        levels = tuple(tensor.replace(normalize(head(hidden))) for head in self.heads)
        return levels if len(levels) > 1 else levels[0]
