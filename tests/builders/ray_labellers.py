"""Labellers for runs on Ray that show what goes on in the workers. Workers import them from here."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from builders.labelling import Brightness
from olivine.config import Config
from olivine.errors import MissingExtraError
from olivine.labels.base import Labeller

PATIENCE_S = 60


class RayLabellerConfig(Config):
    """A labeller by brightness in which something happens."""

    happens: Literal["meeting", "missing"]
    """Both workers meet before they label, and one of them then dies; or an extra is missing."""
    folder: Path
    """Where processes leave traces."""

    def build(self, device: torch.device) -> Labeller:
        if self.happens == "missing":
            raise MissingExtraError("scikit-image", "superpixels")
        (self.folder / f"build-{time.monotonic_ns()}-{os.getpid()}").touch()
        return Meeting(self.folder)


class Meeting(Brightness):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def label(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        (self.folder / f"worker-{os.getpid()}").touch()
        end_s = time.monotonic() + PATIENCE_S
        while len(list(self.folder.glob("worker-*"))) < 2:
            assert time.monotonic() < end_s, "there is no second worker"
            time.sleep(0.02)
        with contextlib.suppress(FileExistsError):
            (self.folder / "death").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().label(images)
