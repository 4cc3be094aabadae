"""The empty street: camera, sky, buildings, road and sidewalks."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from hkd.data.sources.scene.canvas import Colour, hsv, mix, noise, shade, smooth_noise
from hkd.data.sources.scene.style import REFERENCE_HEIGHT

_GREEN: Colour = (62, 84, 48)


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera above flat ground.

    A point of the ground seen in row ``y`` is at such a distance that a metre there is
    ``(y - horizon_y) / height_m`` pixels: the ground is ``height_m`` below the horizon everywhere.
    """

    height_m: float
    """Above the ground."""
    horizon_y: float
    """Row of the horizon, pixels."""
    vanishing_x: float
    """Column in which the street's lines meet, pixels."""

    def pixels_per_metre(self, ground_y: float) -> float:
        """Scale of upright objects whose foot is in a row below the horizon."""
        return (ground_y - self.horizon_y) / self.height_m

    def ground_y(self, pixels_per_metre: float) -> float:
        """Row in which the ground has this scale."""
        return self.horizon_y + pixels_per_metre * self.height_m

    def column(self, lateral_m: float, ground_y: float) -> float:
        """Column of a line of the street ``lateral_m`` to the right of the camera, in a row of ground."""
        return self.vanishing_x + lateral_m * self.pixels_per_metre(ground_y)


@dataclass(frozen=True)
class Street:
    """Lateral layout of the ground, metres to the right of the camera."""

    left_wall_m: float
    left_kerb_m: float
    right_kerb_m: float
    right_wall_m: float
    end_scale: float
    """Pixels per metre at the far end, where the last building closes the view."""


def sample_camera(rng: random.Random, height: int, width: int) -> Camera:
    """Sample a camera at the height of a car's or a person's."""
    return Camera(
        height_m=rng.uniform(1.35, 2.3),
        horizon_y=rng.uniform(0.27, 0.44) * height,
        vanishing_x=rng.uniform(0.15, 0.85) * width,
    )


def sample_street(rng: random.Random, height: int) -> Street:
    """Sample the width of road and sidewalks, and the farthest distance in a picture of ``height`` rows."""
    left_kerb, right_kerb = -rng.uniform(1.0, 5.0), rng.uniform(1.0, 5.0)
    return Street(
        left_wall_m=left_kerb - rng.uniform(2.0, 6.0),
        left_kerb_m=left_kerb,
        right_kerb_m=right_kerb,
        right_wall_m=right_kerb + rng.uniform(2.0, 6.0),
        end_scale=rng.uniform(2.0, 9.0) * height / REFERENCE_HEIGHT,
    )


def _stone(rng: random.Random) -> Colour:
    return hsv(rng.uniform(0.02, 0.16), rng.uniform(0.02, 0.42), rng.uniform(0.3, 0.85))


def _draw_sky(draw: ImageDraw.ImageDraw, rng: random.Random, camera: Camera, width: int) -> Colour:
    zenith = hsv(rng.uniform(0.54, 0.62), rng.uniform(0.0, 0.5), rng.uniform(0.5, 0.95))
    haze = mix(zenith, (226, 224, 218), rng.uniform(0.4, 0.9))
    bands = 24
    for band in range(bands):
        top, bottom = camera.horizon_y * band / bands, camera.horizon_y * (band + 1) / bands
        draw.rectangle((0, top, width, bottom), fill=mix(zenith, haze, band / bands))
    return haze


def _draw_far_end(
    draw: ImageDraw.ImageDraw, rng: random.Random, camera: Camera, street: Street, haze: Colour, width: int
) -> None:
    scale = street.end_scale
    base = camera.ground_y(scale)
    x = -20.0
    while x < width:
        right = x + scale * rng.uniform(3.0, 9.0)
        tone = _stone(rng) if rng.random() < 0.7 else hsv(rng.uniform(0.2, 0.36), 0.4, 0.35)
        tone = mix(tone, haze, 0.35)
        top = base - scale * rng.uniform(4.0, 13.0)
        draw.rectangle((x, top, right, base), fill=tone)
        window = scale * 0.9
        if window >= 3.0:
            _draw_flat_windows(draw, rng, (x, top, right, base), window, shade(tone, rng.uniform(0.45, 0.8)))
        x = right


def _draw_flat_windows(
    draw: ImageDraw.ImageDraw, rng: random.Random, wall: tuple[float, float, float, float], size: float, colour: Colour
) -> None:
    left, top, right, bottom = wall
    step_x, step_y = size * rng.uniform(1.7, 2.4), size * rng.uniform(2.6, 3.4)
    y = top + size * 0.7
    while y + size * 1.6 < bottom:
        x = left + size * 0.6
        while x + size < right:
            draw.rectangle((x, y, x + size, y + size * 1.5), fill=colour)
            x += step_x
        y += step_y


def _draw_facades(
    draw: ImageDraw.ImageDraw,
    rng: random.Random,
    camera: Camera,
    street: Street,
    wall_m: float,
    haze: Colour,
    nearest: float,
) -> None:
    """One side's row of houses, far to near; a house spans two scales (pixels per metre), up to ``nearest``."""
    far = street.end_scale
    while far < nearest:
        near = far * rng.uniform(1.35, 2.2)
        top_m = rng.uniform(4.5, 14.0)
        tone = mix(_stone(rng), haze, min(0.5, 0.2 * street.end_scale / far))
        if rng.random() < 0.15:
            _draw_wall(draw, camera, wall_m, (far, near), (0.0, rng.uniform(1.0, 3.5)), mix(_GREEN, tone, 0.2))
            far = near
            continue
        _draw_wall(draw, camera, wall_m, (far, near), (0.0, top_m), tone)
        glass = shade(tone, rng.uniform(0.35, 0.75))
        floors, columns = max(1, int(top_m // 3)), rng.randint(2, 4)
        for column in range(columns):
            # Even steps along the street are even steps in 1 / scale.
            ends = [1 / far + (1 / near - 1 / far) * (column + part) / columns for part in (0.25, 0.75)]
            if abs(wall_m) * (1 / ends[1] - 1 / ends[0]) < 1.5:
                continue
            for floor in range(floors):
                low, high = (0.1, 2.3) if floor == 0 and rng.random() < 0.6 else (0.9, 2.4)
                _draw_wall(draw, camera, wall_m, (1 / ends[0], 1 / ends[1]), (floor * 3 + low, floor * 3 + high), glass)
        far = near


def _draw_wall(
    draw: ImageDraw.ImageDraw,
    camera: Camera,
    wall_m: float,
    scales: tuple[float, float],
    heights_m: tuple[float, float],
    colour: Colour,
) -> None:
    points = []
    for scale, height_m in zip(
        (scales[0], scales[0], scales[1], scales[1]), (*heights_m, *heights_m[::-1]), strict=True
    ):
        points.append((camera.vanishing_x + wall_m * scale, camera.horizon_y + (camera.height_m - height_m) * scale))
    draw.polygon(points, fill=colour)


def _draw_ground(
    draw: ImageDraw.ImageDraw, rng: random.Random, camera: Camera, street: Street, width: int, height: int
) -> None:
    asphalt = hsv(rng.uniform(0.05, 0.65), rng.uniform(0.0, 0.1), rng.uniform(0.25, 0.55))
    paving = hsv(rng.uniform(0.05, 0.13), rng.uniform(0.02, 0.2), rng.uniform(0.4, 0.75))
    far, near = camera.ground_y(street.end_scale), height + 1.0
    draw.rectangle((0, far, width, height), fill=paving)

    def strip(left_m: float, right_m: float, top: float, bottom: float, colour: Colour) -> None:
        rows = ((left_m, top), (right_m, top), (right_m, bottom), (left_m, bottom))
        draw.polygon([(camera.column(metres, row), row) for metres, row in rows], fill=colour)

    seam = shade(paving, 0.86)
    for side, kerb, wall in (
        (-1, street.left_kerb_m, street.left_wall_m),
        (1, street.right_kerb_m, street.right_wall_m),
    ):
        metres = kerb + side * 1.0
        while abs(metres) < abs(wall):
            strip(metres, metres + 0.06, far, near, seam)
            metres += side * 1.0
    strip(street.left_kerb_m, street.right_kerb_m, far, near, asphalt)
    for kerb in (street.left_kerb_m, street.right_kerb_m):
        strip(kerb - 0.12, kerb + 0.12, far, near, shade(paving, 1.2))
    paint = shade((222, 220, 210), rng.uniform(0.7, 1.05))
    if rng.random() < 0.6:
        middle = (street.left_kerb_m + street.right_kerb_m) / 2
        scale = max(street.end_scale, 4.0 * height / REFERENCE_HEIGHT)
        while camera.ground_y(scale) < near:
            strip(middle - 0.08, middle + 0.08, camera.ground_y(scale), camera.ground_y(scale * 1.22), paint)
            scale *= 1.5
    if rng.random() < 0.35:
        top = camera.ground_y(rng.uniform(14.0, 45.0) * height / REFERENCE_HEIGHT)
        bottom = camera.horizon_y + (top - camera.horizon_y) * rng.uniform(1.3, 1.6)
        metres = street.left_kerb_m + 0.3
        while metres + 0.5 < street.right_kerb_m:
            strip(metres, metres + 0.5, top, bottom, paint)
            metres += 1.0
    for _ in range(rng.randint(0, 3)):
        row = rng.uniform(far + 6, near)
        column, radius = rng.uniform(0, width), (row - camera.horizon_y) * rng.uniform(0.1, 0.4)
        draw.ellipse(
            (column - radius, row - radius * 0.25, column + radius, row + radius * 0.25),
            fill=shade(asphalt, rng.uniform(0.7, 1.1)),
        )


def draw_street(
    rng: random.Random, camera: Camera, street: Street, height: int, width: int, texture: float
) -> tuple[Image.Image, Colour]:
    """Draw the empty street.

    Args:
        texture: deviation of the brightness of surfaces, as a fraction.

    Returns:
        The RGB picture, and the colour of its haze, into which distant things fade.
    """
    picture = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(picture)
    haze = _draw_sky(draw, rng, camera, width)
    _draw_far_end(draw, rng, camera, street, haze, width)
    _draw_ground(draw, rng, camera, street, width, height)
    nearest = 1.4 * max(height, width)
    _draw_facades(draw, rng, camera, street, street.left_wall_m, haze, nearest)
    _draw_facades(draw, rng, camera, street, street.right_wall_m, haze, nearest)
    grain = 0.5 * noise(rng, height, width) + smooth_noise(rng, height, width, 6) + smooth_noise(rng, height, width, 28)
    lit = np.asarray(picture) * (1.0 + texture * grain[:, :, None])
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)), haze
