"""Objects in a street that occlude pedestrians or resemble them; drawn in metres."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image

from hkd.data.sources.scene.canvas import Colour, Sprite, SpritePen, hsv, mix, shade
from hkd.data.sources.scene.pedestrian import clothing_colour, draw_pedestrian

Prop = Callable[[random.Random, float], Sprite]
"""A function that draws a sprite from a random generator, at a scale in pixels per metre."""

_METAL: tuple[Colour, ...] = ((70, 74, 78), (110, 112, 114), (150, 152, 150), (48, 60, 52), (40, 42, 48))
_RUBBER: Colour = (24, 24, 26)
_UNDERSIDE: Colour = (34, 34, 36)


def _metal(rng: random.Random) -> Colour:
    return shade(rng.choice(_METAL), rng.uniform(0.75, 1.3))


def _foliage(rng: random.Random) -> Colour:
    return hsv(rng.uniform(0.16, 0.38), rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.5))


def draw_lamp_post(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A street lamp or bare pole, 3 to 7 m."""
    height, half, colour = rng.uniform(3.0, 7.0), rng.uniform(0.05, 0.1), _metal(rng)
    pen = SpritePen(pixels_per_metre, left=1.3, right=1.3, bottom=0.1, top=height + 0.3)
    pen.polygon([(-half, 0), (half, 0), (half * 0.6, height), (-half * 0.6, height)], colour)
    pen.box(-half * 1.7, 0, half * 1.7, rng.uniform(0.3, 1.2), shade(colour, 0.85))
    if rng.random() < 0.7:
        arm = rng.choice((-1.0, 1.0)) * rng.uniform(0.4, 1.1)
        pen.limb((0, height), (arm, height + 0.1), 0.1, 0.08, colour)
        pen.ellipse(arm, height + 0.06, 0.28, 0.1, (225, 220, 196))
    return pen.sprite()


def draw_sign(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A traffic sign on a post; its disc is where a head would be."""
    height, half, colour = rng.uniform(1.7, 2.5), rng.uniform(0.03, 0.05), _metal(rng)
    pen = SpritePen(pixels_per_metre, left=0.5, right=0.5, bottom=0.1, top=height + 0.4)
    pen.box(-half, 0, half, height, colour)
    face = rng.choice(((190, 32, 36), (32, 70, 160), (236, 196, 40), (235, 235, 232), (110, 110, 110)))
    kind, radius = rng.randrange(3), rng.uniform(0.2, 0.34)
    if kind == 0:
        pen.ellipse(0, height, radius, radius, face)
        pen.ellipse(0, height, radius * 0.7, radius * 0.7, rng.choice(((240, 240, 238), shade(face, 1.1))))
    elif kind == 1:
        pen.polygon([(-radius, height - radius), (radius, height - radius), (0, height + radius)], face)
        pen.polygon(
            [
                (-radius * 0.5, height - radius * 0.75),
                (radius * 0.5, height - radius * 0.75),
                (0, height + radius * 0.4),
            ],
            (242, 242, 238),
        )
    else:
        pen.box(-radius, height - radius * 1.4, radius, height + radius, face)
    return pen.sprite()


def draw_traffic_light(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A traffic light on its post."""
    height, colour = rng.uniform(2.2, 3.0), _metal(rng)
    pen = SpritePen(pixels_per_metre, left=0.5, right=0.5, bottom=0.1, top=height + 0.6)
    pen.box(-0.06, 0, 0.06, height, colour)
    pen.box(-0.18, height - 0.4, 0.18, height + 0.5, (30, 32, 32))
    lit = rng.randrange(3)
    for lamp, lamp_colour in enumerate(((230, 40, 30), (240, 180, 40), (40, 210, 120))):
        pen.ellipse(0, height + 0.35 - 0.3 * lamp, 0.11, 0.11, lamp_colour if lamp == lit else shade(lamp_colour, 0.3))
    return pen.sprite()


def draw_tree(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A street tree: a trunk as wide as a person, and a crown well above."""
    trunk_height, half = rng.uniform(1.8, 2.6), rng.uniform(0.09, 0.24)
    bark, leaves, crown = shade((92, 74, 58), rng.uniform(0.6, 1.2)), _foliage(rng), rng.uniform(1.1, 2.0)
    pen = SpritePen(pixels_per_metre, left=crown * 1.7, right=crown * 1.7, bottom=0.1, top=trunk_height + crown * 2.6)
    lean = rng.uniform(-0.15, 0.15)
    pen.polygon(
        [(-half * 1.3, 0), (half * 1.3, 0), (half + lean, trunk_height + 0.7), (-half + lean, trunk_height + 0.7)], bark
    )
    for blob in range(12):
        x, y = rng.uniform(-0.8, 0.8) * crown, trunk_height + crown * rng.uniform(0.5, 1.7)
        radius = crown * rng.uniform(0.35, 0.75)
        pen.ellipse(x, y, radius, radius * 0.85, shade(leaves, 0.7 + 0.06 * blob))
    return pen.sprite()


def draw_shrub(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A clipped conifer in a pot, about as tall and wide as a person."""
    height, half, leaves = rng.uniform(1.3, 2.0), rng.uniform(0.22, 0.36), _foliage(rng)
    pen = SpritePen(pixels_per_metre, left=0.6, right=0.6, bottom=0.1, top=height + 0.2)
    pot = shade((150, 96, 70), rng.uniform(0.6, 1.2))
    pen.polygon([(-0.2, 0), (0.2, 0), (0.26, 0.4), (-0.26, 0.4)], pot)
    pen.ellipse(0, 0.4 + (height - 0.4) * 0.42, half, (height - 0.4) * 0.5, leaves)
    pen.polygon(
        [(-half * 0.85, 0.4 + (height - 0.4) * 0.5), (half * 0.85, 0.4 + (height - 0.4) * 0.5), (0, height)],
        shade(leaves, 1.1),
    )
    return pen.sprite()


def draw_hydrant(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A hydrant."""
    colour = rng.choice(((176, 40, 32), (200, 160, 40), (120, 124, 128)))
    pen = SpritePen(pixels_per_metre, left=0.4, right=0.4, bottom=0.1, top=1.0)
    pen.box(-0.15, 0, 0.15, 0.62, colour)
    pen.ellipse(0, 0.64, 0.17, 0.16, shade(colour, 1.1))
    pen.box(-0.27, 0.38, 0.27, 0.5, shade(colour, 0.85))
    return pen.sprite()


def draw_bollard(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A bollard, often with a ball or band on top."""
    height, half, colour = rng.uniform(0.8, 1.2), rng.uniform(0.07, 0.13), _metal(rng)
    pen = SpritePen(pixels_per_metre, left=0.3, right=0.3, bottom=0.1, top=height + 0.3)
    pen.box(-half, 0, half, height, colour)
    if rng.random() < 0.5:
        pen.ellipse(0, height + half, half * 1.2, half * 1.3, shade(colour, 1.15))
    else:
        pen.box(-half, height * 0.75, half, height * 0.9, rng.choice(((230, 230, 225), (190, 40, 36))))
    return pen.sprite()


def draw_pillar_box(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A letter box, parking meter or charging post: a person's height, one piece, a cap on top."""
    height, half, colour = rng.uniform(1.25, 1.75), rng.uniform(0.16, 0.27), clothing_colour(rng)
    pen = SpritePen(pixels_per_metre, left=0.5, right=0.5, bottom=0.1, top=height + 0.3)
    if rng.random() < 0.5:
        pen.box(-0.06, 0, 0.06, height, _metal(rng))
        pen.box(-half, height * 0.45, half, height, colour)
    else:
        pen.box(-half, 0, half, height, colour)
    pen.ellipse(0, height, half * 1.08, 0.14, shade(colour, 0.85))
    pen.box(-half * 0.6, height * 0.72, half * 0.6, height * 0.8, shade(colour, 0.4))
    return pen.sprite()


def draw_dummy_post(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A post painted in bands with a ball on top: a person's height and colours, but no limbs."""
    height, half = rng.uniform(1.45, 1.9), rng.uniform(0.12, 0.2)
    pen = SpritePen(pixels_per_metre, left=0.4, right=0.4, bottom=0.1, top=height + 0.2)
    pen.box(-half * 0.8, 0, half * 0.8, height * 0.45, clothing_colour(rng))
    pen.box(-half, height * 0.45, half, height * 0.82, clothing_colour(rng))
    pen.ellipse(0, height * 0.91, 0.12, height * 0.09, rng.choice((_metal(rng), clothing_colour(rng))))
    return pen.sprite()


def draw_statue(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A human figure of one material on a plinth: not a pedestrian."""
    plinth = rng.uniform(0.5, 1.0)
    stone = mix((168, 164, 152), (64, 84, 74), rng.random())
    body = draw_pedestrian(rng, rng.uniform(1.5, 2.0) * pixels_per_metre)
    relief = body.image.convert("L").point([round(90 + level * 0.6) for level in range(256)])
    cast = Image.merge(
        "RGBA",
        (
            *(relief.point([round(level * part / 200) for level in range(256)]) for part in stone),
            body.image.getchannel("A"),
        ),
    )
    pen = SpritePen(pixels_per_metre, left=0.7, right=0.7, bottom=0.1, top=plinth)
    pen.box(-0.4, 0, 0.4, plinth, shade(stone, 0.8))
    pen.box(-0.48, plinth - 0.1, 0.48, plinth, shade(stone, 1.05))
    base = pen.sprite()
    lift = round(plinth * pixels_per_metre)
    left, above = max(base.foot_x, body.foot_x), max(base.foot_y, body.foot_y + lift)
    right = max(base.image.width - base.foot_x, body.image.width - body.foot_x)
    image = Image.new("RGBA", (left + right, above + base.image.height - base.foot_y))
    image.paste(base.image, (left - base.foot_x, above - base.foot_y))
    image.alpha_composite(cast, (left - body.foot_x, above - lift - body.foot_y))
    return Sprite(image, left, above)


def draw_poster(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """An advertising panel with blocks of colour."""
    half, height = rng.uniform(0.45, 0.75), rng.uniform(1.7, 2.3)
    pen = SpritePen(pixels_per_metre, left=0.9, right=0.9, bottom=0.1, top=height + 0.1)
    pen.box(-half, 0.0, half, height, _metal(rng))
    pen.box(-half * 0.88, 0.45, half * 0.88, height - 0.1, clothing_colour(rng))
    for _ in range(3):
        x, y = rng.uniform(-0.5, 0.5) * half, rng.uniform(0.7, height - 0.5)
        pen.ellipse(x, y, rng.uniform(0.1, 0.25), rng.uniform(0.1, 0.35), clothing_colour(rng))
    return pen.sprite()


def draw_bin(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A litter bin or a wheeled bin."""
    half, height = rng.uniform(0.25, 0.4), rng.uniform(0.85, 1.25)
    colour = rng.choice(((52, 78, 56), (60, 62, 66), (36, 60, 110), (150, 120, 40), (92, 60, 44)))
    pen = SpritePen(pixels_per_metre, left=0.6, right=0.6, bottom=0.1, top=height + 0.2)
    pen.polygon([(-half * 0.85, 0), (half * 0.85, 0), (half, height), (-half, height)], colour)
    pen.box(-half * 1.08, height - 0.06, half * 1.08, height + 0.06, shade(colour, 0.7))
    return pen.sprite()


def draw_cabinet(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A grey or green switch box."""
    half, height, colour = rng.uniform(0.35, 0.75), rng.uniform(1.0, 1.5), mix(_metal(rng), (90, 110, 90), rng.random())
    pen = SpritePen(pixels_per_metre, left=0.9, right=0.9, bottom=0.1, top=height + 0.1)
    pen.box(-half, 0, half, height, colour)
    pen.box(-half * 1.05, height - 0.07, half * 1.05, height, shade(colour, 1.15))
    pen.box(-0.015, 0.1, 0.015, height - 0.1, shade(colour, 0.6))
    return pen.sprite()


def draw_hedge(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A low hedge or a row of planters."""
    half, height, leaves = rng.uniform(0.7, 2.0), rng.uniform(0.5, 1.1), _foliage(rng)
    pen = SpritePen(pixels_per_metre, left=half + 0.3, right=half + 0.3, bottom=0.1, top=height + 0.3)
    pen.box(-half, 0, half, height * 0.9, shade(leaves, 0.8))
    for _ in range(round(18 * half)):
        radius = rng.uniform(0.08, 0.2)
        pen.ellipse(
            rng.uniform(-half, half),
            rng.uniform(0.1, height),
            radius,
            radius * 0.8,
            shade(leaves, rng.uniform(0.65, 1.25)),
        )
    return pen.sprite()


def draw_car_side(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A parked car or van, seen from its side."""
    is_van = rng.random() < 0.25
    half, roof, bonnet = (2.4, rng.uniform(1.9, 2.2), 1.2) if is_van else (2.05, rng.uniform(1.35, 1.55), 0.88)
    paint, glass = clothing_colour(rng), hsv(0.58, rng.uniform(0.05, 0.25), rng.uniform(0.2, 0.5))
    nose = rng.choice((-1.0, 1.0))
    pen = SpritePen(pixels_per_metre, left=half + 0.2, right=half + 0.2, bottom=0.1, top=roof + 0.1)
    tail, screen = (half * 0.97, half * 0.55) if is_van else (half * 0.8, half * 0.3)
    pen.polygon(
        [
            (-half * nose, 0.25),
            (half * nose, 0.25),
            (half * nose, bonnet * 0.85),
            (screen * 1.6 * nose, bonnet),
            (-half * nose, bonnet),
        ],
        paint,
    )
    pen.polygon(
        [
            (-tail * nose, bonnet * 0.97),
            (-tail * 0.85 * nose, roof),
            (screen * 0.75 * nose, roof),
            (screen * 1.7 * nose, bonnet * 0.97),
        ],
        paint,
    )
    pen.polygon(
        [
            (-tail * 0.88 * nose, bonnet),
            (-tail * 0.76 * nose, roof - 0.1),
            (-0.05 * nose, roof - 0.1),
            (-0.05 * nose, bonnet),
        ],
        glass,
    )
    pen.polygon(
        [
            (0.05 * nose, bonnet),
            (0.05 * nose, roof - 0.1),
            (screen * 0.7 * nose, roof - 0.1),
            (screen * 1.45 * nose, bonnet),
        ],
        glass,
    )
    pen.box(-half * 0.9, 0.04, half * 0.9, 0.3, _UNDERSIDE)
    for wheel in (-half * 0.62, half * 0.62):
        pen.ellipse(wheel, 0.32, 0.34, 0.34, _RUBBER)
        pen.ellipse(wheel, 0.32, 0.19, 0.19, (150, 150, 152))
    pen.box(-half, 0.5, half, 0.56, shade(paint, 0.75))
    pen.box(nose * (half - 0.08) - 0.07, 0.6, nose * (half - 0.08) + 0.07, 0.72, (236, 226, 190))
    return pen.sprite()


def draw_car_rear(rng: random.Random, pixels_per_metre: float) -> Sprite:
    """A parked car, seen from behind."""
    half, roof, paint = rng.uniform(0.82, 0.95), rng.uniform(1.35, 1.8), clothing_colour(rng)
    pen = SpritePen(pixels_per_metre, left=1.1, right=1.1, bottom=0.1, top=roof + 0.1)
    pen.box(-half * 0.9, 0.04, half * 0.9, 0.3, _UNDERSIDE)
    for wheel in (-half + 0.18, half - 0.18):
        pen.box(wheel - 0.12, 0, wheel + 0.12, 0.4, _RUBBER)
    pen.box(-half, 0.2, half, 0.95, paint)
    pen.polygon([(-half * 0.95, 0.9), (half * 0.95, 0.9), (half * 0.72, roof), (-half * 0.72, roof)], paint)
    pen.polygon(
        [(-half * 0.8, 0.95), (half * 0.8, 0.95), (half * 0.64, roof - 0.1), (-half * 0.64, roof - 0.1)], (52, 62, 72)
    )
    for light in (-half + 0.12, half - 0.12):
        pen.box(light - 0.1, 0.68, light + 0.1, 0.88, (180, 30, 28))
    pen.box(-0.26, 0.5, 0.26, 0.62, (232, 232, 220))
    pen.box(-half, 0.2, half, 0.34, shade(paint, 0.6))
    return pen.sprite()


LOOK_ALIKES: tuple[tuple[Prop, float], ...] = (
    (draw_lamp_post, 2.0),
    (draw_sign, 2.0),
    (draw_traffic_light, 1.2),
    (draw_tree, 1.6),
    (draw_shrub, 1.3),
    (draw_hydrant, 0.8),
    (draw_bollard, 1.4),
    (draw_pillar_box, 1.4),
    (draw_dummy_post, 0.8),
    (draw_statue, 0.8),
    (draw_poster, 0.7),
)
"""Objects that resemble pedestrians, with relative frequencies."""

OCCLUDERS: tuple[tuple[Prop, float], ...] = (
    (draw_car_side, 2.2),
    (draw_car_rear, 1.4),
    (draw_hedge, 1.6),
    (draw_bin, 1.8),
    (draw_cabinet, 1.2),
    (draw_sign, 0.6),
    (draw_tree, 0.5),
    (draw_bollard, 0.8),
)
"""Objects placed in front of pedestrians, with relative frequencies."""
