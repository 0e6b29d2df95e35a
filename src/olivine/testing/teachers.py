"""What every teacher must do. A teacher's test class inherits `TeacherContract` and gives a few facts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from olivine.host import sent
from olivine.teachers import Teacher, TeacherConfig, sample_features
from olivine.testing.elsewhere import Pretended

Build = Callable[[], Teacher]


def pictures(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """[count, 3, H, W] random images in 0…1."""
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


class TeacherContract:
    """What every teacher must do.

    Attributes a subclass sets: `config`, the `strides` and `level_channels` of its maps, (H, W) `sizes` to try, and
    whether its cells are `patches` of the image, or spread from one corner pixel to the other.

    The fixture `build` is what `builder` returns, by default `config.build`; a subclass that must first make files
    overrides it. The fixture `teacher` is what it built once.
    """

    config: TeacherConfig
    strides: tuple[int, ...]
    level_channels: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...] = ((224, 416), (225, 400))
    patches: bool = False

    @classmethod
    def builder(cls, folder: Path) -> Build:  # noqa: ARG003
        """What builds the teacher anew at every call; `folder` is there to make files in."""
        return cls.config.build

    @pytest.fixture(scope="class")
    @classmethod
    def build(cls, tmp_path_factory: pytest.TempPathFactory) -> Build:
        """How the class makes its teacher."""
        return cls.builder(tmp_path_factory.mktemp("teacher"))

    @pytest.fixture(scope="class")
    @classmethod
    def teacher(cls, build: Build) -> Teacher:
        """The teacher, built once for the tests of the class."""
        return build()

    def test_maps_have_the_stated_channels_and_strides_rounded_up(self, teacher: Teacher) -> None:
        """Maps have the stated channels and strides rounded up."""
        for size in self.sizes:
            maps = teacher(pictures(1, size))
            shapes = [tuple(level.shape) for level in maps]
            rounded_up = [tuple(-(-side // stride) for side in size) for stride in self.strides]
            assert shapes == [(1, c, *hw) for c, hw in zip(self.level_channels, rounded_up, strict=True)]
            assert all(level.dtype == torch.float32 for level in maps)
            assert all(level.isfinite().all() and level.std() > 0 for level in maps)
        assert teacher.channels == sum(self.level_channels)

    def test_nothing_is_left_to_train(self, teacher: Teacher) -> None:
        """Nothing is left to train."""
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert not any(level.requires_grad for level in teacher(pictures(1, (40, 56))))

    def test_training_mode_does_not_reach_it(self, teacher: Teacher) -> None:
        """Training mode does not reach it."""
        images = pictures(2, (40, 56))
        state = {name: value.clone() for name, value in teacher.state_dict().items()}
        before = teacher(images)
        assert teacher.train() is teacher
        assert not any(module.training for module in teacher.modules())
        assert all(torch.equal(a, b) for a, b in zip(before, teacher(images), strict=True))
        assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())

    def test_built_twice_it_gives_the_same_features(self, teacher: Teacher, build: Build) -> None:
        """Built twice it gives the same features."""
        images = pictures(1, (40, 56))
        assert all(torch.equal(a, b) for a, b in zip(teacher(images), build()(images), strict=True))

    def test_its_state_is_all_it_knows(self, teacher: Teacher, build: Build, tmp_path: Path) -> None:
        """Its state is all it knows."""
        state = {name: value.contiguous() for name, value in teacher.state_dict().items()}
        save_file(state, tmp_path / "teacher.safetensors")
        other = build()
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        images = pictures(1, (40, 56))
        assert not all(torch.equal(a, b) for a, b in zip(teacher(images), other(images), strict=True))
        other.load_state_dict(load_file(tmp_path / "teacher.safetensors"))
        assert all(torch.equal(a, b) for a, b in zip(teacher(images), other(images), strict=True))

    def test_building_it_leaves_torchs_own_random_numbers_alone(self, build: Build) -> None:
        """Building it leaves torchs own random numbers alone."""
        torch.manual_seed(3)
        first = build().state_dict()
        torch.manual_seed(4)
        assert all(torch.equal(value, first[name]) for name, value in build().state_dict().items())

    def test_an_image_does_not_depend_on_its_neighbours(self, teacher: Teacher) -> None:
        """An image does not depend on its neighbours."""
        images = pictures(3, (40, 56))
        for together, alone in zip(teacher(images), teacher(images[1:2]), strict=True):
            torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5 * alone.abs().max().item())

    def test_images_reach_the_features(self, teacher: Teacher) -> None:
        """Images reach the features."""
        first, second = teacher(pictures(1, (40, 56))), teacher(pictures(1, (40, 56), seed=1))
        assert not any(torch.allclose(a, b) for a, b in zip(first, second, strict=True))

    def test_no_images_give_empty_maps(self, teacher: Teacher) -> None:
        """No images give empty maps."""
        maps = teacher(torch.zeros(0, 3, 40, 56))
        assert [level.shape[:2] for level in maps] == [(0, channels) for channels in self.level_channels]

    def test_sampling_in_groups_of_images_changes_nothing(self, teacher: Teacher) -> None:
        """Sampling in groups of images changes nothing."""
        images = pictures(3, (40, 56))
        image = torch.tensor([2, 0, 2, 0, 0])
        uv = torch.tensor([[0.0, 0.0], [55.0, 39.0], [12.5, 7.25], [30.0, 20.0], [1.0, 38.0]])
        at_once = sample_features(teacher(images), image, uv, (56, 40), patch=teacher.encoder.patch)
        grouped = teacher.sample(images, image, uv, images_at_once=2)
        torch.testing.assert_close(grouped, at_once, rtol=0, atol=1e-5 * at_once.abs().max().item())
        assert teacher.sample(images, image[:0], uv[:0]).shape == (0, teacher.channels)

    def test_on_a_device_nothing_unmeant_is_waited_for(self, teacher: Teacher) -> None:
        """Pixels may be said on the CPU, images are on the device, and the host waits for nothing."""
        images, image = pictures(3, (40, 56)), torch.tensor([2, 0, 2, 0])
        uv = torch.tensor([[0.0, 0.0], [55.0, 39.0], [12.5, 7.25], [30.0, 20.0]])
        expected = teacher.sample(images, image, uv)
        with Pretended() as pretended:
            moved = sent(images, pretended.device)
            teacher.to(pretended.device)
            pretended.waits.clear()
            sampled = teacher.sample(moved, image, uv)
            assert not pretended.unmeant, "the host waits in " + "; ".join(pretended.unmeant)
            found = sampled.cpu()
            teacher.to("cpu")
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())

    def test_a_pixel_at_a_cells_place_has_the_cells_feature(self, teacher: Teacher) -> None:
        """A pixel at a cells place has the cells feature."""
        height, width = 43, 58
        images = pictures(1, (height, width))
        maps, start = teacher(images), 0
        for level, stride in zip(maps, self.strides, strict=True):
            rows, columns = level.shape[2:]
            row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            places = [self._place(column, columns, width, stride), self._place(row, rows, height, stride)]
            uv = torch.stack(places, dim=-1).reshape(-1, 2).float()
            sampled = teacher.sample(images, torch.zeros(len(uv), dtype=torch.int64), uv)
            found, expected = sampled[:, start : start + level.shape[1]], level[0].flatten(1).T
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())
            start += level.shape[1]

    def _place(self, cell: Tensor, cells: int, pixels: int, stride: int) -> Tensor:
        """Where a cell lies on an axis of the image, pixel centres at integers."""
        return cell * stride + (stride - 1) / 2 if self.patches else cell * (pixels - 1) / max(cells - 1, 1)

    def test_it_says_what_its_weights_are(self, teacher: Teacher) -> None:
        """It says what its weights are."""
        assert len(teacher.source.splitlines()) == 1
