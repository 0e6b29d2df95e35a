"""Settings of the simulator. Defaults follow the nuScenes vehicle; every key is read by `simulate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from olivine.config import Config


class LidarConfig(Config):
    """The spinning LiDAR on the roof."""

    columns: int = Field(1084, ge=8)
    """Firings per turn; each fires 32 beams between −30.67° and +10.67°."""
    max_range_m: float = Field(90.0, gt=2.0)
    """No return comes from farther away, metres."""
    range_noise_m: float = Field(0.02, ge=0.0)
    """Standard deviation of the measured range, metres."""
    dropout: float = Field(0.03, ge=0.0, le=1.0)
    """Chance that a return is lost whatever it hit; dark, far and grazing surfaces lose more."""
    intensity_noise: float = Field(0.15, ge=0.0)
    """Relative standard deviation of the intensity."""


class CameraConfig(Config):
    """The six cameras."""

    jpeg_quality: int = Field(90, ge=1, le=100)
    """Quality of the JPEG files."""
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


class SimulateConfig(Config):
    """A simulated data set."""

    kind: Literal["simulate"] = "simulate"
    """What it is a recipe of."""

    scenes: int = Field(10, ge=1, le=9999)
    """Number of scenes; each is a street of its own."""
    keyframes_per_scene: int = Field(20, ge=1)
    """Keyframes per scene, 0.5 s apart."""
    seed: int = Field(0, ge=0)
    """Seed of everything: the same seed and settings give the same bytes."""
    version: str = Field("v1.0-sim", pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the table folder, as a nuScenes version."""
    image_size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = (400, 225)
    """(width, height) of the images, pixels; the fields of view stay those of the real cameras."""
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
