from __future__ import annotations

import pytest
import torch
from torch import nn

from olivine.teachers import (
    EfficientNetLite0Config,
    RandomTeacherConfig,
    ResNet50Config,
    TeacherCacheConfig,
    VitConfig,
    prepare_teacher,
    with_cache,
)
from olivine.testing.teachers import pictures
from teachers.tiny_vits import KINDS as FAMILIES
from teachers.tiny_vits import save_vit

KINDS = ["resnet50", "resnet50_32", "efficientnet_lite0", "random", *FAMILIES]


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    return {
        "resnet50": ResNet50Config(weights="random"),
        "resnet50_32": ResNet50Config(weights="random", dilated=False),
        "efficientnet_lite0": EfficientNetLite0Config(levels=(2, 8, 16, 32)),
        "random": RandomTeacherConfig(),
        **{kind: VitConfig(weights=str(save_vit(kind, tmp_path_factory.mktemp(kind)))) for kind in FAMILIES},
    }


def built(config):
    """The teacher, its batch norms with statistics as training leaves them."""
    teacher = config.build()
    generator = torch.Generator().manual_seed(1)
    if config.name == "resnet50":  # the file of the other one has statistics of its own
        for module in teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.data.uniform_(0.3, 1, generator=generator)
                module.bias.data.normal_(0, 0.2, generator=generator)
    return teacher


@pytest.mark.parametrize("kind", KINDS)
def test_a_prepared_teacher_gives_the_same_features(configs, kind):
    images = pictures(2, (45, 62))
    teacher = built(configs[kind])
    before = teacher(images)
    after = prepare_teacher(teacher, "fp32")(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_features_point_the_same_way_and_come_in_the_images_precision(configs, kind):
    images = pictures(2, (45, 62))
    exact = built(configs[kind])(images)
    teacher = prepare_teacher(built(configs[kind]), "bf16")
    assert teacher.source.endswith("in bfloat16")
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.bfloat16}
    for one, other in zip(exact, teacher(images), strict=True):
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        assert float(nn.functional.cosine_similarity(one, other, dim=1).mean()) > 0.99


def test_kernels_may_be_compiled_and_kept_features_know_it(configs, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda module, *_, **__: asked.append(module))
    config = configs["random"]
    plain = prepare_teacher(config.build(), "fp32")
    assert asked == []
    compiled = prepare_teacher(config.build(), "fp32", compiled=True)
    assert asked == [compiled.encoder]
    assert compiled.digest() == plain.digest()
    cache = TeacherCacheConfig(folder=tmp_path)
    kinds = [with_cache(plain, cache, config.model_copy(update={"compile": on}))._about for on in (False, True)]
    assert kinds[0] != kinds[1]
    assert "compile" not in kinds[0]
