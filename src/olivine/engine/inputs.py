"""What a run reads, as digests by which a resumed run recognises it.

They are kept in the run's folder (`inputs.json`) from its beginning. A run that went on over other frames, masks or
weights would mix the statistics of two, and its results would name what it never started from.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from olivine.data.frame import Dataset
from olivine.data.labels import shipped_class_sets
from olivine.data.needs import Needs
from olivine.reading import IMAGE_BYTES, read_file

SAMPLED = 64
"""Frames, spread evenly over the dataset, whose masks and superpixels are read for the digest."""

_SAID = {"masks": "this mask", "superpixels": "these superpixels"}


def digest_inputs(dataset: Dataset, needs: Needs, weights: str | None = None) -> dict[str, str]:
    """SHA-256 of what a run learns from, by name.

    Args:
        dataset: the frames it trains on.
        needs: what it reads of them.
        weights: digest of the pretrained weights it starts from, where it does.

    Returns:
        `frames` (their tokens, in order), `classes` (what labels mean by a class set of one's own), and where they are
        read `masks` and `superpixels` (their manifests, and the
        files of `SAMPLED` frames: those made anew under the same manifest differ nearly everywhere) and `weights`.

    Raises:
        UserError: one of the frames, masks or superpixels cannot be read.
    """
    frames = hashlib.sha256()
    for index in range(len(dataset)):
        frames.update(dataset.token(index).encode() + b"\0")
    found = {"frames": frames.hexdigest()}
    classes = dataset.classes
    if needs.labels and classes.name not in shipped_class_sets():  # those are the same for every run
        own = json.dumps(classes.as_json()).encode() + classes.raw_to_train.tobytes()
        found["classes"] = hashlib.sha256(own).hexdigest()
    manifests = {
        "masks": dataset.manifest.path if dataset.manifest is not None and needs.weak_labels else None,
        "superpixels": dataset.superpixels / "manifest.json" if dataset.superpixels and needs.segments else None,
    }
    digests = {
        name: hashlib.sha256(path.read_bytes())
        for name, path in manifests.items()
        if path is not None and path.is_file()
    }
    if digests:
        for index in np.unique(np.linspace(0, len(dataset) - 1, min(SAMPLED, len(dataset))).round().astype(int)):
            for camera in dataset[int(index)].cameras:
                for name, path in (("masks", camera.mask_path), ("superpixels", camera.segments_path)):
                    if name in digests and path is not None:
                        digests[name].update(read_file(path, _SAID[name], limit=IMAGE_BYTES))
    found |= {name: digest.hexdigest() for name, digest in digests.items()}
    return found if weights is None else {**found, "weights": weights}
