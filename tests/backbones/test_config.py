import pytest
from pydantic import ValidationError

from olivine.backbones import MinkUNet34C, MinkUNetConfig


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def test_the_default_is_the_published_backbone_at_the_asked_width():
    built = MinkUNetConfig(width=0.25).build(1, 16, class_head=True, normalize=True)
    assert shapes(built) == shapes(MinkUNet34C(1, 16, width=0.25, class_head=True))
    assert built.normalize


@pytest.mark.parametrize(("name", "blocks"), [("minkunet14a", 8), ("minkunet18a", 16), ("minkunet34c", 23)])
def test_names_choose_the_depth(name, blocks):
    network = MinkUNetConfig(name=name, width=0.125).build(1, 4)
    assert sum(len(network.get_submodule(f"block{stage}")) for stage in range(1, 9)) == blocks


def test_the_momentum_reaches_the_norms_outside_the_blocks():
    network = MinkUNetConfig(name="minkunet14a", width=0.125, batch_norm_momentum=0.02).build(1, 4)
    assert network.bn0.bn.momentum == 0.02
    assert network.block1[0].norm1.bn.momentum == 0.1


@pytest.mark.parametrize("wrong", [{"width": 0}, {"name": "minkunet99"}, {"batch_norm_momentum": 2}, {"depth": 3}])
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        MinkUNetConfig(**wrong)
