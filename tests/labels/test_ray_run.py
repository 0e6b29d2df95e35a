"""Labelling on a local Ray with two workers: the bytes of any other run, and trouble of workers in one line."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.labelling import Brightness, contents, label_config, labelling, tiny_images
from builders.ray_labellers import RayLabellerConfig
from builders.recipes import write_recipe
from olivine.cli import main
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.labels.config import LabelConfig, RayConfig
from olivine.labels.ray_run import connected, label_with_ray
from olivine.labels.run import label, label_images

with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'olivine[ray]'"
)
DATASET = "semantickitti"
FRAMES = 6


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_images(tmp_path_factory.mktemp("data") / DATASET, DATASET)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Started once, since it takes seconds; a run takes the cluster that its process is connected to."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))  # where workers find the labellers
        with connected("local", RayConfig(workers=2)):
            yield
    assert not ray.is_initialized(), "what was started is ended"


def config_of(root: Path, out: Path, **changes: Any) -> LabelConfig:
    return label_config(root, out, DATASET, ray={"workers": 2}, batch_size=1, **changes)


def with_labeller(config: LabelConfig, happens: str) -> tuple[LabelConfig, Path]:
    """The configuration with a labeller in which something happens, and the folder of its traces."""
    traces = config.out.parent / "traces"
    traces.mkdir()
    return config.model_copy(update={"labeller": RayLabellerConfig(happens=happens, folder=traces)}), traces


def test_without_ray_the_extra_is_named(root: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    recipe = write_recipe(tmp_path / "recipe.yaml", labelling(root, tmp_path / "masks", DATASET))
    assert main(["label", recipe, "--ray", "local"]) == 2
    assert capsys.readouterr().err == "olivine: ray is not installed: pip install 'olivine[ray]'\n"
    assert not (tmp_path / "masks").exists()


@with_ray
@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:1", "ray://127.0.0.1:1"])
def test_an_address_without_a_cluster_is_one_line(address: str, root: Path, tmp_path: Path, capfd: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", labelling(root, tmp_path / "masks", DATASET))
    assert main(["label", recipe, "--ray", address]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"olivine: --ray {address}: no Ray cluster there (")
    assert len(said.err.splitlines()) == 1


@with_ray
def test_two_workers_of_which_one_is_killed_end_in_the_bytes_of_a_plain_run_and_of_shards(
    cluster: None, tmp_path: Path
) -> None:
    root = tiny_images(tmp_path / "data", DATASET)
    damaged = sorted(root.rglob("image_2/*.png"))[1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    plain = label_images(config_of(root, tmp_path / "plain"), Brightness())
    for number in (1, 2):
        label_images(config_of(root, tmp_path / "shards"), Brightness(), Shard(number, 2))
    # As a run leaves its folder that was killed: some masks are there, one is damaged, and there is no manifest.
    out = Path(shutil.copytree(tmp_path / "plain", tmp_path / "ray"))
    kept, half, *missing = sorted(out.rglob("*.png"))
    (out / "manifest.json").unlink()
    half.write_bytes(half.read_bytes()[:60])
    for mask in missing:
        mask.unlink()
    written_ns = kept.stat().st_mtime_ns

    config, traces = with_labeller(config_of(root, out), "meeting")
    summary = label_with_ray(config, progress=False)

    assert (summary.images, summary.kept, summary.failed) == (FRAMES - 1, 1, plain.failed)
    assert str(damaged) in summary.failed[0]
    assert kept.stat().st_mtime_ns == written_ns
    assert contents(out) == contents(tmp_path / "plain")
    assert contents(out, parts=False) == contents(tmp_path / "shards", parts=False)
    assert (traces / "death").exists()
    assert len(list(traces.glob("worker-*"))) == 3
    assert len(list(traces.glob("build-*"))) == 4, (
        "one that says what it is, one in each worker, one in place of the dead"
    )


@with_ray
def test_the_command_says_on_standard_output_only_what_it_was_asked_for(
    cluster: None, root: Path, tmp_path: Path, capfd: Any
) -> None:
    label(label_config(root, tmp_path / "plain", DATASET))
    recipe = write_recipe(tmp_path / "recipe.yaml", labelling(root, tmp_path / "ray", DATASET))
    assert main(["label", recipe, "ray.workers=1", "--ray", "local", "--json"]) == 0
    manifest = str(tmp_path / "ray" / "manifest.json")
    said = {"images": FRAMES, "kept": 0, "failed": [], "manifest": manifest}
    assert json.loads(capfd.readouterr().out) == said
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")


@with_ray
def test_a_shard_may_be_spread_too_and_be_empty(cluster: None, root: Path, tmp_path: Path) -> None:
    config, _ = with_labeller(config_of(root, tmp_path / "masks"), "meeting")
    summary = label_with_ray(config, shard=Shard(FRAMES + 1, FRAMES + 1), progress=False)
    assert (summary.images, summary.manifest) == (0, None)
    assert [path.name for path in (tmp_path / "masks" / ".parts").iterdir()] == ["7-of-7.json"]


@with_ray
def test_a_mistake_that_a_worker_finds_is_one_line(cluster: None, root: Path, tmp_path: Path) -> None:
    config, _ = with_labeller(config_of(root, tmp_path / "masks"), "missing")
    with pytest.raises(UserError) as caught:
        label_with_ray(config, progress=False)
    assert str(caught.value) == "scikit-image is not installed: pip install 'olivine[superpixels]'"
    assert not (tmp_path / "masks").exists()


@with_ray
def test_a_cluster_without_room_for_a_worker_is_one_line(cluster: None, root: Path, tmp_path: Path) -> None:
    config = label_config(root, tmp_path / "masks", DATASET, ray={"cpus": 99})
    with pytest.raises(UserError, match=r"a worker needs 99 CPUs, the Ray cluster has 2 CPUs and 0 GPUs; set ray.cpus"):
        label_with_ray(config)
    config = label_config(root, tmp_path / "masks", DATASET, device="cuda", ray={"gpus": 0.5})
    with pytest.raises(UserError, match=r"a worker needs 1 CPUs and 0.5 of a GPU"):
        label_with_ray(config)


def test_a_score_is_no_matter_for_ray(tmp_path: Path, capsys: Any) -> None:
    assert main(["label", "score_semantickitti", "--score", "--ray", "local"]) == 2
    assert "leave --shard and --ray out" in capsys.readouterr().err
