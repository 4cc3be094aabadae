"""Placement of pedestrians and objects in a scene, and painting."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from hkd.data.sources.scene.canvas import Canvas, Colour, Footprint, Sprite, noise
from hkd.data.sources.scene.pedestrian import draw_pedestrian
from hkd.data.sources.scene.props import LOOK_ALIKES, OCCLUDERS, Prop
from hkd.data.sources.scene.street import Camera, Street
from hkd.data.sources.scene.style import REFERENCE_HEIGHT, SceneStyle

_LARGEST_PROP_PX_PER_M = 70.0
"""Largest scale of props that are not occluders: nearer ones would fill the picture."""
_PLACEMENT_TRIES = 8


@dataclass(frozen=True)
class Standing:
    """A pedestrian or object placed on the ground."""

    x: float
    ground_y: float
    draw: Callable[[random.Random], Sprite]
    identity: int
    """0 for objects, otherwise the identity of the pedestrian or crowd."""


@dataclass(frozen=True)
class Light:
    """Direction of light, haze and shadows of a scene."""

    haze: Colour
    side: float
    """-1 from the left .. 1 from the right."""
    shadow_slant: float
    shadow_length: float
    """Ground rows per pixel of height; negative towards the viewer."""
    shadow_strength: float


class Plan:
    """Places pedestrians, crowds, look-alikes and occluders."""

    def __init__(
        self, rng: random.Random, camera: Camera, street: Street, style: SceneStyle, height: int, width: int
    ) -> None:
        self._rng, self._camera, self._street, self._style = rng, camera, street, style
        self._height, self._width = height, width
        self.unit = height / REFERENCE_HEIGHT
        """Pixels of this picture per pixel of the style."""
        self._occupied: list[tuple[float, float, float]] = []
        self.standing: list[Standing] = []
        self.crowds: set[int] = set()
        self._next_identity = 1

    def _new_identity(self) -> int:
        identity = self._next_identity
        assert identity < 256, "more figures in a scene than the identity map can distinguish"
        self._next_identity += 1
        return identity

    def _body_height(self) -> float:
        style = self._style
        while True:
            height = style.median_height * math.exp(style.log_height_deviation * self._gauss())
            if style.shortest <= height <= style.tallest:
                return height * self.unit

    def _gauss(self) -> float:
        # Box-Muller on random(), whose sequence is the same in every Python version.
        return math.sqrt(-2.0 * math.log(1.0 - self._rng.random())) * math.cos(math.tau * self._rng.random())

    def _stature_m(self) -> float:
        return self._rng.uniform(1.05, 1.45) if self._rng.random() < 0.07 else self._rng.uniform(1.55, 1.88)

    def _is_free(self, x: float, ground_y: float, body: float) -> bool:
        return all(
            abs(x - other_x) > 0.2 * (body + other_body) or abs(ground_y - other_y) > 0.6 * max(body, other_body)
            for other_x, other_y, other_body in self._occupied
        )

    def _between_walls(self, ground_y: float) -> float:
        """A column in or just beside the picture where the ground of this row is not behind a house."""
        left = max(-0.02 * self._width, self._camera.column(self._street.left_wall_m + 0.3, ground_y))
        right = min(1.02 * self._width, self._camera.column(self._street.right_wall_m - 0.3, ground_y))
        return self._rng.uniform(left, right) if left < right else self._rng.uniform(0, self._width)

    def _on_sidewalk(self, ground_y: float) -> float:
        """A column on the sidewalk near a kerb; between the walls if that is outside the picture."""
        kerb, outwards = self._rng.choice(((self._street.left_kerb_m, -1.0), (self._street.right_kerb_m, 1.0)))
        x = self._camera.column(kerb + outwards * self._rng.uniform(0.3, 1.8), ground_y)
        return x if 0 <= x < self._width else self._between_walls(ground_y)

    def add_pedestrian(self) -> None:
        """Place a pedestrian where it overlaps no other, if possible, and sometimes an occluder in front."""
        rng = self._rng
        for _ in range(_PLACEMENT_TRIES):
            body, stature = self._body_height(), self._stature_m()
            ground_y = self._camera.ground_y(body / stature)
            x = self._between_walls(ground_y)
            if ground_y < 1.08 * self._height and self._is_free(x, ground_y, body):
                break
        else:
            return
        self._put_pedestrian(x, ground_y, body)
        if rng.random() < self._style.occlusion_probability:
            self._occlude(x, ground_y, body)

    def _put_pedestrian(self, x: float, ground_y: float, body: float) -> None:
        self._occupied.append((x, ground_y, body))
        self.standing.append(
            Standing(x, ground_y, functools.partial(draw_pedestrian, height_px=body), self._new_identity())
        )

    def _put_prop(self, prop: Prop, x: float, ground_y: float) -> None:
        scale = self._camera.pixels_per_metre(ground_y)
        self.standing.append(Standing(x, ground_y, lambda rng: prop(rng, scale), 0))

    def _occlude(self, x: float, ground_y: float, body: float) -> None:
        rng = self._rng
        front_y = ground_y + body * rng.uniform(0.02, 0.12)
        aside = rng.choice((-1.0, 1.0))
        if rng.random() < self._style.occluding_pedestrian_share:
            front_body = self._camera.pixels_per_metre(front_y) * self._stature_m()
            self._put_pedestrian(x + aside * body * rng.uniform(0.12, 0.32), front_y, front_body)
        else:
            self._put_prop(_choose(rng, OCCLUDERS), x + aside * body * rng.uniform(0.0, 0.35), front_y)

    def add_prop(self, choice: tuple[tuple[Prop, float], ...]) -> None:
        """Place a prop at a pedestrian's distance, usually on a sidewalk."""
        rng = self._rng
        scale = min(self._body_height() / 1.7, _LARGEST_PROP_PX_PER_M * self.unit)
        ground_y = self._camera.ground_y(scale)
        x = self._on_sidewalk(ground_y) if rng.random() < 0.6 else self._between_walls(ground_y)
        self._put_prop(_choose(rng, choice), x, ground_y)

    def add_crowd(self) -> None:
        """Place a crowd, whose people share an identity."""
        rng, style = self._rng, self._style
        identity = self._new_identity()
        self.crowds.add(identity)
        body = rng.uniform(*style.crowd_height) * self.unit
        x, members = self._between_walls(self._camera.ground_y(body / 1.7)), rng.randint(*style.crowd_size)
        for _ in range(members):
            own_body = body * rng.uniform(0.85, 1.15)
            ground_y = self._camera.ground_y(body / 1.7) + rng.uniform(-0.06, 0.06) * body
            own_x = x + rng.uniform(-0.11, 0.11) * members * body
            self.standing.append(
                Standing(own_x, ground_y, functools.partial(draw_pedestrian, height_px=own_body), identity)
            )


def compose(rng: random.Random, camera: Camera, street: Street, style: SceneStyle, height: int, width: int) -> Plan:
    """Place pedestrians and objects in a scene of ``height`` x ``width`` pixels."""
    plan = Plan(rng, camera, street, style, height, width)
    if rng.random() < style.crowd_probability:
        plan.add_crowd()
    counts = range(len(style.pedestrian_count_weights))
    for _ in range(rng.choices(counts, style.pedestrian_count_weights)[0]):
        plan.add_pedestrian()
    for _ in range(rng.randint(*style.look_alikes)):
        plan.add_prop(LOOK_ALIKES)
    for _ in range(rng.randint(*style.clutter)):
        plan.add_prop(OCCLUDERS)
    return plan


def _choose(rng: random.Random, weighted: tuple[tuple[Prop, float], ...]) -> Prop:
    return rng.choices([prop for prop, _ in weighted], [weight for _, weight in weighted])[0]


def _lit(
    sprite: Sprite, rng: random.Random, light: Light, haze_share: float, contrast: float, behind: Colour | None
) -> Sprite:
    """The sprite brightened on one side, textured, and blended with haze and background."""
    pixels = np.asarray(sprite.image)
    height, width = pixels.shape[:2]
    own_share = (1.0 - haze_share) * (contrast if behind is not None else 1.0)
    shading = own_share + own_share * 0.22 * light.side * np.linspace(-1.0, 1.0, width, dtype=np.float32)
    shading = shading + own_share * 0.05 * noise(rng, height, width)
    colour = pixels[:, :, :3] * shading[:, :, None]
    colour += np.asarray(light.haze, np.float32) * haze_share
    if behind is not None:
        colour += np.asarray(behind, np.float32) * (1.0 - haze_share - own_share)
    out = pixels.copy()
    out[:, :, :3] = np.clip(colour, 0, 255, out=colour)
    return Sprite(Image.fromarray(out), sprite.foot_x, sprite.foot_y)


def _cast_shadow(canvas: Canvas, sprite: Sprite, x: int, y: int, light: Light) -> None:
    mask = sprite.image.getchannel("A")
    length, slant = light.shadow_length, light.shadow_slant
    rows = max(2, round(abs(length) * sprite.foot_y))
    reach = slant * sprite.foot_y
    foot_row = rows if length > 0 else 0
    left = min(0.0, reach)
    size = (math.ceil(mask.width + abs(reach)), rows)
    # Shadow pixel (u, v) shows the sprite's pixel at height (foot_row - v) / length above the foot.
    lean = slant / length
    shadow = mask.transform(
        size,
        Image.Transform.AFFINE,
        (1.0, lean, left - lean * foot_row, 0.0, 1.0 / length, sprite.foot_y - foot_row / length),
    )
    canvas.darken(shadow, x - sprite.foot_x + math.floor(left), y - foot_row, light.shadow_strength)


def paint(
    canvas: Canvas, plan: Plan, rng: random.Random, camera: Camera, light: Light, style: SceneStyle, haze: float
) -> dict[int, list[Footprint]]:
    """Paint back to front; return the footprints by identity: one for a pedestrian, several for a crowd.

    ``haze`` is :attr:`hkd.data.sources.scene.weather.Weather.haze`.
    """
    painted: dict[int, list[Footprint]] = {}
    for item in sorted(plan.standing, key=lambda item: item.ground_y):
        sprite = item.draw(rng)
        x, y = round(item.x), round(item.ground_y)
        scale = camera.pixels_per_metre(item.ground_y)
        haze_share = min(0.45, haze * plan.unit / scale)
        around = (x - round(scale), y - round(1.7 * scale), x + round(scale), y)
        contrast = rng.uniform(*style.contrast) if item.identity else rng.uniform(0.75, 1.0)
        sprite = _lit(sprite, rng, light, haze_share, contrast, canvas.mean_colour(around))
        _cast_shadow(canvas, sprite, x, y, light)
        footprint = canvas.paste(sprite, x, y, item.identity)
        if footprint is not None and item.identity:
            painted.setdefault(item.identity, []).append(footprint)
    return painted
