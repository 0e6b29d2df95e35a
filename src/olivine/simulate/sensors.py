"""What the sensors see of a snapshot: a LiDAR sweep and lit camera images, both with their ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from olivine.simulate import materials
from olivine.simulate.config import CameraConfig, LidarConfig
from olivine.simulate.world import NOTHING, Snapshot

F32 = NDArray[np.float32]
NO_CATEGORY = 0
_MIN_RANGE_M = 1.0
_GAMMA_STEPS = 4096


@dataclass(frozen=True)
class Lidar:
    """A spinning LiDAR: where it shoots, and how strong an echo it reports.

    Attributes:
        directions: [R, 3] float32 unit directions of one turn in the LiDAR frame, in firing order.
        ring: [R] int64 beam of each, 0 the lowest.
        gain: intensity of an echo of strength 1, of 255.
        exponent: intensity goes with the strength to this power.
    """

    directions: F32
    ring: NDArray[np.int64]
    gain: float
    exponent: float


@dataclass(frozen=True)
class Sweep:
    """One turn of the LiDAR, N returns in firing order.

    Attributes:
        points: [N, 5] float32 x, y, z (LiDAR frame, metres), intensity 0…255, ring.
        category: [N] uint8 lidarseg index.
        owner: [N] int32 thing or piece of ground that was hit.
    """

    points: F32
    category: NDArray[np.uint8]
    owner: NDArray[np.int32]


@dataclass(frozen=True)
class View:
    """One camera image, H × W.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        category: [H, W] uint8 lidarseg index, 0 for the sky.
        owner: [H, W] int32 thing or piece of ground, −1 for the sky.
    """

    image: NDArray[np.uint8]
    category: NDArray[np.uint8]
    owner: NDArray[np.int32]


@dataclass(frozen=True)
class Light:
    """Sun and sky of a scene.

    Attributes:
        sun: [3] float32 unit vector towards the sun.
        sun_color: [3] float32 strength of direct light.
        sky_color: [3] float32 strength of the light of the whole sky.
        horizon: [3] float32 colour that distance fades to.
        exposure: factor from light to image.
    """

    sun: F32
    sun_color: F32
    sky_color: F32
    horizon: F32
    exposure: float

    @staticmethod
    def draw(rng: np.random.Generator) -> Light:
        """A time of day and a weather, from clear noon to a grey afternoon."""
        elevation, azimuth = np.radians(rng.uniform(22, 65)), rng.uniform(0, 2 * np.pi)
        sun = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        clear = rng.uniform(0.25, 1.0)
        warm = np.array([1.0, 0.93, 0.82]) if elevation < 0.6 else np.array([1.0, 0.97, 0.92])
        blue = np.array([0.62, 0.74, 0.95]) * clear + np.array([0.78, 0.79, 0.8]) * (1 - clear)
        return Light(
            sun.astype(np.float32),
            (2.1 * clear * warm).astype(np.float32),
            (0.68 * blue).astype(np.float32),
            (0.55 * blue + 0.3).astype(np.float32),
            float(rng.uniform(0.85, 1.15)),
        )


def camera_directions(intrinsics: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Unit directions through the pixel centres in the camera frame, [H · W, 3], row by row."""
    u, v = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
    rays = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(intrinsics).T.astype(np.float32)
    rays /= np.sqrt(np.einsum("rc,rc->r", rays, rays))[:, None]
    return np.asarray(rays)


def scan(
    snapshot: Snapshot,
    global_from_lidar: NDArray[np.float64],
    lidar: Lidar,
    config: LidarConfig,
    rng: np.random.Generator,
) -> Sweep:
    """One turn of a LiDAR. The vehicle is taken to stand still during the turn, and to return no pulses itself.

    Args:
        snapshot: the street.
        global_from_lidar: [4, 4] pose of the LiDAR.
        lidar: the sensor.
        config: its range, noise and losses.
        rng: source of noise and losses.
    """
    local = lidar.directions
    directions = (local @ global_from_lidar[:3, :3].T).astype(np.float32)
    origins = np.broadcast_to(global_from_lidar[:3, 3].astype(np.float32), directions.shape)
    hits = snapshot.cast(origins, directions)
    ray = np.flatnonzero((hits.distance_m < config.max_range_m) & (hits.distance_m > _MIN_RANGE_M))
    triangle, distance_m = hits.triangle[ray], hits.distance_m[ray]
    material = snapshot.soup.material[triangle]
    color = materials.albedo(
        material, snapshot.uv_at(triangle, hits.barycentric[ray]), snapshot.soup.color[triangle], distance_m
    )
    facing = np.abs((snapshot.normals[triangle] * directions[ray]).sum(1))
    strength = materials.reflectance(material, color) * (0.25 + 0.75 * facing)
    kept = rng.random(len(ray)) > _loss(strength, facing, distance_m, config)
    depth_m = distance_m + rng.normal(0, config.range_noise_m, len(ray))
    depth_m += np.abs(rng.normal(0, 1, len(ray))) * materials.softness_m(material)
    gain = np.exp(rng.normal(0, config.intensity_noise, len(ray)))
    intensity = np.clip(np.rint(strength**lidar.exponent * lidar.gain * gain), 0, 255)
    points = np.column_stack([local[ray] * depth_m[:, None], intensity, lidar.ring[ray]]).astype(np.float32)[kept]
    return Sweep(points, snapshot.soup.category[triangle[kept]], snapshot.soup.owner[triangle[kept]])


def _loss(strength: F32, facing: F32, distance_m: F32, config: LidarConfig) -> NDArray[np.float64]:
    """Chance that a return is lost: more for weak echoes from far away and for grazing hits."""
    echo = strength / (distance_m / config.max_range_m) ** 2
    return np.asarray(
        1 - (1 - config.dropout) * (1 - np.exp(-echo * 6.0)) * (1 - 0.5 * np.exp(-facing * 60.0)), np.float64
    )


def photograph(
    snapshot: Snapshot,
    global_from_camera: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    size: tuple[int, int],
    light: Light,
    config: CameraConfig,
    rng: np.random.Generator,
) -> View:
    """One camera image, lit by sun and sky, with its ground truth.

    Args:
        snapshot: the street.
        global_from_camera: [4, 4] pose of the camera.
        intrinsics: [3, 3] camera matrix, pixels.
        size: (width, height), pixels.
        light: sun and sky.
        config: the camera.
        rng: source of the pixel noise.
    """
    directions = camera_directions(intrinsics, size) @ global_from_camera[:3, :3].T.astype(np.float32)
    origins = np.broadcast_to(global_from_camera[:3, 3].astype(np.float32), directions.shape)
    hits = snapshot.cast(origins, directions)
    open_sky = hits.triangle == NOTHING
    seen = np.flatnonzero(~open_sky)
    triangle, distance_m = hits.triangle[seen], hits.distance_m[seen]
    linear = np.empty_like(directions)
    linear[open_sky] = _sky(directions[open_sky], light)
    surface = origins[seen] + directions[seen] * distance_m[:, None]
    lit = _shade(snapshot, triangle, hits.barycentric[seen], surface, directions[seen], distance_m, light, config)
    haze = (1 - np.exp(-distance_m / np.float32(450)))[:, None]
    linear[seen] = lit * (1 - haze) + light.horizon * haze
    grain = rng.standard_normal(linear.shape, np.float32) * np.float32(config.noise)
    category = np.full(len(directions), NO_CATEGORY, np.uint8)
    category[seen] = snapshot.soup.category[triangle]
    owner = np.full(len(directions), NOTHING, np.int32)
    owner[seen] = snapshot.soup.owner[triangle]
    shape = (size[1], size[0])
    return View(
        _develop(linear * np.float32(light.exposure) + grain).reshape(*shape, 3),
        category.reshape(shape),
        owner.reshape(shape),
    )


def _shade(
    snapshot: Snapshot,
    triangle: NDArray[np.int32],
    barycentric: F32,
    surface_m: F32,
    directions: F32,
    distance_m: F32,
    light: Light,
    config: CameraConfig,
) -> F32:
    """Light [R, 3] that surface points send to the camera: Lambert's law for sun and sky, a mirror term for glass."""
    soup = snapshot.soup
    material = soup.material[triangle]
    color = materials.albedo(material, snapshot.uv_at(triangle, barycentric), soup.color[triangle], distance_m)
    normal = snapshot.normals[triangle]
    toward = (normal * directions).sum(1)
    normal = np.where((toward > 0)[:, None], -normal, normal)
    sunlit = np.maximum(normal @ light.sun, 0)
    if config.shadows:
        rows = np.flatnonzero(sunlit > 0)
        # Start off the surface, so that it does not shade itself; farther off where float32 is coarser.
        offset = np.float32(0.01) + distance_m[rows, None] * np.float32(2e-4)
        sunlit[rows[snapshot.blocked(surface_m[rows] + normal[rows] * offset, light.sun)]] = 0
    sky = np.float32(0.65) + np.float32(0.35) * normal[:, 2]
    lit = color * (sunlit[:, None] * light.sun_color + sky[:, None] * light.sky_color)
    shiny = (material == materials.Material.GLASS) | (material == materials.Material.PAINT)
    mirror = np.where(shiny, np.float32(0.06) + np.float32(0.4) * (1 - np.abs(toward)) ** 4, 0).astype(np.float32)
    return np.asarray(lit * (1 - mirror[:, None]) + mirror[:, None] * light.horizon)


def _sky(directions: F32, light: Light) -> F32:
    """Colour of the sky [R, 3]: a gradient with clouds."""
    height = np.clip(directions[:, 2], 0.02, 1)
    clouds = materials.noise(directions[:, 0] / height, directions[:, 1] / height, 12.0)
    cover = np.clip(0.35 + clouds, 0, 1)[:, None] * np.clip(height * 6, 0, 1)[:, None]
    fade = (np.sqrt(height) * 0.8)[:, None]
    clear = light.horizon * (1 - fade) + light.sky_color * fade
    return np.asarray(clear * (1 - 0.6 * cover) + 0.6 * cover * np.float32(0.85))


def _develop(linear: F32) -> NDArray[np.uint8]:
    """Linear light to 8-bit pixels: a soft shoulder, then gamma, through a table."""
    level = np.linspace(0, 2, _GAMMA_STEPS)
    table = np.rint(255 * np.clip(1.08 * level / (1 + 0.25 * level**1.5), 0, 1) ** (1 / 2.2)).astype(np.uint8)
    index = np.clip(linear * np.float32((_GAMMA_STEPS - 1) / 2), 0, _GAMMA_STEPS - 1).astype(np.int32)
    return np.asarray(table[index])
