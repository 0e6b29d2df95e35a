from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from olivine.sparse import Convolution, SparseTensor

FOLDER = Path(__file__).parents[1] / "benchmarks"
KEYS = {"name", "width", "sweeps", "mode", "path", "seconds", "gflop"}


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("sparse")
        for name in ("sparse", "sparse_cases", "sparse_work", "lidar_clouds"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def work(benchmark):
    return importlib.import_module("sparse_work")


def test_a_quick_run_times_every_path_and_writes_the_figures(benchmark, tmp_path, capsys):
    file = tmp_path / "figures.json"
    paths = ["torch", "dense_gemm"]
    benchmark.main(["--quick", "--networks", "--layers", "--paths", *paths, "--json", str(file)])
    figures = json.loads(file.read_text())
    assert all(entry.keys() == KEYS and entry["seconds"] > 0 for entry in figures)
    assert {entry["path"] for entry in figures} == set(paths)
    whole = {(entry["name"], entry["mode"]): entry for entry in figures if entry["path"] == "torch"}
    assert {("MinkUNet34C", "eval"), ("MinkUNet34C", "train"), ("VoxelBackBone8x", "eval")} < whole.keys()
    assert whole["MinkUNet34C maps", "eval"]["gflop"] == 0
    forward, step = (whole["MinkUNet34C", mode]["gflop"] for mode in ("eval", "train"))
    first = whole["MinkUNet34C conv0p1s1 3×3×3 1→4 @1", "eval"]["gflop"]
    assert step == pytest.approx(3 * forward - first)
    assert "GFLOP/s" in capsys.readouterr().out


def test_json_on_standard_output_is_nothing_but_json(benchmark, capsys):
    benchmark.main(["--quick", "--networks", "--modes", "eval", "--paths", "dense_gemm", "--json", "-"])
    printed = capsys.readouterr()
    assert [entry["name"] for entry in json.loads(printed.out)] == ["MinkUNet34C", "VoxelBackBone8x"]
    assert "GFLOP/s" in printed.err


def test_the_arithmetic_of_a_layer_is_counted_by_its_pairs(work):
    # Two neighbours: each meets itself and the other, so that four pairs are multiplied by a 3 × 5 matrix.
    coordinates = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.int32)
    network = torch.nn.Sequential(Convolution(3, 5), Convolution(5, 2, 1))
    first, second = work.convolutions(network, SparseTensor(torch.ones(2, 3), coordinates))
    assert first.product == work.Product(4, 3, 5, input_gradient=False)
    assert first.product.gflop("eval") == pytest.approx(2e-9 * 4 * 15)
    assert first.product.gflop("train") == pytest.approx(2 * 2e-9 * 4 * 15)
    assert second.product == work.Product(2, 5, 2, input_gradient=True)
    assert second.product.gflop("train") == pytest.approx(3 * 2e-9 * 2 * 10)
    assert [layer.describe() for layer in (first, second)] == ["0 3×3×3 3→5 @1", "1 1×1×1 5→2 @1"]


def test_counting_leaves_the_network_as_it_was(work):
    network = torch.nn.Sequential(Convolution(3, 5))
    tensor = SparseTensor(torch.ones(1, 3), torch.zeros(1, 4, dtype=torch.int32))
    layers = work.convolutions(network, tensor)
    layers[0].module(tensor)
    network(tensor)
    assert len(layers) == 1


def test_scenes_are_reproducible_and_of_real_size(benchmark):
    clouds = importlib.import_module("lidar_clouds")
    points = clouds.scan(clouds.NUSCENES, 0)
    np.testing.assert_array_equal(points, clouds.scan(clouds.NUSCENES, 0))
    assert 15_000 < len(clouds.cylindrical([points]).coordinates) < 18_000
    grid = clouds.kitti_grid(clouds.scan(clouds.KITTI, 0)).coordinates
    assert 12_000 < len(grid) < 15_000
    assert (grid[:, 1:] < torch.tensor(clouds.KITTI_CELLS)).all()
    both = clouds.cylindrical([points, clouds.turned(points, 90.0)])
    assert both.coordinates[:, 0].unique().tolist() == [0, 1]
    np.testing.assert_allclose(clouds.turned(points, 90.0)[:, 0], -points[:, 1], atol=1e-4)


def test_runs_are_timed_in_turn(benchmark):
    order = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = benchmark.time_in_turn(runs, 2)
    assert "".join(order) == "ab" * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_the_memory_of_a_step_is_measured_beyond_the_import(benchmark):
    cloud = benchmark.cylindrical([benchmark.scan(benchmark.Scanner((-30, 10), 4, (-180, 180), 20, 1.8), 0)])
    assert 1 < benchmark.step_memory_mib(cloud, 1 / 8, "torch", update=True) < 1000


def test_a_path_that_is_not_there_is_refused_by_name(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        benchmark.main(["--quick", "--paths", "spconv"])
    assert "not available here: spconv" in capsys.readouterr().err
