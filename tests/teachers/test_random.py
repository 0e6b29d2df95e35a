import torch

from olivine.teachers import RandomTeacherConfig
from olivine.testing.teachers import TeacherContract, pictures


class TestRandomTeacher(TeacherContract):
    config = RandomTeacherConfig()
    strides = (2, 4, 8)
    level_channels = (8, 16, 32)


def test_the_seed_decides_the_features() -> None:
    images = pictures(1, (20, 30))
    first, second = (RandomTeacherConfig(seed=seed).build()(images)[0] for seed in (0, 1))
    assert not torch.allclose(first, second)
