"""What a score is of: which frames and weights, and whether the weights have seen those frames.

That is with labels, without, or while the best of the weights were chosen.

Weights say what they were made of (`about`), and what those were made of in turn; the whole chain is looked at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from olivine.data.frame import Dataset
from olivine.data.splits import SplitConfig
from olivine.errors import UserError
from olivine.weights.file import Weights

LISTED = 1000
"""A subset of at most this many frames is listed by token; of a larger one the scenes say which frames they are."""

_NAMED = 3
_LABELLED_TASKS = ("segmentation", "detection")


@dataclass(frozen=True)
class Overlap:
    """What a scored split has in common with what its weights have seen, as names in order.

    Attributes:
        labelled: scenes whose labels were trained on.
        frames: tokens of frames whose labels were trained on, in scenes of other names.
        pretraining: scenes that the pretraining saw, without labels.
        monitored: scenes that were scored while training.
    """

    labelled: list[str]
    frames: list[str]
    pretraining: list[str]
    monitored: list[str]

    def refuse(self, what: str, *, allowed: bool) -> None:
        """Refuse to score scenes or frames that were trained on.

        Args:
            what: how the message begins, e.g. `"train_split and val_split share"`.
            allowed: whether it was asked for by name.

        Raises:
            UserError: there are such scenes or frames, and nobody asked for them.
        """
        shared, kind = (self.labelled, "scenes") if self.labelled else (self.frames, "frames")
        if shared and not allowed:
            named = ", ".join(shared[:_NAMED]) + (", …" if len(shared) > _NAMED else "")
            raise UserError(
                f"{what} {len(shared)} {kind} ({named}); choose disjoint ones, or set allow_shared_scenes=true for a "
                "test of memory"
            )

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the protocol of `results.json`."""
        return {
            "shared_scenes": self.labelled,
            "shared_frames": self.frames,
            "pretraining_scenes_scored": self.pretraining,
            "monitored_scenes_scored": self.monitored,
        }


def overlap(about: Mapping[str, Any], scored: Dataset, trained_tokens: Collection[str] = ()) -> Overlap:
    """Compare a dataset with everything that weights were made of.

    Args:
        about: what the weights say about themselves; `train` and `monitor` name scenes, `pretrained` what came before.
        scored: what is scored.
        trained_tokens: tokens of the frames that were trained on, beside those that `about` lists.
    """
    labelled: set[str] = set()
    unlabelled: set[str] = set()
    tokens = set(trained_tokens)
    for step in _chain(about):
        train = step.get("train") or {}
        with_labels = step.get("task") in _LABELLED_TASKS
        (labelled if with_labels else unlabelled).update(train.get("scenes") or ())
        tokens.update((train.get("tokens") or ()) if with_labels else ())
    monitored = set((about.get("monitor") or {}).get("scenes") or ())
    frames = [(scored.scene(index), scored.token(index)) for index in range(len(scored))]
    scenes = {scene for scene, _ in frames}
    return Overlap(
        labelled=sorted(scenes & labelled),
        frames=sorted(token for scene, token in frames if token in tokens and scene not in labelled),
        pretraining=sorted(scenes & unlabelled),
        monitored=sorted(scenes & monitored),
    )


def _chain(about: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The weights, those that they started from, and so on."""
    step: Any = about
    while isinstance(step, Mapping):
        yield step
        before = step.get("pretrained")
        step = before.get("about") if isinstance(before, Mapping) else None


def describe_split(dataset: Dataset, split: SplitConfig) -> dict[str, Any]:
    """Name the frames of a split: `dataset`, the split's settings, `frames`, `scenes`, and `tokens` of a small one."""
    scenes = dict.fromkeys(dataset.scene(index) for index in range(len(dataset)))
    listed = len(dataset) <= LISTED
    return {
        "dataset": dataset.name,
        **split.model_dump(mode="json"),
        "frames": len(dataset),
        "scenes": list(scenes),
        "tokens": [dataset.token(index) for index in range(len(dataset))] if listed else None,
    }


def describe_weights(weights: Weights) -> dict[str, Any]:
    """Name pretrained weights: `path`, `sha256` of the file, and what it says `about` itself."""
    digest = hashlib.sha256(weights.path.read_bytes()).hexdigest()
    return {"path": str(weights.path), "sha256": digest, "about": weights.about}


def refuse_shared(
    learned: dict[str, Any], train: Dataset, scored: Mapping[str, Dataset | None], *, allowed: bool
) -> None:
    """Refuse to score what is about to be learned from labels.

    Args:
        learned: what the weights will say of themselves: `task`, `train`, `monitor`.
        train: what is learned from.
        scored: what is scored, by the name of its key; None is not.
        allowed: whether it was asked for by name.

    Raises:
        UserError: they share scenes or frames, and nobody asked for that.
    """
    tokens = {train.token(index) for index in range(len(train))}
    for name, dataset in scored.items():
        if dataset is not None:
            overlap(learned, dataset, tokens).refuse(f"train_split and {name} share", allowed=allowed)


def refuse_made_otherwise(weights: Weights, asked: Mapping[str, tuple[Any, Any]]) -> None:
    """Refuse pretrained weights that were made for another network or other inputs than a run has.

    Args:
        weights: the weights.
        asked: by what it is called, what the weights were made for (None where they do not say) and what the run has.

    Raises:
        UserError: two differ.
    """
    for key, (made, wanted) in asked.items():
        if made is not None and made != wanted:
            raise UserError(
                f"weights={weights.path}: made for {key} {json.dumps(made)}, but this run has {json.dumps(wanted)}; "
                "use the settings of the pretraining"
            )
