"""Tiles that are chosen by measuring: all give the same bits, and what is kept of them may be damaged."""

import json

import numpy as np
import pytest
import torch

from builders.gpu import DEVICE, GPU
from builders.sparse import random_cloud
from olivine.errors import OlivineWarning
from olivine.host import why
from olivine.sparse.coordinates import CoordinateMap, kernel_offsets
from olivine.sparse.engines import Epilogue

pytest.importorskip("triton")
from olivine.sparse.engines import triton_engine
from olivine.sparse.engines.gpu import choices, tuning
from olivine.sparse.engines.gpu.choices import Choice
from olivine.sparse.engines.gpu.tuning import Tuning

TILES = (Choice(128, 64, 64, 4, 3), Choice(64, 64, 64, 4, 3), Choice(64, 64, 32, 4, 3))


@pytest.fixture
def in_order(monkeypatch):
    """Products whose sums are made one after another, as the matrix units make them of step after step.

    numpy's own come in an order that depends on the shapes, so that equal bits would prove nothing.
    """
    if GPU:
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    def dot(self, a, b, d, *_):
        total = d.data.copy()
        for k in range(a.data.shape[1]):
            total += a.data[:, k : k + 1].astype(np.float32) * b.data[k : k + 1].astype(np.float32)
        return TensorHandle(total, d.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", dot)


def results(kernel_map, c_in, c_out, dtype):
    """Value and weight's gradient with every tile that is offered, the model's first."""
    generator, cells = torch.Generator().manual_seed(0), len(kernel_map.inputs.sizes)
    shapes = (kernel_map.inputs.count, c_in), (cells, c_in, c_out), (kernel_map.outputs.count, c_out)
    features, weight, grad = (torch.randn(shape, generator=generator).to(DEVICE, dtype) for shape in shapes)
    engine, values, gradients = triton_engine(), [], []

    most, turn = 1, 0

    def one_after_another(key, offered, launch, device):
        nonlocal most
        most = max(most, len(offered))
        return offered[turn % len(offered)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "chosen", one_after_another)
        patch.setattr(choices, "_WORTH", 0)
        while turn < most:
            values.append(engine.convolve(features, weight, kernel_map, Epilogue(relu=True)))
            gradients.append(engine.weight_gradient(features, grad, kernel_map))
            turn += 1
    assert most >= 2
    return values, gradients


@pytest.mark.usefixtures("in_order")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("c_in", "c_out"), [(3, 40), (40, 24)])
@pytest.mark.parametrize("model", [Choice(128, 16, 32, 4, 2), Choice(16, 16, 16, 2, 2)])
def test_every_tile_that_is_offered_gives_the_same_bits(monkeypatch, model, c_in, c_out, dtype):
    cloud = random_cloud(80, 1, low=-3, high=3).coordinates.to(DEVICE)
    kernel_map = triton_engine().build(
        CoordinateMap(cloud, (1, 1, 1)), cloud, kernel_offsets((3, 3, 1), (1, 1, 1), DEVICE), centred=True
    )
    inner, together = choices.narrow(9, c_in) or (model.inner, 1)
    tile = Choice(model.rows, inner, model.channels, model.warps, 2, together)
    monkeypatch.setattr(choices, "convolution", lambda *sizes: tile)
    monkeypatch.setattr(choices, "chunk_length", lambda pairs, tiles: 128)
    for results_of_all in results(kernel_map, c_in, c_out, dtype):
        assert all(torch.equal(one, results_of_all[0]) for one in results_of_all)


@pytest.mark.skipif(not GPU, reason="it is about the order in which matrix units add")
@pytest.mark.parametrize(
    ("dtype", "tf32"), [(torch.bfloat16, False), (torch.float16, False), (torch.float32, True), (torch.float32, False)]
)
@pytest.mark.parametrize("count", [500, 20_000])
def test_every_tile_that_a_gpu_is_offered_gives_the_same_bits(monkeypatch, count, dtype, tf32):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    cloud = random_cloud(count, 1, low=-20, high=20).coordinates.to(DEVICE)
    kernel_map = triton_engine().build(
        CoordinateMap(cloud, (1, 1, 1)), cloud, kernel_offsets((3, 3, 3), (1, 1, 1), DEVICE), centred=True
    )
    for c_in, c_out in ((4, 32), (64, 128)):
        for results_of_all in results(kernel_map, c_in, c_out, dtype):
            assert all(torch.equal(one, results_of_all[0]) for one in results_of_all)


@pytest.mark.parametrize("rows", [200, 16_000, 400_000])
@pytest.mark.parametrize("precision", ["half", "tf32", "ieee"])
def test_what_sums_depend_on_is_the_same_of_all_that_are_offered(rows, precision):
    for c_in, c_out in ((1, 32), (4, 16), (32, 64), (96, 96), (256, 128)):
        model = choices.convolution(rows, 6 * rows, 27, c_in, c_out, precision)
        for tile in choices.offered(model, c_out, 1e10):
            assert (tile.inner, tile.together, tile.stages) == (model.inner, model.together, model.stages)
            assert (tile.rows >= 64) is (model.rows >= 64)
        assert choices.offered(model, c_out, 1e8) == (model,)
        gradient = choices.weight_gradient(c_in, c_out, precision)
        for tile in choices.offered_gradients(gradient, 1e10):
            assert (tile.inner, tile.channels) == (gradient.inner, gradient.channels)
            assert tile.rows % 16 == 0


def test_the_fastest_is_chosen_measured_once_and_kept(tmp_path):
    asked = []

    def measure(launch, tile):
        asked.append(tile)
        return tile.channels

    path = tmp_path / "gpu" / "tiles.json"
    first = Tuning(path, measure)
    assert [first.chosen("a", TILES, lambda tile: None) for _ in range(2)] == [TILES[2]] * 2
    assert asked == list(TILES)
    other = Tuning(path, measure)
    assert other.chosen("a", TILES, lambda tile: None) == TILES[2]
    first.chosen("b", TILES[:2], lambda tile: None)
    other.chosen("c", TILES[:2], lambda tile: None)  # keeps what the first has measured in the meantime
    assert sorted(json.loads(path.read_text())) == ["a", "b", "c"]
    assert Tuning(path, measure).chosen("b", TILES[:1], lambda tile: None) == TILES[0]


def test_products_of_one_class_that_are_offered_other_tiles_do_not_forget_each_other(monkeypatch):
    """Numbers of rows change from batch to batch, and with them now and then the model's tile."""
    cloud = random_cloud(30, 1).coordinates.to(DEVICE)
    kernel_map = triton_engine().build(
        CoordinateMap(cloud, (1, 1, 1)), cloud, kernel_offsets((3, 1, 1), (1, 1, 1), DEVICE), centred=True
    )
    features, weight = torch.ones(len(cloud), 16, device=DEVICE), torch.ones(3, 16, 16, device=DEVICE)
    keys = []
    monkeypatch.setattr(tuning, "chosen", lambda key, offered, *_: keys.append(key) or offered[0])
    for rows in (16, 32, 16):
        monkeypatch.setattr(choices, "convolution", lambda *_, rows=rows: Choice(rows, 16, 16, 2, 2))
        triton_engine().convolve(features, weight, kernel_map, Epilogue())
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\x00", b"{", b"[1]", b'{"a": 3}', b'{"a": [1, 2]}', b'{"a": [128, 64, 999, 4, 3, 1]}', b'{"a": {}}'],
)
def test_a_damaged_file_is_measured_anew(tmp_path, content):
    path = tmp_path / "tiles.json"
    path.write_bytes(content)
    assert Tuning(path, lambda launch, tile: tile.rows).chosen("a", TILES, lambda tile: None) == TILES[1]
    assert json.loads(path.read_text())["a"][:3] == [64, 64, 64]


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path):
    (tmp_path / "file").write_text("")
    tuner = Tuning(tmp_path / "file" / "tiles.json", lambda launch, tile: tile.rows)
    with pytest.warns(OlivineWarning, match="measured at every start"):
        assert tuner.chosen("a", TILES, lambda tile: None) == TILES[1]
    assert tuner.chosen("b", TILES, lambda tile: None) == TILES[1]


def test_without_a_gpu_or_where_it_is_off_the_model_decides(monkeypatch):
    def launch(tile):
        raise AssertionError("nothing is measured")

    assert tuning.chosen("a", TILES, launch, torch.device("cpu")) == TILES[0]
    monkeypatch.setenv("OLIVINE_GPU_TUNING", "0")
    assert tuning.chosen("a", TILES, launch, torch.device("cuda")) == TILES[0]


def test_a_round_is_measured_while_the_gpu_has_other_things_to_do(monkeypatch):
    """So that a tile's time is the GPU's, and not that of starting it."""
    said = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            said.append("mark")

        def synchronize(self):
            said.append(why())

        def elapsed_time(self, end):
            return 10.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: said.append("busy"))
    assert tuning._measured(lambda tile: said.append(tile.rows), TILES[0]) == 2.0
    once = ["busy", "mark", *[128] * 5, "mark", "how fast a tile is"]
    assert said == [128, *once * 3]


def test_files_are_kept_apart_by_device_and_versions(monkeypatch):
    path = tuning.path_for("NVIDIA H200")
    assert path == tuning.path_for("NVIDIA H200")
    assert path != tuning.path_for("NVIDIA A100")
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert path != tuning.path_for("NVIDIA H200")
