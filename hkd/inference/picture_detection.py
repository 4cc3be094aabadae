"""Detection of pedestrians in image files, drawn or written as COCO results: the body of ``hkd detect``."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hkd.coco.annotations import without_boxes
from hkd.coco.categories import PEDESTRIAN_ID
from hkd.coco.documents import read_images
from hkd.coco.images import ImageRecord, text_ids
from hkd.config import EvaluationConfig, TrialConfig
from hkd.files import replace_atomically, write_atomically, write_json
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.pixels import read_rgb
from hkd.inference.image_detection import ImageDetection
from hkd.inference.pictures import PictureError, PictureFile, numbered_as, picture_files, picture_records

DETECTIONS_FILE = "detections.json"
DRAWING_THRESHOLD: Final = 0.5
"""Default score threshold of drawings."""

_BOX_COLOUR = (255, 64, 0)
_LABEL_COLOUR = (255, 255, 255)
_IMAGE_PIXELS_PER_LINE_PIXEL = 300


@dataclass(frozen=True)
class FoundPedestrian:
    """One detection."""

    bbox: tuple[float, float, float, float]
    """x, y, width, height in pixels of the upright image."""
    score: float


@dataclass(frozen=True)
class PictureDetections:
    """The detections in one image file."""

    image: Path
    drawn: Path | None
    """The image with its boxes drawn, if drawing was requested."""
    pedestrians: tuple[FoundPedestrian, ...]
    """By descending score."""


@dataclass(frozen=True)
class CocoResults:
    """A file of COCO results, as read by pycocotools' ``loadRes``."""

    path: Path
    """A JSON list of ``image_id``, ``category_id`` (1, or that of ``annotations``), ``bbox`` [x, y, width, height] in
    pixels, ``score``."""
    annotations: Path | None = None
    """Annotation file whose image ids are used, matched by file name; None numbers the images from 1 as given."""

    @property
    def images_path(self) -> Path:
        """File of the list of images, written if there are no ``annotations``."""
        return self.path.with_name(f"{self.path.stem}.images.json")


def detect_command(
    images: Sequence[Path],
    weights: Path,
    out: Path | None,
    *,
    results: CocoResults | None = None,
    score_threshold: float | None = None,
    config: TrialConfig | None = None,
    max_megapixels: float | None = None,
    unreadable: list[str] | None = None,
) -> list[PictureDetections]:
    """Detect pedestrians in images; draw their boxes, write them as COCO results, or both.

    Images are rotated to their EXIF orientation and resized to the network's input as in training. Writes to ``out``
    one ``<image name>.png`` per image (of folders: below their sub-folders) and ``detections.json``; to ``results`` the
    detections and, unless it has ``annotations``, the list of images (``id``, ``file_name``, ``height``, ``width``)
    next to it.

    Args:
        images: image files, and folders of some, at any depth.
        weights: a detector saved by hkd (``student.safetensors``), an exported one (``.onnx``), or with ``config`` any
            state dict that fits it.
        out: folder of drawings, created if missing; None draws nothing.
        results: file of COCO results; its folder is created if missing.
        score_threshold: detections with a lower score are dropped. None: 0.5 for drawings,
            ``evaluation.score_threshold`` (default 0.01) for results, because miss rates need low scores too.
        config: ``student`` and ``data`` replace the metadata of the weights file; ``evaluation`` and ``training`` set
            thresholds, batch size, device and precision.
        max_megapixels: largest number of pixels of an image, in millions; None: as ``config.data``, else 100.
        unreadable: gets a message for each image that cannot be read, and the others are processed; None: one is an
            error.

    Raises:
        PictureError: listing all images that cannot be read (see ``unreadable``; if none can be read, in any case),
            would overwrite each other's drawings or do not match ``annotations``; or a file to write is also read, or
            the exported detector has no scores as low as requested. Nothing has been written.
        AnnotationError: the annotation file cannot be read.
        CheckpointError: the weights cannot be used.
    """
    evaluation = EvaluationConfig() if config is None else config.evaluation
    if max_megapixels is None:
        max_megapixels = DEFAULT_MAX_MEGAPIXELS if config is None else config.data.max_megapixels
    drawing_threshold = DRAWING_THRESHOLD if score_threshold is None else score_threshold
    lowest = drawing_threshold
    if results is not None and score_threshold is None:
        lowest = min(lowest, evaluation.score_threshold)
    files = picture_files(images)
    paths = [file.path for file in files]
    drawings = [None] * len(files) if out is None else _drawing_paths(files, images, out)
    if results is not None:
        _check_results_paths(results, paths, weights, out)
    detection = ImageDetection(
        weights, config, evaluation.model_copy(update={"score_threshold": lowest}), max_megapixels
    )
    _check_lowest_score(
        detection.lowest_score,
        weights,
        score_threshold,
        drawn=None if out is None else drawing_threshold,
        written=None if results is None else lowest,
    )
    readable, records, people_id = _records(
        paths, None if results is None else results.annotations, max_megapixels, unreadable
    )
    shown_images, drawn = [paths[index] for index in readable], [drawings[index] for index in readable]
    found = detection.detect(without_boxes(records, Path()), "Detecting", progress=len(records) > 1)
    image_ids = np.array(sorted(record.image_id for record in records), dtype=np.int64)
    is_drawn = found.scores >= drawing_threshold
    drawn_of_image: dict[int, list[FoundPedestrian]] = {}
    for image_id, box, score in zip(
        image_ids[found.image_index[is_drawn]].tolist(),
        found.boxes_xywh[is_drawn].tolist(),
        found.scores[is_drawn].tolist(),
        strict=True,
    ):
        drawn_of_image.setdefault(image_id, []).append(FoundPedestrian(tuple(box), score))
    pictures = []
    for record, image, drawing in zip(records, shown_images, drawn, strict=True):
        pedestrians = tuple(drawn_of_image.get(record.image_id, ()))
        pictures.append(PictureDetections(image, drawing, pedestrians))
    if out is not None:
        _write_drawings(pictures, out, max_megapixels)
    if results is not None:
        _write_results(results, found.coco_results(image_ids, text_ids(records), people_id), shown_images, records)
    return pictures


def _check_lowest_score(
    found: float, weights: Path, requested: float | None, *, drawn: float | None, written: float | None
) -> None:
    """Report that an exported detector has dropped scores that are needed: an error if the user requested them.

    ``drawn`` and ``written`` are the lowest scores of drawings and of results, if there are any.
    """
    if requested is not None and requested < found:
        problem = (
            f"{weights}: was exported without scores up to {found:g}; give --score-threshold {found:g} or more, or "
            "export it with a lower --score-threshold"
        )
        raise PictureError([problem])
    exported = f"{weights} was exported without scores up to {found:g}"
    if drawn is not None and drawn < found:
        warnings.warn(f"{exported}: drawings show higher ones only", stacklevel=2)
    if written is not None and written < found:
        warnings.warn(f"{exported}: miss rates of these results are too high", stacklevel=2)


def _write_drawings(pictures: Sequence[PictureDetections], out: Path, max_megapixels: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        assert picture.drawn is not None
        drawing = _draw(picture.image, picture.pedestrians, max_megapixels)
        with replace_atomically(picture.drawn) as partial:
            drawing.save(partial, format="PNG")
    plain = [{**asdict(picture), "image": str(picture.image), "drawn": str(picture.drawn)} for picture in pictures]
    write_atomically(out / DETECTIONS_FILE, json.dumps(plain, indent=1))


def _write_results(
    results: CocoResults, found: list[dict[str, Any]], images: Sequence[Path], records: Sequence[ImageRecord]
) -> None:
    if results.annotations is None:
        listed = [
            {"id": record.image_id, "file_name": str(image), "height": record.height, "width": record.width}
            for image, record in zip(images, records, strict=True)
        ]
        write_json(results.images_path, {"images": listed})
    write_json(results.path, found, indent=None)


def _check_results_paths(results: CocoResults, images: Sequence[Path], weights: Path, out: Path | None) -> None:
    """Raise a PictureError if the results would overwrite an input or the ``detections.json`` of the drawings."""
    read = [*images, weights] + ([] if results.annotations is None else [results.annotations])
    used = {path.resolve(): "is an input" for path in read}
    if out is not None:
        used[(out / DETECTIONS_FILE).resolve()] = "is the list of drawn detections that --out writes"
    written = [results.path] + ([results.images_path] if results.annotations is None else [])
    if problems := [
        f"{path}: {used[path.resolve()]} and would be overwritten; choose another file with --json"
        for path in written
        if path.resolve() in used
    ]:
        raise PictureError(problems)


def _drawing_paths(files: Sequence[PictureFile], given: Sequence[Path], out: Path) -> list[Path]:
    """The file of each image's drawing.

    Raises:
        PictureError: two images have the same file, or a file is an input or exists and is not a previous drawing, or
            ``out`` is in a folder of images.
    """
    drawn = [out / file.relative.with_suffix(".png") for file in files]
    read = {file.path.resolve() for file in files}
    problems = [
        f"{out}: is in the folder of images {folder}, so that drawings would be read as images; choose another folder "
        "with --out"
        for folder in given
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve())
    ]
    problems += [
        f"{path}: is an input image and would be overwritten; choose another folder with --out"
        for path in drawn
        if path.resolve() in read
    ]
    if not (out / DETECTIONS_FILE).is_file():  # existing files are not drawings of an earlier call
        problems += [
            f"{path}: exists already; choose another folder with --out"
            for path in drawn
            if path.exists() and path.resolve() not in read
        ]
    for path, count in Counter(drawn).items():
        if count > 1:
            same = ", ".join(str(file.path) for file, other in zip(files, drawn, strict=True) if other == path)
            problems.append(f"{same}: would all be drawn to {path}; run one command for each, with different --out")
    if problems:
        raise PictureError(problems)
    return drawn


def _records(
    images: Sequence[Path], annotations: Path | None, max_megapixels: float, unreadable: list[str] | None
) -> tuple[list[int], list[ImageRecord], int]:
    """Positions of the readable images, their upright sizes and ids, and the category of people, as in ``annotations``.

    Raises:
        PictureError: listing all images that cannot be read, unless ``unreadable`` gets them, or do not match
            ``annotations``.
        AnnotationError: the annotation file cannot be read.
    """
    damaged: list[str] = []
    problems: list[str] = []
    annotated, people_id = (None, PEDESTRIAN_ID) if annotations is None else read_images(annotations)
    records = picture_records(images, max_megapixels, damaged, progress=len(images) > 1)
    readable = [record.image_id - 1 for record in records]
    if unreadable is None or not records:
        problems += damaged
    else:
        unreadable += damaged
    if annotations is not None and annotated is not None:
        records = numbered_as(annotated, annotations, images, records, problems)
    if problems:
        raise PictureError(problems)
    return readable, records, people_id


def _draw(path: Path, pedestrians: Sequence[FoundPedestrian], max_megapixels: float) -> Image.Image:
    """The image with boxes and scores in per cent; higher scores are drawn over lower ones."""
    picture = read_rgb(path, max_megapixels)
    line = max(1, round(max(picture.size) / _IMAGE_PIXELS_PER_LINE_PIXEL))
    font = ImageFont.load_default(size=6 * line + 6)
    canvas = ImageDraw.Draw(picture)
    for pedestrian in reversed(pedestrians):
        x, y, width, height = pedestrian.bbox
        canvas.rectangle((x, y, x + width, y + height), outline=_BOX_COLOUR, width=line)
        label = f"{100 * pedestrian.score:.0f}"
        # Above the box, or inside it at the image's upper border.
        corner = (x, max(0.0, y - font.getbbox(label)[3] - line))
        canvas.rectangle(canvas.textbbox(corner, label, font=font), fill=_BOX_COLOUR)
        canvas.text(corner, label, fill=_LABEL_COLOUR, font=font)
    return picture
