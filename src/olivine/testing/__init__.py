"""Contract tests of components: what every dataset, backbone, method and teacher promises. Needs pytest (`testing`).

A test of your own inherits `DatasetContract`, `BackboneContract`, `MethodContract`, `CrossModalContract`,
`TeacherContract` or `DetectorContract` and says how to make one. `toy_batch` and `ToyBackbone` take no time;
`toy_voxelnet` is a VoxelNet for a toy batch that is `seen_from_above`. `olivine.testing.elsewhere` pretends a device,
on which the contracts go through a step.
"""

from olivine.errors import MissingExtraError

try:
    import pytest
except ImportError as error:
    raise MissingExtraError("pytest", "testing") from error

# Before they are imported, so that a failed assertion says what it compared.
for part in ("backbones", "datasets", "detectors", "methods", "cross_modal", "teachers"):
    pytest.register_assert_rewrite(f"olivine.testing.{part}")

from olivine.testing.backbones import BackboneContract  # noqa: E402
from olivine.testing.cross_modal import CrossModalContract  # noqa: E402
from olivine.testing.datasets import DatasetContract  # noqa: E402
from olivine.testing.detectors import DetectorContract  # noqa: E402
from olivine.testing.methods import MethodContract  # noqa: E402
from olivine.testing.teachers import TeacherContract  # noqa: E402
from olivine.toys import ToyBackbone, seen_from_above, toy_batch, toy_voxelnet  # noqa: E402

__all__ = [
    "BackboneContract",
    "CrossModalContract",
    "DatasetContract",
    "DetectorContract",
    "MethodContract",
    "TeacherContract",
    "ToyBackbone",
    "seen_from_above",
    "toy_batch",
    "toy_voxelnet",
]
