"""The records beside the masks: shards, settings, and their sum."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.labelling import Brightness
from olivine.data.datasets import NuScenesConfig, SplitConfig
from olivine.data.masks import read_manifest
from olivine.data.shards import Shard
from olivine.errors import UserError
from olivine.labels.manifest import LabelFolder, Tally, settings_of


def settings(threshold: int = 100, **data: object) -> dict[str, object]:
    return settings_of(Brightness(threshold), NuScenesConfig(root=Path("anywhere"), **data), SplitConfig(split="all"))


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 3), (10, 1), (10, 3), (10, 10), (10, 12)])
def test_shards_share_all_frames_and_none_twice(count: int, of: int) -> None:
    shares = [list(Shard(number, of).frames(count)) for number in range(1, of + 1)]
    assert sorted(frame for share in shares for frame in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_are_read_as_i_of_n() -> None:
    assert Shard.parse("3/8") == Shard(3, 8)
    assert Shard.parse("1/1") == Shard()
    with pytest.raises(UserError, match=r"--shard 9/8: write i/n with 1 ≤ i ≤ n"):
        Shard.parse("9/8")


def test_tallies_add_up() -> None:
    total = Tally()
    total.add(Tally(2, [1, 2, 3], failed=["b"]))
    total.add(Tally(1, [10, 20, 30], 4, failed=["a"]))
    assert total == Tally(3, [11, 22, 33], 4, ["b", "a"])


def test_where_the_data_lies_is_no_setting_but_which_it_is(tmp_path: Path) -> None:
    assert settings() == settings(boxes=False)
    LabelFolder(tmp_path / "masks", settings(), Shard()).begin()
    with pytest.raises(UserError, match=r'dataset.version: "v1.0-trainval" there, "v1.0-mini" now'):
        LabelFolder(tmp_path / "masks", settings(version="v1.0-mini"), Shard()).begin()


def test_many_differences_are_named_in_part(tmp_path: Path) -> None:
    LabelFolder(tmp_path / "masks", settings(), Shard()).begin()
    other = {**settings(), "classes": ["a"], "kind": "segments", "unknown": 0, "olivine": "9"}
    with pytest.raises(UserError, match=r"classes: .*; unknown: 255 there, 0 now; kind: .* now; …\)"):
        LabelFolder(tmp_path / "masks", other, Shard()).begin()


def test_the_manifest_appears_with_the_last_shard_and_is_readable(tmp_path: Path) -> None:
    folders = [LabelFolder(tmp_path, settings(), Shard(number, 3)) for number in (1, 2, 3)]
    for folder in folders:
        folder.begin()
    assert folders[2].finish(Tally(1, [1, 0, 0], failed=["z.png"])) is None
    assert folders[0].finish(Tally(2, [0, 5, 0])) is None
    assert folders[1].finish(Tally(failed=["a.png"])) == tmp_path / "manifest.json"
    manifest = read_manifest(tmp_path)
    assert (manifest.classes, manifest.labeller) == (("dark", "bright"), "brightness (threshold 100)")
    content = json.loads((tmp_path / "manifest.json").read_text())
    assert content["counts"] == {"images": 3, "pixels": {"dark": 1, "bright": 5}, "unknown_pixels": 0}
    assert content["failed"] == ["a.png", "z.png"]


def test_merging_again_changes_no_byte(tmp_path: Path) -> None:
    folders = [LabelFolder(tmp_path, settings(), Shard(number, 2)) for number in (1, 2)]
    for folder in folders:
        folder.begin()
    folders[0].finish(Tally(1, [1, 0, 0]))
    folders[1].finish(Tally(1, [0, 1, 0]))
    before = (tmp_path / "manifest.json").read_bytes()
    assert folders[0].finish(Tally(1, [1, 0, 0])) is not None
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / ".parts").iterdir()) == ["1-of-2.json", "2-of-2.json"]


def test_no_image_at_all_is_counted_as_none(tmp_path: Path) -> None:
    folder = LabelFolder(tmp_path / "masks", settings(), Shard())
    folder.begin()
    manifest = folder.finish(Tally())
    assert manifest is not None
    counts = json.loads(manifest.read_text())["counts"]
    assert counts == {"images": 0, "pixels": {"dark": 0, "bright": 0}, "unknown_pixels": 0}


def test_a_folder_that_was_only_begun_can_be_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / ".1-of-1.json.partial").write_text("{")
    for _ in range(2):
        folder = LabelFolder(tmp_path, settings(), Shard())
        folder.begin()
        assert not (tmp_path / "manifest.json").exists()
    assert folder.finish(Tally()) == tmp_path / "manifest.json"


def test_the_line_about_the_labeller_names_its_models_and_plain_settings() -> None:
    class Grounded(Brightness):
        def provenance(self) -> dict[str, object]:
            network = {"model": "owner/name", "commit": "0123"}
            return {"labeller": "grounded", "detector": network, "threshold": 0.3, "notes": "n" * 99, "list": [1]}

    named = settings_of(Grounded(), NuScenesConfig(root=Path("anywhere")), SplitConfig(split="all"))
    assert named["labeller"] == "grounded (detector owner/name, threshold 0.3)"


@pytest.mark.parametrize(("text", "problem"), [("{", "cannot read this record"), ("[]", "this is no record of masks")])
def test_damaged_records_are_one_line(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=rf"manifest\.json: {problem}"):
        LabelFolder(tmp_path, settings(), Shard()).begin()


def test_a_process_joins_only_a_run_that_it_sees_and_would_make_the_same_masks_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run was begun in this folder; all workers must see the same file system"):
        LabelFolder(tmp_path, settings(), Shard()).join()
    LabelFolder(tmp_path, settings(), Shard()).begin()
    LabelFolder(tmp_path, settings(), Shard()).join()
    with pytest.raises(UserError, match=r"other masks .*\(provenance.threshold: 100 there, 90 now\); install the same"):
        LabelFolder(tmp_path, settings(90), Shard()).join()
