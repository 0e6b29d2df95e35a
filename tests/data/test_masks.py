from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from olivine.data.masks import read_manifest, read_mask
from olivine.errors import UserError

SOUND = {"classes": ["road", "car"], "unknown": 255, "labeller": "a network"}


def refused(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_manifest_names_its_classes_in_order_and_may_say_more(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**SOUND, "note": "made up", "counts": [1, 2]}))
    manifest = read_manifest(tmp_path)
    assert (manifest.classes, manifest.labeller, manifest.path) == (("road", "car"), "a network", path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "masks need a manifest"),
        ("{", "cannot read this mask manifest"),
        ("[]", "cannot read this mask manifest"),
        (json.dumps({key: SOUND[key] for key in ("classes", "unknown")}), "labeller"),
        (json.dumps({key: SOUND[key] for key in ("classes", "labeller")}), "unknown"),
        (json.dumps({**SOUND, "classes": ["road", 3]}), "cannot read this mask manifest"),
        (json.dumps({**SOUND, "unknown": 0}), "unknown must be 255, not 0"),
        (json.dumps({**SOUND, "classes": []}), "1 to 255 classes, not 0"),
        (json.dumps({**SOUND, "classes": [], "kind": "segments"}), "give their folder as data.superpixels"),
        (json.dumps({**SOUND, "kind": "colours"}), "kind"),
        (json.dumps({**SOUND, "classes": [str(n) for n in range(256)]}), "1 to 255 classes, not 256"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "manifest.json"
    if text is not None:
        path.write_text(text)
    error = refused(read_manifest, tmp_path)
    assert str(path) in error
    assert message in error


def test_255_classes_fit_beside_unknown(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({**SOUND, "classes": [str(n) for n in range(255)]}))
    assert len(read_manifest(tmp_path).classes) == 255


@pytest.mark.parametrize("mode", ["L", "P"])
def test_a_mask_holds_indices_not_colours(tmp_path, mode):
    values = np.array([[0, 1, 255], [2, 18, 0]], np.uint8)
    image = Image.fromarray(values)
    if mode == "P":
        image = Image.frombytes("P", (3, 2), values.tobytes())
        image.putpalette([255 - value // 3 for value in range(768)])
    image.save(tmp_path / "mask.png")
    mask = read_mask(tmp_path / "mask.png", (3, 2))
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, values)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "cannot read this mask"),
        (lambda path: path.write_bytes(b"no mask"), "cannot read this mask"),
        (lambda path: Image.new("RGB", (3, 2)).save(path), "mode RGB"),
        (lambda path: Image.new("1", (3, 2)).save(path), "mode 1"),
        (lambda path: Image.new("I;16", (3, 2)).save(path), "has 16 bits, as superpixels have"),
        (lambda path: Image.new("L", (2, 3)).save(path), "mask is 2×3 but its image is 3×2"),
    ],
)
def test_a_wrong_mask_is_refused_in_one_line(tmp_path, write, message):
    path = tmp_path / "mask.png"
    write(path)
    error = refused(read_mask, path, (3, 2))
    assert str(path) in error
    assert message in error


def test_a_truncated_mask_is_refused(tmp_path):
    path = tmp_path / "mask.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:500])
    assert "cannot read this mask" in refused(read_mask, path, (60, 40))
