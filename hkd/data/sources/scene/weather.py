"""Night, rain, fog and motion of the camera, added to a painted scene before it is exposed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from hkd.data.sources.scene.canvas import noise
from hkd.data.sources.scene.style import REFERENCE_HEIGHT, SceneStyle

_CLEAR_HAZE = 1.6
"""Haze of a figure at one pixel per metre of a picture of 288 rows; farther figures have more."""
_STREAK_ROWS = 14
"""Length of a raindrop's streak, pixels of a picture of 288 rows."""
_DROPS_ABOVE = 1.9
"""Deviations of white noise above which there is a drop."""


@dataclass(frozen=True)
class Weather:
    """Conditions of one scene."""

    is_night: bool
    is_raining: bool
    is_moving: bool
    """Whether the camera moves, which blurs the picture sideways."""
    haze: float
    """Factor on a figure's share of haze."""


def sample_weather(rng: random.Random, style: SceneStyle) -> Weather:
    """Conditions of one scene; a style without weather draws no random number."""
    is_night, is_raining, is_moving = (
        probability > 0 and rng.random() < probability
        for probability in (style.night_probability, style.rain_probability, style.motion_blur_probability)
    )
    is_foggy = style.fog_probability > 0 and rng.random() < style.fog_probability
    return Weather(is_night, is_raining, is_moving, _CLEAR_HAZE * (rng.uniform(2.0, 5.0) if is_foggy else 1.0))


def apply_weather(picture: Image.Image, weather: Weather, rng: random.Random) -> Image.Image:
    """The picture under these conditions."""
    if weather.is_night:
        picture = _at_night(picture, rng)
    if weather.is_raining:
        picture = _in_rain(picture, rng)
    if weather.is_moving:
        picture = picture.filter(_sideways_blur(rng))
    return picture


def _at_night(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Dark and bluish, with a few pools of warm light."""
    width, height = picture.size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    light = np.full((height, width), rng.uniform(0.24, 0.42), dtype=np.float32)
    warmth = np.zeros((height, width), dtype=np.float32)
    for _ in range(rng.randint(1, 4)):
        x, y = rng.uniform(0, width), rng.uniform(0.25, 0.95) * height
        radius = rng.uniform(0.1, 0.35) * height
        pool = rng.uniform(0.3, 0.8) * np.exp(-((columns - x) ** 2 + 1.5 * (rows - y) ** 2) / (2 * radius**2))
        light += pool
        warmth += pool
    tints = np.stack([light * 0.82 + 0.2 * warmth, light * 0.92 + 0.05 * warmth, light * 1.12 - 0.15 * warmth], axis=-1)
    pixels = np.asarray(picture, dtype=np.float32) * tints
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _in_rain(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Slanted bright streaks over a picture of less contrast."""
    width, height = picture.size
    streak = max(2, round(_STREAK_ROWS * height / REFERENCE_HEIGHT))
    drops = np.clip(noise(rng, max(2, height // streak), width) - _DROPS_ABOVE, 0, 0.8) * 255
    slant = rng.uniform(-0.25, 0.25)
    veil = Image.fromarray(drops.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    veil = veil.transform(veil.size, Image.Transform.AFFINE, (1, slant, -slant * height / 2, 0, 1, 0))
    grey = rng.randint(120, 170)
    faded = Image.blend(picture, Image.new("RGB", picture.size, (grey, grey, grey + 6)), rng.uniform(0.1, 0.3))
    return Image.composite(Image.new("RGB", picture.size, (215, 220, 225)), faded, veil)


def _sideways_blur(rng: random.Random) -> ImageFilter.Kernel:
    """Three or five pixels of one row, averaged."""
    taps = rng.choice((3, 5))
    row = [1.0 if abs(column - 2) <= taps // 2 else 0.0 for column in range(5)]
    return ImageFilter.Kernel((5, 5), [0.0] * 10 + row + [0.0] * 10)
