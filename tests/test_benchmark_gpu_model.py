"""What the model of a GPU counts, against counting by hand."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from builders.sparse import random_cloud
from olivine.sparse import SparseTensor

pytest.importorskip("triton")
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def model():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("gpu_model")
        for name in ("gpu_model", "sparse_work", "lidar_clouds"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def kernel_map():
    cloud = random_cloud(200, 1)
    tensor = SparseTensor(cloud.features, cloud.coordinates)
    return tensor.manager.kernel_map((1, 1, 1), (1, 1, 1), (3, 3, 3), (1, 1, 1))


@pytest.mark.parametrize("rows", [16, 128])
def test_the_cells_of_tiles_are_those_of_the_programs_order(model, kernel_map, rows):
    from olivine.sparse.engines.gpu.plans import plan_of

    tiles = plan_of(kernel_map).tiles(rows)
    assert torch.equal(model.cell_steps(kernel_map, rows), tiles.counts.long())


def test_products_count_pairs_and_what_tiles_add(model, kernel_map):
    pairs = sum(kernel_map.inputs.sizes)
    for work in (model.product(kernel_map, 32, 64), model.weight_gradient(kernel_map, 32, 64)):
        assert work.useful == 2 * pairs * 32 * 64 <= work.math
        assert work.seconds == max(work.times) > 0
    few = model.product(kernel_map, 1, 32)
    assert few.useful == 2 * pairs * 32
    assert few.steps < model.product(kernel_map, 32, 32).steps  # several cells in one step


def test_instructions_of_matrix_units_are_read_from_a_dump(model):
    code = "HGMMA.64x128x16.F32.BF16 R24; HGMMA.64x128x16.F32.BF16 R24; HMMA.16816.F32.BF16 R4;"
    found, made = model._products(code, 8)
    assert found == {"HGMMA.64x128x16": 2, "HMMA.16816": 1}
    assert made == 2 * 64 * 128 * 16 * 2 * 2 + 2 * 16 * 8 * 16 * 8
