"""What readers of docs/guide/your_data.md have, in small: a bag, a folder of scans and images, a fleet's tables."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from builders.drive import CAMERAS, LIDARS, Drive
from builders.folder import build_folder
from builders.nuscenes import build_nuscenes

CHANNELS = {"LIDAR_TOP": "LIDAR_FRONT", "CAM_FRONT": "CAMERA_0", "CAM_BACK": "CAMERA_1"}


def build_own_logs(root: Path) -> None:
    """Write `drive.mcap`, `logs/yard`, `logs/yard_labelled` and `datasets/fleet` below a folder."""
    drive = Drive(seconds=2.0, lidars=LIDARS[:1], cameras=(CAMERAS[0], CAMERAS[2]), azimuths=90)
    drive.write(root / "drive.mcap", "mcap")
    for name in ("yard", "yard_labelled"):
        scenes = ("monday", "tuesday")
        build_folder(root / "logs" / name, cameras=("left",), scenes=scenes, labelled=name != "yard")
    (root / "logs" / "yard" / "calibration.yaml").unlink()  # the page's own
    fleet = build_nuscenes(root / "datasets" / "fleet", ("scene-0061",), 1, points=400, boxes=0)
    shutil.rmtree(fleet / "camseg", ignore_errors=True)
    sensors = fleet / "v1.0-mini" / "sensor.json"
    rows = json.loads(sensors.read_text())
    for row in rows:
        row["channel"] = CHANNELS.get(row["channel"], row["channel"])
    sensors.write_text(json.dumps(rows))
