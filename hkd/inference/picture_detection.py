"""Pedestrians in pictures: the body of ``hkd detect``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import torch
from PIL import Image, ImageDraw, ImageFont

from hkd.config import EvaluationConfig, TrainingConfig, TrialConfig
from hkd.data.annotations import ImageRecord, read_annotations
from hkd.data.store import open_store
from hkd.files import write_atomically, write_json
from hkd.inference.pictures import PictureError, numbered_as, open_upright, picture_records, without_boxes
from hkd.inference.store_detection import detect_store
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.models.weights import CheckpointError, load_detector, load_weights
from hkd.runtime.device import autocast_dtype, place, resolve_device

DETECTIONS_FILE = "detections.json"
DRAWING_THRESHOLD: Final = 0.5
"""Boxes below are not drawn unless asked for."""

_BOX_COLOUR = (255, 64, 0)
_LABEL_COLOUR = (255, 255, 255)
_PICTURE_SIDE_PER_PIXEL_OF_LINE = 300


@dataclass(frozen=True)
class FoundPedestrian:
    """One detection."""

    bbox: tuple[float, float, float, float]
    """x, y, width, height in pixels of the picture."""
    score: float


@dataclass(frozen=True)
class PictureDetections:
    """What was found in one picture."""

    image: Path
    drawn: Path | None
    """The picture with the boxes drawn in, where that was asked for."""
    pedestrians: tuple[FoundPedestrian, ...]
    """Best first."""


@dataclass(frozen=True)
class CocoResults:
    """A file of detections that the official scripts read, such as pycocotools' ``loadRes``."""

    path: Path
    """A JSON list of ``image_id``, ``category_id`` (1), ``bbox`` [x, y, width, height] in pixels, ``score``."""
    annotations: Path | None = None
    """The ground truth whose image ids the pictures have, by file name; without it they are 1, 2, ... as given."""

    @property
    def images_path(self) -> Path:
        """Where the list of images goes if their ids are not a ground truth's."""
        return self.path.with_name(f"{self.path.stem}.images.json")


def detect_command(
    images: Sequence[Path],
    weights: Path,
    out: Path | None,
    *,
    results: CocoResults | None = None,
    score_threshold: float | None = None,
    config: TrialConfig | None = None,
) -> list[PictureDetections]:
    """Find pedestrians in pictures; draw their boxes, write them as COCO results, or both.

    Pictures are turned upright as their EXIF orientation says, and fitted to the network's input as in training. Writes
    to ``out`` a ``<picture's name>.png`` for each picture and ``detections.json``; to ``results`` the detections, and
    unless it names a ground truth, the images (``id``, ``file_name``, ``height``, ``width``) beside.

    Args:
        images: Picture files.
        weights: A detector that hkd saved (``student.safetensors``), or with ``config`` any state dict that fits it.
        out: Folder to draw to; made if needed. None draws nothing.
        results: File of COCO results; its folder is made if needed.
        score_threshold: Detections below are left out. None: of the drawings those below 0.5, of the results those
            below ``evaluation.score_threshold`` (0.01), because a miss rate needs the unsure ones as well.
        config: Its ``student`` and ``data`` replace what the weights file says of itself; its ``evaluation`` and
            ``training`` say how to compute.

    Raises:
        PictureError: naming all pictures that cannot be read, would be drawn over one another, or are not the ground
            truth's; or that a file to write is one that is read. Nothing was written.
        AnnotationError: the ground truth cannot be read.
        CheckpointError: the weights cannot be used.
    """
    evaluation = EvaluationConfig() if config is None else config.evaluation
    drawing_threshold = DRAWING_THRESHOLD if score_threshold is None else score_threshold
    lowest = drawing_threshold
    if results is not None and score_threshold is None:
        lowest = min(lowest, evaluation.score_threshold)
    drawn = [None] * len(images) if out is None else _places_to_draw(images, out)
    if results is not None:
        _require_free_places(results, images, weights, out)
    with TemporaryDirectory(prefix="hkd-detect-") as folder:
        records = _records(images, None if results is None else results.annotations, Path(folder))
        found = _detect(records, weights, config, evaluation.model_copy(update={"score_threshold": lowest}), folder)
    pictures = []
    for record, image, place_drawn in zip(records, images, drawn, strict=True):
        own = [one for one in found if one["image_id"] == record.image_id and one["score"] >= drawing_threshold]
        pedestrians = tuple(FoundPedestrian(tuple(one["bbox"]), one["score"]) for one in own)
        pictures.append(PictureDetections(image, place_drawn, pedestrians))
    if out is not None:
        _write_drawings(pictures, out)
    if results is not None:
        _write_results(results, found, images, records)
    return pictures


def _detect(
    records: Sequence[ImageRecord],
    weights: Path,
    config: TrialConfig | None,
    evaluation: EvaluationConfig,
    folder: str,
) -> list[dict[str, Any]]:
    """COCO results, picture by picture and best first."""
    training = TrainingConfig() if config is None else config.training
    device = resolve_device(training.device)
    detector, height, width = _detector(weights, config)
    computed_in = autocast_dtype(training.precision, device)
    # The same store as in training, so that pictures are fitted to the network's input in the same way; and the same
    # frozen copy as a training's evaluation judges, so that its scores are those whose miss rate was told.
    pictures = without_boxes(records)
    return detect_store(
        fuse_for_inference(place(detector, device), computed_in or torch.float32),
        open_store(pictures, height, width, Path(folder), progress=False),
        pictures,
        evaluation,
        device=device,
        autocast_dtype=computed_in,
    )


def _write_drawings(pictures: Sequence[PictureDetections], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        assert picture.drawn is not None
        _draw(picture.image, picture.pedestrians).save(picture.drawn)
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


def _require_free_places(results: CocoResults, images: Sequence[Path], weights: Path, out: Path | None) -> None:
    """Whether the results can be written without loss.

    Raises:
        PictureError: they would be written over something that is read, or over the drawings' own list.
    """
    read = [*images, weights] + ([] if results.annotations is None else [results.annotations])
    taken = {path.resolve(): "is read" for path in read}
    if out is not None:
        taken[(out / DETECTIONS_FILE).resolve()] = "is what the drawings' own list is written to"
    written = [results.path] + ([results.images_path] if results.annotations is None else [])
    if problems := [
        f"{path}: {taken[path.resolve()]}, and would be overwritten; name another file with --json"
        for path in written
        if path.resolve() in taken
    ]:
        raise PictureError(problems)


def _places_to_draw(images: Sequence[Path], out: Path) -> list[Path]:
    """Where each picture is drawn to.

    Raises:
        PictureError: two would be drawn to one place, or one over a picture that is read or that we did not draw.
    """
    drawn = [out / f"{image.stem}.png" for image in images]
    read = {image.resolve() for image in images}
    problems = [
        f"{path}: is a picture to read; write to another folder with --out" for path in drawn if path.resolve() in read
    ]
    if not (out / DETECTIONS_FILE).is_file():  # what lies there was not drawn by an earlier call
        problems += [
            f"{path}: exists already; write to another folder with --out"
            for path in drawn
            if path.exists() and path.resolve() not in read
        ]
    for path, count in Counter(drawn).items():
        if count > 1:
            rivals = ", ".join(str(image) for image, place in zip(images, drawn, strict=True) if place == path)
            problems.append(
                f"{rivals}: would all be drawn to {path}; give them to one command each, with its own --out"
            )
    if problems:
        raise PictureError(problems)
    return drawn


def _records(images: Sequence[Path], annotations: Path | None, folder: Path) -> list[ImageRecord]:
    """The pictures by their sizes and image ids.

    Raises:
        PictureError: naming all that cannot be read, or are not the ground truth's.
        AnnotationError: the ground truth cannot be read.
    """
    problems: list[str] = []
    truth = None if annotations is None else read_annotations(annotations, check_images=False)
    records = picture_records(images, folder, problems)
    if truth is not None:
        records = numbered_as(truth, images, records, problems)
    if problems:
        raise PictureError(problems)
    return records


def _detector(weights: Path, config: TrialConfig | None) -> tuple[Detector, int, int]:
    """The detector, and the height and width of its input in pixels.

    Raises:
        CheckpointError: the weights cannot be used, or do not say what detector they are of.
    """
    if config is None:
        if weights.is_file() and weights.suffix != ".safetensors":
            raise CheckpointError(
                f"{weights}: a state dict does not say what detector it is of; give the configuration of its training "
                "with --config, or name the student.safetensors that hkd saved"
            )
        detector, metadata = load_detector(weights)
        return detector, metadata.image_height, metadata.image_width
    detector = build_detector(config.student)
    load_weights(detector, weights)
    return detector.eval(), config.data.image_height, config.data.image_width


def _draw(path: Path, pedestrians: Sequence[FoundPedestrian]) -> Image.Image:
    """The picture with a box and a score in per cent for each pedestrian, the best drawn last."""
    picture = open_upright(path)
    line = max(1, round(max(picture.size) / _PICTURE_SIDE_PER_PIXEL_OF_LINE))
    font = ImageFont.load_default(size=6 * line + 6)
    canvas = ImageDraw.Draw(picture)
    for pedestrian in reversed(pedestrians):
        x, y, width, height = pedestrian.bbox
        canvas.rectangle((x, y, x + width, y + height), outline=_BOX_COLOUR, width=line)
        label = f"{100 * pedestrian.score:.0f}"
        # Above the box, or inside it where the picture ends.
        corner = (x, max(0.0, y - font.getbbox(label)[3] - line))
        canvas.rectangle(canvas.textbbox(corner, label, font=font), fill=_BOX_COLOUR)
        canvas.text(corner, label, fill=_LABEL_COLOUR, font=font)
    return picture
