from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from olivine.teachers import ImageHead, sample_features
from oracles.teachers_dense import all_pixels, dense_features, dense_head, surface

SIZE = (23, 14)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def random_map(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_pixel_of_two_levels_has_the_value_of_the_dense_upsampling(dtype: torch.dtype) -> None:
    maps = [random_map(2, 5, 4, 6, dtype=dtype), random_map(2, 3, 2, 3, seed=1, dtype=dtype)]
    image, uv = all_pixels(2, SIZE)
    sampled = sample_features(maps, image, uv.to(dtype), SIZE)
    assert sampled.dtype == dtype
    torch.testing.assert_close(sampled, dense_features(maps, image, uv, SIZE), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("patch", [7, 8])
def test_patches_have_the_values_of_an_upsampling_by_their_centres(dtype: torch.dtype, patch: int) -> None:
    size = (5 * patch, 3 * patch)
    level = random_map(2, 4, 3, 5, dtype=dtype)
    image, uv = all_pixels(2, size)
    dense = nn.functional.interpolate(level, (size[1], size[0]), mode="bilinear", align_corners=False)
    expected = dense[image, :, uv[:, 1].long(), uv[:, 0].long()]
    sampled = sample_features([level], image, uv.to(dtype), size, patch=patch)
    torch.testing.assert_close(sampled, expected, rtol=0, atol=TOLERANCE[dtype])


def test_patches_stay_in_place_where_the_image_ends_within_one() -> None:
    level = random_map(1, 4, 3, 5)
    image, uv = all_pixels(1, (35, 21))
    inside = (uv < torch.tensor([31, 18])).all(dim=1)
    cut = sample_features([level], image[inside], uv[inside], (31, 18), patch=7)
    assert torch.equal(cut, sample_features([level], image, uv, (35, 21), patch=7)[inside])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sample_then_project_equals_project_then_upsample_in_value_and_gradient(dtype: torch.dtype) -> None:
    size = (104, 56)
    level = random_map(3, 64, 14, 26, dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    image = torch.randint(0, 3, (500,), generator=generator)
    uv = torch.stack([torch.randint(0, side, (500,), generator=generator) for side in size], 1).to(dtype)
    corners = torch.tensor([[0, 0], [103, 0], [0, 55], [103, 55]], dtype=dtype)
    image, uv = torch.cat([image, torch.zeros(4, dtype=torch.int64)]), torch.cat([uv, corners])
    upstream = random_map(504, 16, seed=4, dtype=dtype)

    head = ImageHead(64, 16, generator=generator).to(dtype)
    ours = head(sample_features([level], image, uv, size))
    theirs = dense_head(level, head.weight, head.bias, image, uv, size)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE[dtype])

    parameters = (head.weight, head.bias)
    for our_gradient, their_gradient in zip(
        torch.autograd.grad((ours * upstream).sum(), parameters),
        torch.autograd.grad((theirs * upstream).sum(), parameters),
        strict=True,
    ):
        scale = their_gradient.abs().max().item()
        torch.testing.assert_close(our_gradient, their_gradient, rtol=0, atol=TOLERANCE[dtype] * scale)


def test_published_size_and_channels_agree_with_the_dense_head_in_float32() -> None:
    level = random_map(1, 2048, 56, 104, dtype=torch.float32).relu()
    generator = torch.Generator().manual_seed(0)
    uv = torch.stack([torch.randint(0, side, (300,), generator=generator) for side in (416, 224)], 1).float()
    image = torch.zeros(300, dtype=torch.int64)
    head = ImageHead(2048, 8, generator=generator)
    with torch.no_grad():
        ours = head(sample_features([level], image, uv, (416, 224)))
        theirs = dense_head(level, head.weight, head.bias, image, uv, (416, 224))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_positions_between_pixels_lie_on_the_same_surface() -> None:
    level = random_map(1, 1, 3, 5)
    uv = torch.rand(40, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    uv *= torch.tensor([SIZE[0] - 1, SIZE[1] - 1])
    expected = [[surface(level[0, 0].tolist(), u, v, SIZE)] for u, v in uv.tolist()]
    sampled = sample_features([level], torch.zeros(40, dtype=torch.int64), uv, SIZE)
    torch.testing.assert_close(sampled, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_corner_pixels_have_exactly_the_corner_cells() -> None:
    level = random_map(1, 4, 7, 9, dtype=torch.float32)
    uv = torch.tensor([[0.0, 0.0], [22.0, 0.0], [0.0, 13.0], [22.0, 13.0]])
    sampled = sample_features([level], torch.zeros(4, dtype=torch.int64), uv, SIZE)
    torch.testing.assert_close(sampled, level[0, :, [0, 0, -1, -1], [0, -1, 0, -1]].T, rtol=0, atol=2e-6)


def test_positions_beyond_the_border_are_read_at_the_border() -> None:
    level = random_map(1, 2, 4, 6)
    image = torch.zeros(2, dtype=torch.int64)
    outside = torch.tensor([[-0.4, 5.0], [22.4, 13.4]], dtype=torch.float64)
    border = torch.tensor([[0.0, 5.0], [22.0, 13.0]], dtype=torch.float64)
    torch.testing.assert_close(
        sample_features([level], image, outside, SIZE), sample_features([level], image, border, SIZE)
    )


def test_a_map_of_one_cell_is_constant() -> None:
    level = random_map(2, 3, 1, 1)
    image, uv = all_pixels(2, SIZE)
    torch.testing.assert_close(sample_features([level], image, uv, SIZE), level[image, :, 0, 0])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_no_pixels_give_no_features(memory_format: torch.memory_format) -> None:
    maps = [random_map(2, 5, 4, 6).to(memory_format=memory_format), random_map(2, 3, 2, 3)]
    sampled = sample_features(maps, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2), SIZE)
    assert sampled.shape == (0, 8)
    assert ImageHead(8, 4).double()(sampled).shape == (0, 4)


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [item for item in tree_leaves(result) if isinstance(item, torch.Tensor)]
        self.elements = max(self.elements, *(item.numel() for item in tensors)) if tensors else self.elements
        return result


def test_nothing_larger_than_the_map_or_the_samples_is_ever_made() -> None:
    level = random_map(2, 16, 30, 40)
    image, uv = torch.tensor([0, 1, 1]), torch.tensor([[0.0, 5.0], [399.0, 7.0], [3.0, 299.0]])
    with LargestTensor() as largest:
        sample_features([level], image, uv, (400, 300))
    assert largest.elements <= level.numel()


def test_half_precision_maps_keep_the_precision_of_positions() -> None:
    level = random_map(1, 6, 56, 104, dtype=torch.float32).to(torch.bfloat16)
    image, uv = all_pixels(1, (416, 224))
    sampled = sample_features([level], image, uv.float(), (416, 224))
    torch.testing.assert_close(sampled, dense_features([level.float()], image, uv, (416, 224)), rtol=0, atol=1e-4)


def test_gradients_reach_the_maps() -> None:
    maps = [random_map(1, 2, 3, 4).requires_grad_(), random_map(1, 1, 2, 2).requires_grad_()]
    image, uv = all_pixels(1, (5, 4))
    assert torch.autograd.gradcheck(lambda *levels: sample_features(levels, image, uv + 0.3, (5, 4)), maps)


def test_the_head_exchanges_weights_with_a_convolution_and_gives_unit_vectors() -> None:
    head = ImageHead(6, 4)
    convolution = nn.Conv2d(6, 4, 1)
    head.load_state_dict(convolution.state_dict())
    features = random_map(10, 6, dtype=torch.float32)
    expected = nn.functional.normalize(convolution(features[:, :, None, None])[:, :, 0, 0], dim=1)
    torch.testing.assert_close(head(features), expected)
    torch.testing.assert_close(head(features).norm(dim=1), torch.ones(10))


def test_the_head_starts_from_the_given_generator_alone() -> None:
    first, second = (ImageHead(6, 4, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
    assert first.weight.abs().max() <= 6**-0.5
