"""Models are found offline, loaded whole or not at all, and what is missing is said in one line."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import GatedRepoError
from safetensors.torch import load_file, save_file

from builders.vfm import build_segformer
from olivine.errors import MissingExtraError, UserError
from olivine.weights.hub import find_model, load_network, load_part

CLASS = "SegformerForSemanticSegmentation"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_segformer(tmp_path_factory.mktemp("segformer"), ["road", "car"])


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(published, tmp_path / "model"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_identified_by_the_hashes_of_its_files(published: Path) -> None:
    files = find_model(str(published))
    assert (files.folder, files.commit, files.model_type) == (published, None, "segformer")
    said = files.provenance()
    assert said["model"] == published.name
    hashes = said["sha256"]
    assert isinstance(hashes, dict)
    assert set(hashes) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    weights = (published / "model.safetensors").read_bytes()
    assert hashes["model.safetensors"] == hashlib.sha256(weights).hexdigest()


def test_where_a_folder_lies_does_not_show_in_what_identifies_it(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Path(shutil.copytree(published, tmp_path / "elsewhere" / published.name))
    expected = find_model(str(published)).provenance()
    assert find_model(str(moved)).provenance() == find_model(f"{moved}/").provenance() == expected
    monkeypatch.chdir(moved)
    assert find_model(".").provenance() == expected
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    assert find_model(".").provenance() != expected


def test_a_hub_model_in_the_cache_is_found_offline_and_identified_by_its_commit(published: Path, cache: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / "models--someone--segformer-tiny"
    shutil.copytree(published, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    files = find_model("someone/segformer-tiny", local_files_only=True)
    assert files.folder == repository / "snapshots" / commit
    assert files.provenance() == {"model": "someone/segformer-tiny", "commit": commit}
    assert find_model("someone/segformer-tiny", revision=commit, local_files_only=True).commit == commit
    with pytest.raises(UserError, match="--revision v2"):
        find_model("someone/segformer-tiny", revision="v2", local_files_only=True)


@pytest.mark.parametrize("by", ["key", "environment"])
def test_a_missing_model_is_one_line_that_says_what_to_fetch(
    by: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as caught:
        find_model("facebook/sam-vit-huge", local_files_only=by == "key")
    said = one_line(caught)
    assert said.startswith(f"facebook/sam-vit-huge: no such folder, not in the model cache {cache} ")
    assert "hf download facebook/sam-vit-huge --include '*.json' '*.txt' '*.safetensors'" in said


@pytest.mark.parametrize("name", ["./weights/sam", "./sam", "../sam", "~/sam", "/weights/sam", "sam", "a/b/c"])
def test_what_cannot_be_a_hub_name_is_a_folder_that_does_not_exist(name: str) -> None:
    with pytest.raises(UserError, match="no such folder; give the folder of a model"):
        find_model(name)


def test_a_folder_has_no_revision(published: Path) -> None:
    with pytest.raises(UserError, match="a folder has no revision 'v2'"):
        find_model(str(published), revision="v2")


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        find_model(str(folder))
    assert f"{folder} has only pickled weights (pytorch_model.bin), which are not read" in one_line(caught)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing; fetch it"):
        find_model(str(folder))


def test_a_network_is_loaded_frozen_and_whole(published: Path) -> None:
    loaded = load_network(find_model(str(published)), CLASS)
    network = loaded.network
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    stored = load_file(published / "model.safetensors")
    tensors = list(network.state_dict().values())
    assert loaded.matched == len(tensors) == len(stored)
    assert loaded.unused == ()
    for tensor in stored.values():  # some have another name in memory than in the file
        assert any(torch.equal(tensor, other) for other in tensors)


def test_weights_that_lack_a_tensor_are_refused_instead_of_filled_with_random_numbers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    lost = "decode_head.classifier.weight"
    del tensors[lost]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=rf"another network than {CLASS}: 1 missing \({lost}\)$"):
        load_network(find_model(str(folder)), CLASS)


def test_children_that_are_never_run_may_be_missing(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("decode_head")}
    save_file(kept | {"other.weight": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    loaded = load_network(find_model(str(folder)), CLASS, may_miss=("decode_head",))
    assert loaded.matched == len(kept)
    assert loaded.unused == ("other.weight",)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["decode_head.classifier.bias"] = torch.zeros(5)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"cannot load|of another shape") as caught:
        load_network(find_model(str(folder)), CLASS)
    one_line(caught)


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    state = torch.random.get_rng_state()
    load_network(find_model(str(folder)), CLASS)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("why", ["gated", "no network"])
def test_why_a_model_was_not_fetched_is_said(why: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer: Any = SimpleNamespace(headers={}, request=None)
    gated = GatedRepoError("Access to model is restricted.", response=answer)

    def refuse(*_: object, **__: object) -> None:
        raise gated if why == "gated" else ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError) as caught:
        find_model("owner/model")
    said = {"gated": "owner/model: its owner asks for consent", "no network": "was not fetched (no route to host)"}
    assert said[why] in one_line(caught)


def test_parts_are_loaded_with_settings_of_ones_own(published: Path) -> None:
    files = find_model(str(published))
    assert load_part(files, "ViTImageProcessorPil").size["height"] == 64
    assert load_part(files, "ViTImageProcessorPil", size={"height": 32, "width": 32}).size["height"] == 32


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_damaged_files_are_one_line(file: str, folder: Path) -> None:
    (folder / file).write_bytes(b"nonsense")
    with pytest.raises(UserError, match=str(folder)) as caught:
        load_network(find_model(str(folder)), CLASS)
    one_line(caught)


def test_a_config_that_does_not_say_its_type_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match="does not say its model_type"):
        _ = find_model(str(folder)).model_type


def test_without_transformers_the_extra_is_named(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'olivine\[vfm\]'"):
        load_network(find_model(str(published)), CLASS)
