"""Weights: what is saved comes back, and a file that does not fit is never loaded in part unasked."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from olivine.errors import OlivineWarning, UserError
from olivine.weights.file import Weights, digest_of, load_weights, read_weights, save_weights


def network(width: int = 4, classes: int = 3) -> nn.Module:
    return nn.ModuleDict(
        {"body": nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width)), "final": nn.Linear(width, classes)}
    )


def test_round_trip_through_a_run_folder_is_exact(tmp_path: Path) -> None:
    saved, loaded = network(), network()
    save_weights(tmp_path, saved, {"backbone": {"name": "tiny"}, "in_channels": 2})
    report = load_weights(loaded, tmp_path)
    assert report.complete
    assert set(report.matched) == set(saved.state_dict())
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in saved.state_dict().items())


def test_file_alone_still_says_what_it_is(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "run", network(), {"backbone": {"name": "tiny"}})
    moved = shutil.move(path, tmp_path / "mine.safetensors")
    assert read_weights(moved).about["backbone"] == {"name": "tiny"}


def test_description_carries_the_hash_of_the_weights_and_the_code(tmp_path: Path) -> None:
    path = save_weights(tmp_path, network(), {"method": "olivine"})
    about = json.loads((tmp_path / "weights.json").read_text())
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["method"] == "olivine"
    assert about["olivine"]
    assert len(about["code"]) == 12


def test_another_architecture_is_refused_with_what_did_not_fit(tmp_path: Path) -> None:
    save_weights(tmp_path, network(width=8), {"backbone": {"name": "tiny", "width": 8}})
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(target, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    assert '{"name": "tiny", "width": 8}' in message
    assert f"{tmp_path / 'weights.safetensors'}: 2 of 9 keys match" in message
    assert "wrong shape body.0.weight ([8, 2] in the file, [4, 2] here)" in message
    assert "and 4 more" in message
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_missing_and_unexpected_keys_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, nn.ModuleDict({"body": nn.Linear(2, 4), "other": nn.Linear(1, 1)}), {})
    with pytest.raises(
        UserError, match=r"2 of 4 keys match; missing final\.weight.*unexpected other\.bias, other\.weight"
    ):
        load_weights(nn.ModuleDict({"body": nn.Linear(2, 4), "final": nn.Linear(4, 3)}), tmp_path)


def test_skipping_the_head_leaves_it_as_it_is(tmp_path: Path) -> None:
    save_weights(tmp_path, network(classes=64), {})
    target = network(classes=3)
    head = target.state_dict()["final.weight"].clone()
    report = load_weights(target, tmp_path, skip=("final",))
    assert report.complete
    assert not any(key.startswith("final") for key in report.matched)
    assert torch.equal(target.state_dict()["final.weight"], head)


def test_taking_only_the_head_leaves_the_body(tmp_path: Path) -> None:
    save_weights(tmp_path, network(), {})
    assert set(load_weights(network(), tmp_path, only=("final",)).matched) == {"final.weight", "final.bias"}


def test_partial_loading_must_be_asked_for_and_must_match_something(tmp_path: Path) -> None:
    save_weights(tmp_path, network(classes=5), {})
    report = load_weights(network(), tmp_path, allow_partial=True)
    assert [key for key, *_ in report.mismatched] == ["final.weight", "final.bias"]
    with pytest.raises(UserError, match="0 of 2 keys match"):
        load_weights(nn.Linear(9, 9), tmp_path, allow_partial=True)


@pytest.mark.parametrize("name", ["absent", "folder", "broken.safetensors"])
def test_what_holds_no_weights_is_a_clear_mistake(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match=name):
        read_weights(tmp_path / name)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = save_weights(tmp_path, nn.Linear(3, 2), {"task": "test"})
    whole = path.read_bytes()
    path.with_suffix(".json").unlink()  # a file that was moved alone has only its own digest
    read_weights(path)
    for bit in range(0, 8 * len(whole), 3):
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(UserError, match=r"weights\.safetensors: (damaged|not a readable|.* not finite)"):
            read_weights(path)


def flipped(whole: bytes, bit: int) -> bytes:
    at = bit // 8
    return whole[:at] + bytes([whole[at] ^ 1 << bit % 8]) + whole[at + 1 :]


def test_a_damaged_description_beside_weights_is_named(tmp_path: Path) -> None:
    path = save_weights(tmp_path, nn.Linear(3, 2), {"task": "test"})
    beside = path.with_suffix(".json")
    whole = beside.read_bytes()
    for wrong in (whole[:20], b"[]", b"\xff", whole.replace(b'"sha256": "', b'"sha256": "0')):
        beside.write_bytes(wrong)
        with pytest.raises(UserError, match=r"weights\.json"):
            read_weights(path)


def test_weights_from_before_digests_load_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file(network().state_dict(), path, metadata={"about": json.dumps({"backbone": {"name": "tiny"}})})
    with pytest.warns(OlivineWarning, match=r"old\.safetensors: has no digest, as those of earlier versions"):
        assert read_weights(path).about == {"backbone": {"name": "tiny"}}
    save_file(network().state_dict(), path)
    assert read_weights(path).about == {}  # another project's, which never had one


def test_a_kill_between_weights_and_their_description_leaves_a_pair_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(tmp_path, network(), {"steps": 1})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("olivine.weights.file.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        save_weights(tmp_path, network(), {"steps": 2})
    assert read_weights(tmp_path).about["steps"] == 2


@pytest.mark.parametrize("kind", [torch.int32, torch.complex64, torch.bool])
def test_tensors_of_another_kind_of_number_are_refused(tmp_path: Path, kind: torch.dtype) -> None:
    tensors = {key: value.to(kind) if key == "weight" else value for key, value in nn.Linear(3, 2).state_dict().items()}
    target = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(UserError, match=r"x\.pt: weight is of torch\..*, and the network's of torch\.float32"):
        load_weights(target, Weights(tmp_path / "x.pt", tensors, {}))
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_numbers_that_overflow_in_the_networks_type_are_refused(tmp_path: Path) -> None:
    tensors = {key: value.double() for key, value in nn.Linear(3, 2).state_dict().items()}
    assert load_weights(nn.Linear(3, 2), Weights(tmp_path / "x.pt", tensors, {})).complete
    tensors["bias"][0] = 1e300
    with pytest.raises(UserError, match=r"x\.pt: bias holds numbers that are not finite"):
        load_weights(nn.Linear(3, 2), Weights(tmp_path / "x.pt", tensors, {}))


def test_weights_that_are_not_those_described_beside_them_are_refused(tmp_path):
    first = save_weights(tmp_path / "a", nn.Linear(3, 2), {})
    second = save_weights(tmp_path / "b", nn.Linear(3, 2), {})
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match="not the file that weights"):
        read_weights(tmp_path / "a")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, wrong):
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.bias[1] = wrong
    with pytest.raises(UserError, match="bias holds numbers that are not finite"):
        save_weights(tmp_path, module, {})
    assert not (tmp_path / "weights.safetensors").exists()
    path = tmp_path / "foreign.safetensors"
    save_file(module.state_dict(), path)
    with pytest.raises(UserError, match="bias holds numbers that are not finite"):
        read_weights(path)


@pytest.mark.parametrize(("task", "head"), [("pretraining", "point"), ("segmentation", "classes"), (None, "point")])
def test_files_of_older_layouts_and_foreign_ones_still_load(tmp_path: Path, task: str | None, head: str) -> None:
    """Their heads are parts of the backbone, called final and final_class_level."""
    state = {"conv.weight": torch.ones(2), "final.kernel": torch.ones(2, 3), "final.bias": torch.zeros(1, 3)}
    if task == "pretraining":
        state["final_class_level.kernel"] = torch.full((2, 3), 2.0)
    about = {"task": task, "layout": 2, "heads": {"final": {"for": "pretraining", "normalized": True}}}
    noted = None if task is None else {"about": json.dumps({**about, "digest": digest_of(state, about)})}
    save_file(state, tmp_path / "weights.safetensors", metadata=noted)
    weights = read_weights(tmp_path)
    assert weights.tensors.keys() == {"conv.weight"}
    assert weights.heads[head].keys() == {"kernel", "bias"}
    assert ("class" in weights.heads) == (task == "pretraining")
    if task is not None:
        assert weights.about["heads"] == {head: about["heads"]["final"]}
    with pytest.raises(UserError, match=r"has no head 'other'; it has "):
        weights.head("other")


def test_the_former_place_of_weights_still_leads_to_them() -> None:
    from olivine.engine import weights as former

    assert former.read_weights is read_weights
    assert former.save_weights is save_weights
