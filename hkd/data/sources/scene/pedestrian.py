"""A pedestrian: a walking or standing figure with clothes, drawn in units of body height."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hkd.data.sources.scene.canvas import Colour, Point, Sprite, SpritePen, hsv, mix, shade

_SKIN: tuple[Colour, ...] = (
    (244, 208, 177),
    (231, 188, 145),
    (213, 160, 115),
    (172, 118, 78),
    (124, 80, 52),
    (86, 56, 40),
)
_HAIR: tuple[Colour, ...] = (
    (28, 22, 20),
    (46, 34, 26),
    (78, 52, 34),
    (116, 82, 50),
    (178, 142, 88),
    (130, 126, 122),
    (205, 202, 198),
)
_LOWER_GARMENTS = ("trousers", "skirt", "dress", "shorts", "coat")
_LOWER_WEIGHTS = (58, 9, 9, 8, 16)

_SHOULDER_Y = 0.815
_WAIST_Y = 0.62
_HIP_Y = 0.50
_ANKLE_Y = 0.035


@dataclass(frozen=True)
class _Look:
    """What does not change as the figure moves."""

    facing: str
    """``front``, ``back``, ``left`` or ``right``."""
    build: float
    """Girth relative to the usual."""
    lower_garment: str
    skin: Colour
    hair: Colour
    top: Colour
    bottom: Colour
    shoes: Colour
    bare_arms: bool

    @property
    def from_side(self) -> bool:
        return self.facing in ("left", "right")

    @property
    def forward(self) -> float:
        return {"left": -1.0, "right": 1.0}.get(self.facing, 0.0)

    @property
    def shoulder_half(self) -> float:
        return (0.066 if self.from_side else 0.108) * self.build

    @property
    def hip_half(self) -> float:
        return (0.058 if self.from_side else 0.078) * self.build


def clothing_colour(rng: random.Random) -> Colour:
    """A colour that people wear: dark, grey or muted more often than bright."""
    if rng.random() < 0.5:
        return hsv(
            rng.random(), rng.uniform(0.0, 0.3), rng.choice((0.12, 0.2, 0.3, 0.45, 0.65, 0.9)) * rng.uniform(0.8, 1.1)
        )
    return hsv(rng.random(), rng.uniform(0.35, 0.95), rng.uniform(0.25, 0.95))


def _look(rng: random.Random) -> _Look:
    top = clothing_colour(rng)
    jeans = hsv(rng.uniform(0.56, 0.66), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.55))
    bottom = jeans if rng.random() < 0.4 else clothing_colour(rng)
    return _Look(
        facing=rng.choice(("front", "back", "left", "right")),
        build=rng.uniform(0.86, 1.22),
        lower_garment=rng.choices(_LOWER_GARMENTS, _LOWER_WEIGHTS)[0],
        skin=shade(rng.choice(_SKIN), rng.uniform(0.9, 1.05)),
        hair=shade(rng.choice(_HAIR), rng.uniform(0.8, 1.2)),
        top=top,
        bottom=bottom,
        shoes=shade(clothing_colour(rng), 0.6),
        bare_arms=rng.random() < 0.3,
    )


def _draw_leg(pen: SpritePen, look: _Look, hip: Point, foot: Point, bend: float, darker: float) -> None:
    knee = ((hip[0] + foot[0]) / 2 + look.forward * bend, 0.27 + foot[1] * 0.5)
    bare = look.lower_garment in ("skirt", "dress", "shorts")
    thigh = shade(look.skin if look.lower_garment in ("skirt", "dress") else look.bottom, darker)
    shin = shade(look.skin if bare else look.bottom, darker)
    width = 0.088 * look.build
    pen.limb(hip, knee, width * 1.12, width * 0.82, thigh)
    pen.limb(
        knee, (foot[0], foot[1] + _ANKLE_Y), width * (0.62 if bare else 0.8), width * (0.45 if bare else 0.66), shin
    )
    toe = look.forward * 0.055
    shoe = shade(look.shoes, darker)
    pen.limb((foot[0] - toe * 0.3, foot[1] + 0.016), (foot[0] + toe, foot[1] + 0.013), 0.036, 0.026, shoe)


def _draw_arm(pen: SpritePen, look: _Look, side: float, swing: float, bent: bool, darker: float) -> None:
    shoulder = (side * (look.shoulder_half - 0.018), _SHOULDER_Y - 0.02)
    if look.from_side:
        elbow = (swing * 0.55, 0.645)
        hand = (swing * 0.9 + look.forward * (0.10 if bent else 0.03), 0.66 if bent else 0.50)
    else:
        elbow = (side * (look.shoulder_half + 0.022), 0.645)
        hand = (side * (0.03 if bent else look.shoulder_half + 0.03 + swing * 0.2), 0.68 if bent else 0.495)
    sleeve = shade(look.top, 0.9 * darker)
    pen.limb(shoulder, elbow, 0.058 * look.build, 0.05, sleeve)
    pen.limb(elbow, hand, 0.042, 0.034, shade(look.skin, darker) if look.bare_arms else sleeve)
    pen.ellipse(*hand, 0.02, 0.023, shade(look.skin, darker))


def _draw_torso(pen: SpritePen, look: _Look) -> None:
    shoulder, hip = look.shoulder_half, look.hip_half
    waist = (shoulder * 0.8 + hip) / 2
    pen.polygon(
        [
            (-shoulder * 0.55, _SHOULDER_Y + 0.025),
            (shoulder * 0.55, _SHOULDER_Y + 0.025),
            (shoulder, _SHOULDER_Y - 0.02),
            (waist, _WAIST_Y),
            (hip, _HIP_Y - 0.02),
            (-hip, _HIP_Y - 0.02),
            (-waist, _WAIST_Y),
            (-shoulder, _SHOULDER_Y - 0.02),
        ],
        look.top,
    )
    if look.facing == "front":
        pen.polygon([(-0.03, _SHOULDER_Y + 0.025), (0.03, _SHOULDER_Y + 0.025), (0.0, 0.76)], shade(look.top, 1.35))
        pen.box(-0.005, _HIP_Y, 0.005, 0.78, shade(look.top, 0.75))


def _draw_hanging_cloth(pen: SpritePen, look: _Look, rng: random.Random, stride: float) -> None:
    """Skirt, dress or the tails of a coat, over the legs."""
    if look.lower_garment not in ("skirt", "dress", "coat"):
        return
    hem_y = rng.uniform(0.26, 0.4) if look.lower_garment != "coat" else rng.uniform(0.25, 0.36)
    colour = look.bottom if look.lower_garment == "skirt" else look.top
    hip, flare = look.hip_half, look.hip_half * rng.uniform(1.1, 1.5) + stride * 0.3
    pen.polygon([(-hip, _HIP_Y + 0.06), (hip, _HIP_Y + 0.06), (flare, hem_y), (-flare, hem_y)], colour)
    if look.lower_garment == "coat":
        pen.box(-hip, _HIP_Y + 0.05, hip, _HIP_Y + 0.065, shade(colour, 0.7))


def _draw_head(pen: SpritePen, look: _Look, rng: random.Random) -> None:
    centre_x, centre_y = look.forward * 0.012, 0.925
    pen.limb((0.0, 0.83), (centre_x, 0.89), 0.05, 0.046, shade(look.skin, 0.85))
    long_hair = rng.random() < 0.35
    if long_hair and look.facing != "back":
        pen.ellipse(centre_x - look.forward * 0.022, 0.895, 0.052, 0.085, look.hair)
    pen.ellipse(centre_x, centre_y, 0.05 if look.from_side else 0.047, 0.065, look.skin)
    if look.facing == "back":
        pen.ellipse(centre_x, centre_y + 0.008, 0.051, 0.066 if not long_hair else 0.06, look.hair)
        if long_hair:
            pen.box(-0.046, 0.81, 0.046, centre_y, look.hair)
    elif look.from_side:
        pen.ellipse(centre_x - look.forward * 0.018, centre_y + 0.02, 0.045, 0.055, look.hair)
    else:
        pen.ellipse(centre_x, centre_y + 0.044, 0.047, 0.031, look.hair)
        for eye in (-0.018, 0.018):
            pen.ellipse(centre_x + eye, centre_y + 0.002, 0.007, 0.005, mix(look.skin, (20, 16, 14), 0.8))
    headwear = rng.random()
    if headwear < 0.12:
        cap = clothing_colour(rng)
        pen.ellipse(centre_x, centre_y + 0.042, 0.056, 0.036, cap)
        pen.box(
            centre_x - 0.055,
            centre_y + 0.022,
            centre_x + 0.055 + look.forward * 0.03,
            centre_y + 0.036,
            shade(cap, 0.8),
        )
    elif headwear < 0.18 and look.facing != "front":
        pen.ellipse(centre_x, centre_y, 0.062, 0.075, shade(look.top, 0.9))


def _draw_bag(pen: SpritePen, look: _Look, rng: random.Random) -> None:
    kind = rng.random()
    colour = clothing_colour(rng)
    if kind < 0.16 and look.facing != "front":
        offset = -look.forward * (look.shoulder_half + 0.025)
        pen.ellipse(offset, 0.7, 0.052 if look.from_side else 0.082, 0.105, colour)
        pen.ellipse(offset, 0.66, 0.035, 0.045, shade(colour, 0.75))
    elif kind < 0.36:
        side = rng.choice((-1.0, 1.0))
        x, y = side * (look.hip_half + 0.035), rng.choice((0.36, 0.47))
        pen.limb((side * look.shoulder_half * 0.7, 0.81), (x, y + 0.07), 0.012, 0.012, shade(colour, 0.7))
        pen.box(x - 0.05, y - 0.06, x + 0.05, y + 0.05, colour)


def draw_pedestrian(rng: random.Random, height_px: float) -> Sprite:
    """Draw a figure of ``height_px`` pixels from soles to crown, with clothes and pose sampled from ``rng``."""
    look = _look(rng)
    pen = SpritePen(height_px, left=0.5, right=0.5, bottom=0.05, top=1.06)
    stride = rng.uniform(0.03, 0.15) if rng.random() < 0.75 else rng.uniform(0.0, 0.03)
    near = rng.choice((-1.0, 1.0))
    bent_near, bent_far = rng.random() < 0.25, rng.random() < 0.15
    if look.from_side:
        feet = {near: (near * stride, 0.0), -near: (-near * stride, stride * 0.12)}
        hips = {1.0: (0.008, _HIP_Y), -1.0: (-0.008, _HIP_Y)}
    else:
        spread = look.hip_half * rng.uniform(0.4, 0.85)
        feet = {near: (near * spread, 0.0), -near: (-near * spread * 0.8, stride * 0.35)}
        hips = {side: (side * look.hip_half * 0.52, _HIP_Y) for side in (-1.0, 1.0)}
    swing = stride * 0.9

    _draw_arm(pen, look, -near, near * swing, bent_far, 0.8)
    _draw_leg(pen, look, hips[-near], feet[-near], 0.02 + stride * 0.2, 0.75)
    _draw_leg(pen, look, hips[near], feet[near], 0.01, 1.0)
    _draw_torso(pen, look)
    _draw_hanging_cloth(pen, look, rng, stride if look.from_side else 0.0)
    _draw_head(pen, look, rng)
    _draw_bag(pen, look, rng)
    _draw_arm(pen, look, near, -near * swing, bent_near, 1.0)
    return pen.sprite()
