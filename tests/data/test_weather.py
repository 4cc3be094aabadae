"""Weather of generated scenes: what it changes, and that scenes without it draw no random number for it."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
from PIL import Image

from hkd.config import SyntheticConfig
from hkd.data.generated import scenes_hash
from hkd.data.sources.scene.style import DEFAULT_STYLE, HARD_STYLE
from hkd.data.sources.scene.weather import Weather, apply_weather, sample_weather
from hkd.data.sources.synthetic import draw_scene

CLEAR = Weather(is_night=False, is_raining=False, is_moving=False, haze=1.6)


def _grey() -> Image.Image:
    return Image.new("RGB", (96, 64), (128, 128, 128))


def test_style_without_weather_draws_no_random_number() -> None:
    rng = random.Random(0)
    before = rng.getstate()
    weather = sample_weather(rng, DEFAULT_STYLE)
    assert weather == CLEAR
    assert rng.getstate() == before
    picture = _grey()
    assert apply_weather(picture, weather, rng) is picture
    assert rng.getstate() == before


def test_conditions_occur_as_often_as_the_style_states() -> None:
    rng = random.Random(1)
    sampled = [sample_weather(rng, HARD_STYLE) for _ in range(4000)]
    # The standard deviation of a frequency of 0.25 over 4,000 draws is sqrt(0.25 * 0.75 / 4000) = 0.007.
    for occurred, probability in (
        ([weather.is_night for weather in sampled], HARD_STYLE.night_probability),
        ([weather.is_raining for weather in sampled], HARD_STYLE.rain_probability),
        ([weather.is_moving for weather in sampled], HARD_STYLE.motion_blur_probability),
        ([weather.haze > CLEAR.haze for weather in sampled], HARD_STYLE.fog_probability),
    ):
        assert abs(np.mean(occurred) - probability) < 0.03


def test_night_is_dark_and_unevenly_lit() -> None:
    dark = np.asarray(apply_weather(_grey(), dataclasses.replace(CLEAR, is_night=True), random.Random(2)))
    assert dark.mean() < 128
    assert dark.std(axis=(0, 1)).min() > 3
    # Blue where no lamp shines.
    darkest = dark.sum(axis=2).argmin()
    red, _, blue = dark.reshape(-1, 3)[darkest]
    assert blue > red


def test_rain_adds_bright_streaks() -> None:
    wet = np.asarray(apply_weather(_grey(), dataclasses.replace(CLEAR, is_raining=True), random.Random(3)))
    assert wet.max() > 160
    assert np.median(wet) < 160


def test_moving_camera_blurs_sideways_only() -> None:
    edges = np.zeros((64, 96, 3), dtype=np.uint8)
    edges[32:, 48:] = 255
    moved = np.asarray(
        apply_weather(Image.fromarray(edges), dataclasses.replace(CLEAR, is_moving=True), random.Random(4))
    )
    assert set(np.unique(moved[48, 40:56])) - {0, 255}
    assert set(np.unique(moved[28:36, 80])) == {0, 255}


def test_hard_scenes_are_repeatable_and_kept_apart() -> None:
    one, other = (draw_scene(0, 5, 144, 192, HARD_STYLE) for _ in range(2))
    assert (one.image == other.image).all()
    assert one.boxes == other.boxes
    assert scenes_hash(SyntheticConfig(style="hard")) != scenes_hash(SyntheticConfig())


def test_hard_scenes_are_fuller_and_more_occluded() -> None:
    counts, occluded = {}, {}
    for name, style in (("street", DEFAULT_STYLE), ("hard", HARD_STYLE)):
        boxes = [[box for box in draw_scene(7, index, style=style).boxes if not box.ignore] for index in range(40)]
        counts[name] = np.mean([len(each) for each in boxes])
        occluded[name] = np.mean([box.vis_ratio < 0.65 for each in boxes for box in each])
    assert counts["hard"] > 1.2 * counts["street"]
    assert occluded["hard"] > 1.2 * occluded["street"]
