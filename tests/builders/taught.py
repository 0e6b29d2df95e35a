"""A pretraining that has learned: on a road with cars, whose network and image heads bring points and pixels of one
class together. It is taught the classes directly, in seconds, since what is tested is what is seen of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from builders.nuscenes import build_nuscenes
from olivine.backbones import Head, MinkUNetConfig
from olivine.config import dump, load_recipe
from olivine.data.collate import collate
from olivine.data.voxelize import CartesianVoxels
from olivine.engine.checkpoint import Checkpoint
from olivine.explorer.subject.moments import Moments
from olivine.explorer.subject.opening import open_subject
from olivine.explorer.subject.pixels import ImageSide
from olivine.geometry import project, transform_points
from olivine.pretraining.run import PretrainConfig
from olivine.teachers import ImageHead
from olivine.weights.file import describe_heads, save_weights

CAR, ROAD = 17, 24
POINTS, WIDTH, STEPS = 600, 8, 40
SIZE = (128, 72)
_RED, _BLUE = (225, 40, 30), (40, 60, 200)
_VOXELS = CartesianVoxels(size_m=(1.0, 1.0, 0.5))


def build_taught(root: Path) -> Path:
    """`datasets/road` and `runs/taught` below `root`, which is returned."""
    data = build_nuscenes(root / "datasets" / "road", keyframes=2, points=POINTS, size=SIZE, boxes=0)
    for number, path in enumerate(sorted(data.rglob("*.pcd.bin"))):
        _repaint(data, path, number)
    torch.manual_seed(0)
    settings = [
        "data.root=datasets/road", "data.version=v1.0-mini", "out=runs", "name=taught",
        "train_split.split=[scene-0061]", "method.teacher={name: random, seed: 3}", f"images.size={list(SIZE)}",
    ]  # fmt: skip
    config = load_recipe(PretrainConfig, "olivine_nuscenes", settings)
    run = root / "runs" / "taught"
    _save(run, *_networks())
    (run / "config.yaml").write_text(dump(config))
    moments = Moments(open_subject([data, run]))
    _paint_images(moments)
    _teach_points(run, moments)
    _teach_pixels(run, moments)
    return root


def _repaint(data: Path, path: Path, number: int) -> None:
    """A road, and four cars on it."""
    rng = np.random.default_rng((41, number))
    road, cars = POINTS * 2 // 3, POINTS // 3
    turn, away = rng.uniform(0, 2 * np.pi, road), rng.uniform(3, 20, road)
    centres = np.array([[9.0, 1], [-9, 2], [2, 9], [-1, -9]])[np.arange(cars) % 4]
    xyz = np.concatenate(
        [
            np.column_stack([away * np.cos(turn), away * np.sin(turn), np.full(road, -1.8)]),
            np.column_stack([centres + rng.uniform(-1, 1, (cars, 2)), rng.uniform(-1.6, 0.2, cars)]),
        ]
    )
    near_car = (np.abs(xyz[:road, None, :2] - centres[:4]).max(axis=2) < 1.5).any(axis=1)
    xyz[:road][near_car, :2] *= 2.2  # no road below the cars
    intensity = np.where(np.arange(POINTS) < road, 20, 200) + rng.uniform(-15, 15, POINTS)
    np.column_stack([xyz, intensity, np.zeros(POINTS)]).astype("<f4").tofile(path)
    labels = np.where(np.arange(POINTS) < road, ROAD, CAR).astype(np.uint8)
    sorted(data.rglob("*_lidarseg.bin"))[number].write_bytes(labels.tobytes())


def _paint_images(moments: Moments) -> None:
    """Images that are blue, and red where a point of a car falls."""
    for place in range(len(moments)):
        frame = moments.dataset[place]
        cars_m = frame.points_lidar_m[frame.intensity > 100]
        for camera in frame.cameras:
            picture = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
            picture[:] = _BLUE
            uv, depth_m = project(transform_points(camera.camera_from_lidar, cars_m), camera.intrinsics)
            for column, row in uv[depth_m > 0.5]:
                if -5 < column < SIZE[0] + 5 and -5 < row < SIZE[1] + 5:
                    top, left = max(0, int(row) - 5), max(0, int(column) - 5)
                    picture[top : int(row) + 6, left : int(column) + 6] = _RED
            Image.fromarray(picture).save(camera.image_path, quality=97)


def _networks() -> tuple[torch.nn.Module, dict[str, Head]]:
    backbone = MinkUNetConfig(name="minkunet14a", width=0.125, stem=(3,)).of_channels(1)
    return backbone, {name: Head(backbone.channels, WIDTH, unit=True) for name in ("point", "class")}


def _save(run: Path, backbone: torch.nn.Module, heads: dict[str, Head]) -> None:
    about = {
        "task": "pretraining",
        "backbone": MinkUNetConfig(name="minkunet14a", width=0.125, stem=(3,)).model_dump(mode="json"),
        "in_channels": 1,
        "voxels": _VOXELS.model_dump(mode="json"),
        "intensity_max": 255.0,
        "heads": describe_heads(heads),
    }
    save_weights(run, backbone, about, heads)


def _teach_points(run: Path, moments: Moments) -> None:
    """By the cosine with the direction of their class."""
    backbone, heads = _networks()
    model = moments.networks["taught"].model
    frames = [moments.dataset[place] for place in range(len(moments))]
    batch = collate([model.prepare(frame) for frame in frames], seed=0)
    labels = torch.from_numpy(np.concatenate([frame.intensity > 100 for frame in frames])).long()
    rows = (batch.cloud.point_voxel >= 0).nonzero().squeeze(1)
    optimizer = torch.optim.Adam([*backbone.parameters(), *heads["point"].parameters(), *heads["class"].parameters()],
                                 0.02)  # fmt: skip
    for _ in range(STEPS):
        embedding = backbone(batch.cloud)
        loss = sum(
            (1 - embedding.project(head).of_points(rows)[torch.arange(len(rows)), labels[rows]]).mean()
            for head in heads.values()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _save(run, backbone.eval(), {name: head.eval() for name, head in heads.items()})


def _teach_pixels(run: Path, moments: Moments) -> None:
    """By least squares, from what an untrained teacher makes of red and blue."""
    config = load_recipe(PretrainConfig, run / "config.yaml")
    channels = config.method.teacher.build().channels
    head = ImageHead(channels, WIDTH)
    names = {"point": "image_head", "class": "supervision.image_head"}
    state = {f"{prefix}.{name}": value for prefix in names.values() for name, value in head.state_dict().items()}
    Checkpoint(1, state, {}, None, None, 0).save(run / "checkpoints" / "last.pt")
    side = ImageSide.of(moments.networks["taught"].run)
    columns, rows = torch.meshgrid(torch.arange(2, SIZE[0], 4), torch.arange(2, SIZE[1], 4), indexing="xy")
    uv = torch.stack((columns, rows), dim=-1).reshape(-1, 2).float()
    found, wanted = [], []
    for camera in (camera for place in range(len(moments)) for camera in moments.dataset[place].cameras):
        image = torch.from_numpy(camera.image().copy()).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            found.append(side.teacher.sample(image, torch.zeros(len(uv), dtype=torch.long), uv))
        wanted.append(image[0, 0][uv[:, 1].long(), uv[:, 0].long()] > 0.5)
    features, red = torch.cat(found).double(), torch.cat(wanted)
    target = torch.zeros(len(red), WIDTH, dtype=torch.double)
    target[torch.arange(len(red)), red.long()] = 1
    ones = torch.ones(len(features), 1, dtype=torch.double)
    bordered = torch.cat((features / features.std(), ones), dim=1)
    gram = bordered.T @ bordered + 1e-3 * torch.eye(channels + 1, dtype=torch.double)
    solved = torch.linalg.solve(gram, bordered.T @ target)
    weight = (solved[:-1] / features.std()).T.float()[:, :, None, None]
    state = {}
    for prefix in names.values():
        state |= {f"{prefix}.weight": weight.contiguous(), f"{prefix}.bias": solved[-1].float().contiguous()}
    Checkpoint(1, state, {}, None, None, 0).save(run / "checkpoints" / "last.pt")
