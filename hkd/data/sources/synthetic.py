"""Generated street scenes with labelled pedestrians: data that needs no download.

A scene is a function of ``(seed, index)``, its size and a :class:`SceneStyle`. People, look-alikes and occluders are
placed on the ground plane of a pinhole camera, so that the row of the feet determines the height, and are painted back
to front. An identity map records the visible pixels of each pedestrian, from which the visible boxes are computed.
"""

from __future__ import annotations

import hashlib
import math
import random
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_json
from hkd.coco.writing import annotation_document, write_documents
from hkd.data.conversion.progress import track_progress
from hkd.data.sources.scene.canvas import Canvas, Footprint, PixelBox, noise, smooth_noise
from hkd.data.sources.scene.composition import Light, compose, paint
from hkd.data.sources.scene.street import draw_street, sample_camera, sample_street
from hkd.data.sources.scene.style import DEFAULT_STYLE, REFERENCE_HEIGHT, STYLES, SceneStyle
from hkd.data.sources.scene.weather import apply_weather, sample_weather
from hkd.files import partial_folder, remove_leftovers

__all__ = [
    "DEFAULT_STYLE",
    "STYLES",
    "PedestrianBox",
    "Scene",
    "SceneError",
    "SceneStyle",
    "draw_scene",
    "validation_scenes",
    "write_scenes",
]

SMALLEST_SIDE = 64
"""Shortest allowed side of a scene, pixels."""
FIRST_VALIDATION_INDEX = 1_000_000
"""Training scenes are numbered from 0, validation scenes from here, so that they do not depend on ``train_images``."""
MAX_QUEUED_SCENES = 8
_ABANDONED_SECONDS = 86_400.0
"""Age from which a temporary folder counts as left by a killed process: no lock shows it."""


class SceneError(ValueError):
    """Scenes of a size or number that cannot be drawn."""


@dataclass(frozen=True)
class PedestrianBox:
    """A pedestrian or an ignore region; boxes are (x, y, width, height) in whole pixels of the picture."""

    bbox: tuple[int, int, int, int]
    """Full body, hidden parts included, clipped to the picture."""
    vis_bbox: tuple[int, int, int, int]
    """Tight box of the visible pixels."""
    vis_ratio: float
    """Area of ``vis_bbox`` over the area of the full body's box *before* clipping, in (0, 1]."""
    ignore: bool
    """A crowd, or a pedestrian who is too small or too occluded to count."""
    is_crowd: bool = False
    """Several people under one box."""


@dataclass(frozen=True)
class Scene:
    """A picture and its labels."""

    image: NDArray[np.uint8]
    """(height, width, 3) RGB."""
    boxes: tuple[PedestrianBox, ...]


def _area(box: PixelBox) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def label_figure(
    canvas: Canvas, identity: int, footprints: Sequence[Footprint], is_crowd: bool, style: SceneStyle
) -> PedestrianBox | None:
    """Label of one identity with the given footprints; ``None`` if no pixel of it is visible."""
    full = _union([footprint.box for footprint in footprints])
    width, height = canvas.picture.size
    clipped = max(full[0], 0), max(full[1], 0), min(full[2], width), min(full[3], height)
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        return None
    visible = canvas.visible_box(identity, clipped)
    if visible is None:
        return None
    visibility = _area(visible) / _area(full)
    own_pixels = sum(footprint.num_pixels(visible) for footprint in footprints)
    return PedestrianBox(
        bbox=_xywh(clipped),
        vis_bbox=_xywh(visible),
        vis_ratio=visibility,
        ignore=is_crowd
        or clipped[3] - clipped[1] < style.ignored_below_height
        or visibility < style.ignored_below_visibility
        or canvas.num_visible(identity, visible) < style.ignored_below_fill * own_pixels,
        is_crowd=is_crowd,
    )


def _union(boxes: Sequence[PixelBox]) -> PixelBox:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _xywh(box: PixelBox) -> tuple[int, int, int, int]:
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def _blur_kernel(deviation: float) -> ImageFilter.Kernel:
    """Gaussian blur over 3 x 3 pixels, sufficient for standard deviations below a pixel."""
    side = math.exp(-0.5 / deviation**2)
    return ImageFilter.Kernel((3, 3), [side * side, side, side * side, side, 1.0, side, side * side, side, side * side])


def _expose(picture: Image.Image, rng: random.Random, style: SceneStyle) -> NDArray[np.uint8]:
    """Simulate the camera: exposure, contrast, colour cast, blur, uneven light, noise."""
    gain, contrast = rng.uniform(*style.gain), rng.uniform(*style.picture_contrast)
    table: list[int] = []
    for _ in range(3):
        slope = gain * contrast * (1.0 + rng.uniform(-style.tint, style.tint))
        lift = 110.0 * (1.0 - contrast) * gain
        table += [min(255, round(level * slope + lift)) for level in range(256)]
    picture = picture.point(table).filter(_blur_kernel(rng.uniform(*style.blur)))
    height, width = picture.height, picture.width
    deviation = rng.uniform(*style.noise)
    evenness = 1.0 + style.unevenness * smooth_noise(rng, height, width, height // 3)
    pixels = np.asarray(picture) * evenness[:, :, None]
    pixels += deviation * noise(rng, height, 3 * width).reshape(height, width, 3)
    pixels += 0.6 * deviation * noise(rng, height, width)[:, :, None]
    exposed: NDArray[np.uint8] = np.clip(pixels, 0, 255, out=pixels).astype(np.uint8)
    return exposed


def draw_scene(
    seed: int, index: int, height: int = REFERENCE_HEIGHT, width: int = 384, style: SceneStyle = DEFAULT_STYLE
) -> Scene:
    """Draw one street scene; equal arguments give equal bytes.

    Args:
        seed: Seed of a family of scenes.
        index: Number of the scene in its family, from 0.
        height, width: Size of the picture, pixels; pedestrians scale with the height.
        style: Distribution of scenes.

    Returns:
        The picture (height, width, 3) and a label for every pedestrian with a visible pixel; one label per crowd.

    Raises:
        SceneError: a side is shorter than 64 pixels.
    """
    if min(height, width) < SMALLEST_SIDE:
        raise SceneError(f"a scene of {height} x {width} pixels; allowed: at least {SMALLEST_SIDE} pixels a side")
    rng = random.Random(f"{seed}/{index}")  # noqa: S311 (drawing pictures, not secrets)
    camera = sample_camera(rng, height, width)
    street = sample_street(rng, height)
    plan = compose(rng, camera, street, style, height, width)
    picture, haze = draw_street(rng, camera, street, height, width, rng.uniform(*style.texture))
    light = Light(
        haze=haze,
        side=rng.uniform(-1.0, 1.0),
        shadow_slant=rng.uniform(-0.9, 0.9),
        shadow_length=rng.choice((-1.0, 1.0)) * rng.uniform(0.08, 0.3),
        shadow_strength=rng.choice((0.12, 0.3, 0.5)) * rng.uniform(0.6, 1.1),
    )
    canvas = Canvas(picture)
    weather = sample_weather(rng, style)
    painted = paint(canvas, plan, rng, camera, light, style, weather.haze)
    labels = (
        label_figure(canvas, identity, footprints, identity in plan.crowds, style)
        for identity, footprints in painted.items()
    )
    picture = apply_weather(canvas.picture, weather, rng)
    return Scene(_expose(picture, rng, style), tuple(label for label in labels if label is not None))


def validation_scenes(
    count: int, *, height: int, width: int, seed: int, style: SceneStyle
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """File names and pictures of the validation scenes that :func:`write_scenes` writes, with the same arguments."""
    for number in range(count):
        picture = draw_scene(seed, FIRST_VALIDATION_INDEX + number, height, width, style).image
        yield _file_name("validation", number), picture


def style_hash(style: SceneStyle) -> str:
    """16 hexadecimal digits that change with any value of a style."""
    return hashlib.sha256(repr(style).encode()).hexdigest()[:16]


def write_scenes(
    out_dir: Path,
    *,
    train_images: int,
    validation_images: int,
    height: int = REFERENCE_HEIGHT,
    width: int = 384,
    seed: int = 0,
    progress: bool = True,
    style: SceneStyle = DEFAULT_STYLE,
) -> tuple[Path, Path]:
    """Draw training and validation scenes: PNG files in ``out_dir/images``, and a COCO JSON of each set in ``out_dir``.

    An annotation file exists only if all its images do. An interruption while drawing leaves previous files unchanged.

    Args:
        out_dir: Created if missing; scenes that were drawn there with the same arguments are replaced.
        train_images, validation_images: Number of scenes.
        progress: Show a progress bar on stderr.

    Returns:
        The paths of ``train.json`` and ``validation.json``.

    Raises:
        SceneError: a number of images is below 1 or above 1,000,000, or a side is shorter than 64 pixels.
        AnnotationError: ``out_dir`` holds annotations of another set, or scenes drawn with other arguments.
    """
    for name, count in (("train_images", train_images), ("validation_images", validation_images)):
        if not 1 <= count <= FIRST_VALIDATION_INDEX:
            raise SceneError(f"{name} is {count}; allowed: integer from 1 to {FIRST_VALIDATION_INDEX}")
    out_dir = Path(out_dir)
    settings: dict[str, Any] = {
        "seed": seed,
        "height": height,
        "width": width,
        "style": style_hash(style),
    }
    splits = {
        "train": range(train_images),
        "validation": range(FIRST_VALIDATION_INDEX, FIRST_VALIDATION_INDEX + validation_images),
    }
    paths = {split: out_dir / f"{split}.json" for split in splits}
    for split, path in paths.items():
        _require_same_set(path, {"images": len(splits[split]), **settings})
    folder = out_dir / "images"
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, min_age_seconds=_ABANDONED_SECONDS)
    with partial_folder(folder) as partial:
        documents = _draw_all(partial, splits, settings, style, progress)
        for path in paths.values():
            path.unlink(missing_ok=True)  # old annotations must not exist while images are replaced
        for picture in sorted(partial.iterdir()):
            picture.replace(folder / picture.name)
        write_documents({paths[split]: document for split, document in documents.items()})
    return paths["train"], paths["validation"]


def _require_same_set(path: Path, settings: Mapping[str, Any]) -> None:
    if not path.exists():
        return
    document = read_json(path)
    info = document.get("info") if isinstance(document, dict) else None
    found = info.get("scenes") if isinstance(info, dict) else None
    if not isinstance(found, dict):
        problem = "contains annotations of another data set, or of an older version"
    else:
        differences = [
            f"{name} {found.get(name)!r} instead of {value!r}"
            for name, value in settings.items()
            if found.get(name) != value
        ]
        if not differences:
            return
        problem = f"contains scenes drawn with {', '.join(differences)}"
    raise AnnotationError([f"{problem}; choose another folder, or remove the file"], str(path))


def _draw_all(
    folder: Path, splits: Mapping[str, range], settings: Mapping[str, Any], style: SceneStyle, progress: bool
) -> dict[str, dict[str, Any]]:
    """Draw every scene into ``folder``; return the COCO document of each split."""
    scenes = [(split, index) for split, indices in splits.items() for index in indices]
    records: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {split: ([], []) for split in splits}
    # PNG compression releases the GIL: one thread compresses while this one draws.
    with ThreadPoolExecutor(max_workers=1) as compressor:
        unwritten: deque[Future[None]] = deque()
        for split, index in track_progress(scenes, "drawing street scenes", shown=progress):
            scene = draw_scene(settings["seed"], index, settings["height"], settings["width"], style)
            name = _file_name(split, index - splits[split].start)
            unwritten.append(compressor.submit(_write_png, scene.image, folder / name))
            if len(unwritten) > MAX_QUEUED_SCENES:
                unwritten.popleft().result()
            images, annotations = records[split]
            height, width, _ = scene.image.shape
            images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
            annotations += [_annotation(box, len(images)) for box in scene.boxes]
        for written in unwritten:
            written.result()
    documents = {split: annotation_document(*parts, "images") for split, parts in records.items()}
    for split, document in documents.items():
        document["info"]["scenes"] = {"images": len(splits[split]), **settings}
    return documents


def _file_name(split: str, number: int) -> str:
    return f"{split}_{number:06d}.png"


def _write_png(image: NDArray[np.uint8], path: Path) -> None:
    # On noisy pictures, run-length encoding is faster than deflate's search for repeated strings, and smaller.
    Image.fromarray(image).save(path, compress_level=1, compress_type=zlib.Z_RLE)


def _annotation(box: PedestrianBox, image_id: int) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "bbox": list(box.bbox),
        "vis_bbox": list(box.vis_bbox),
        "vis_ratio": box.vis_ratio,
        "height": box.bbox[3],
        "ignore": int(box.ignore),
        "iscrowd": int(box.is_crowd),
    }
