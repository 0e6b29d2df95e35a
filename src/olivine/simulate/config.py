"""Settings of the simulator. What is left out follows the vehicle whose layout is chosen."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from olivine.config import Config


class LidarConfig(Config):
    """The spinning LiDAR on the roof."""

    columns: int | None = Field(None, ge=8)
    """Firings per turn, of all beams; null is what the layout's sensor has: 1084 of nuScenes, 2083 of KITTI."""
    max_range_m: float = Field(90.0, gt=2.0)
    """No return comes from farther away, metres."""
    range_noise_m: float = Field(0.02, ge=0.0)
    """Standard deviation of the measured range, metres."""
    dropout: float = Field(0.03, ge=0.0, le=1.0)
    """Chance that a return is lost whatever it hit; dark, far and grazing surfaces lose more."""
    intensity_noise: float = Field(0.15, ge=0.0)
    """Relative standard deviation of the intensity."""


class CameraConfig(Config):
    """The cameras."""

    jpeg_quality: int = Field(90, ge=1, le=100)
    """Quality of the JPEG files of the nuScenes layout; the other's are PNG, as published."""
    shadows: bool = True
    """Cast a shadow ray towards the sun for every lit pixel."""
    noise: float = Field(0.005, ge=0.0)
    """Standard deviation of the pixel noise, as a fraction of white."""


class WeakLabelConfig(Config):
    """How the true pixel classes are spoiled into weak labels that err as a vision foundation model does."""

    confusion: float = Field(0.08, ge=0.0, le=1.0)
    """Chance that a whole segment takes a class it is easily mistaken for (truck for bus, terrain for sidewalk, …)."""
    missed: float = Field(0.04, ge=0.0, le=1.0)
    """Chance that a whole segment is left out: unknown, or swallowed by what surrounds it."""
    small_px: int = Field(24, ge=0)
    """Segments of fewer pixels than this are left out with the chance `missed_small`."""
    missed_small: float = Field(0.5, ge=0.0, le=1.0)
    """Chance of leaving out a small segment."""
    jitter_px: float = Field(2.0, ge=0.0)
    """Standard deviation of the boundary's displacement, pixels."""
    block_px: int = Field(2, ge=1)
    """Labels are constant on square blocks of this size, as masks predicted at low resolution are."""
    unknown: float = Field(0.04, ge=0.0, le=1.0)
    """Share of every image that is covered by unknown blobs."""


class NuScenesLayout(Config):
    """nuScenes v1.0 tables: 32 beams on the roof, six cameras around, keyframes 0.5 s apart, a busy city."""

    name: Literal["nuscenes"] = "nuscenes"
    version: str = Field("v1.0-sim", pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the table folder, as a nuScenes version."""


class KittiObjectLayout(Config):
    """KITTI's 3-D object benchmark: 64 beams, one colour camera ahead, objects labelled in its image, a quiet town."""

    name: Literal["kitti_object"] = "kitti_object"
    val_scenes: int = Field(3, ge=0)
    """Streets that `ImageSets/val.txt` names, the last ones; the others are in `train.txt`. No street is in both."""
    interval_s: float = Field(1.0, gt=0.0, le=10.0)
    """Time from one keyframe of a street to the next, seconds."""
    tilt_rad: float = Field(0.004, ge=0.0, le=0.05)
    """Standard deviation of the vehicle's pitch and roll from keyframe to keyframe, radians, as on its springs."""
    label_m: float = Field(70.0, gt=0.0)
    """Objects farther ahead than this are in DontCare areas, metres."""
    label_px: float = Field(16.0, ge=0.0)
    """Objects whose box in the image is lower than this are in DontCare areas, pixels."""


LayoutConfig = Annotated[NuScenesLayout | KittiObjectLayout, Field(discriminator="name")]

_OWN_SIZE: dict[str, tuple[int, int]] = {"nuscenes": (400, 225), "kitti_object": (1242, 375)}
_OWN_COLUMNS = {"nuscenes": 1084, "kitti_object": 2083}


class SimulateConfig(Config):
    """A simulated data set."""

    kind: Literal["simulate"] = "simulate"
    """What it is a recipe of."""
    layout: LayoutConfig = NuScenesLayout()
    """How the files are laid out, and with it the vehicle, its sensors and its surroundings."""

    scenes: int = Field(10, ge=1, le=9999)
    """Number of scenes; each is a street of its own."""
    keyframes_per_scene: int = Field(20, ge=1)
    """Keyframes per scene."""
    seed: int = Field(0, ge=0)
    """Seed of everything: the same seed and settings give the same bytes."""
    image_size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] | None = None
    """(width, height) of the images, pixels; the fields of view stay those of the real cameras. Null is the layout's:
    400 × 225 of nuScenes, which has 1600 × 900, and 1242 × 375 of KITTI, which has that."""
    traffic: float = Field(1.0, ge=0.0, le=2.0)
    """Density of pedestrians, moving vehicles and parked ones, relative to the default."""
    bend_rad: float = Field(0.2, ge=0.0, le=0.25)
    """Largest deviation of the street's heading from straight, radians."""
    ego_speed_mps: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=30)]] = (4.0, 9.0)
    """Range from which each scene draws its mean ego speed, metres per second."""
    lidar: LidarConfig = LidarConfig()
    """The LiDAR."""
    camera: CameraConfig = CameraConfig()
    """The cameras."""
    weak_labels: WeakLabelConfig = WeakLabelConfig()
    """The corruption of the weak labels."""

    @field_validator("ego_speed_mps")
    @classmethod
    def _ordered(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the first speed must not exceed the second")
        return value

    @model_validator(mode="after")
    def _something_to_learn_from(self) -> SimulateConfig:
        if isinstance(self.layout, KittiObjectLayout) and self.layout.val_scenes >= self.scenes:
            raise ValueError(
                f"layout.val_scenes ({self.layout.val_scenes}) must be less than scenes ({self.scenes}), so that some "
                "are left to train on"
            )
        return self

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images, pixels."""
        return self.image_size or _OWN_SIZE[self.layout.name]

    @property
    def columns(self) -> int:
        """Firings per turn of the LiDAR."""
        return self.lidar.columns or _OWN_COLUMNS[self.layout.name]

    def settled(self) -> SimulateConfig:
        """The same with what is left to the layout written out."""
        lidar = self.lidar.model_copy(update={"columns": self.columns})
        return self.model_copy(update={"image_size": self.size, "lidar": lidar})
