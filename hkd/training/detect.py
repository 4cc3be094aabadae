"""Pedestrians in pictures: the body of ``hkd detect``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hkd.config import EvaluationConfig, TrainingConfig, TrialConfig
from hkd.data.annotations import Annotations, ImageRecord
from hkd.data.store import open_store
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.training.checkpoint import load_detector, load_weights
from hkd.training.device import autocast_dtype, place, resolve_device
from hkd.training.inference import detect_store

DETECTIONS_FILE = "detections.json"

_BOX_COLOUR = (255, 64, 0)
_LABEL_COLOUR = (255, 255, 255)
_PICTURE_SIDE_PER_PIXEL_OF_LINE = 300


class PictureError(ValueError):
    """Pictures cannot be read, or what is drawn of them has no place; ``problems`` lists all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


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
    drawn: Path
    """The picture with the boxes drawn in."""
    pedestrians: tuple[FoundPedestrian, ...]
    """Best first."""


def detect_command(
    images: Sequence[Path],
    weights: Path,
    out: Path,
    *,
    score_threshold: float = 0.5,
    config: TrialConfig | None = None,
) -> list[PictureDetections]:
    """Find pedestrians in pictures and draw their boxes.

    Pictures are fitted to the network's input as in training. Writes ``<picture's name>.png`` for each picture and
    ``detections.json``.

    Args:
        images: Picture files.
        weights: A detector that hkd saved (``student.safetensors``), or with ``config`` any state dict that fits it.
        out: Folder to write to; made if needed.
        score_threshold: Detections below are left out.
        config: Its ``student`` and ``data`` replace what the weights file says of itself; its ``evaluation`` and
            ``training`` say how to compute.

    Raises:
        PictureError: naming all pictures that cannot be read, or would be drawn over one another. Nothing was written.
        CheckpointError: the weights cannot be used.
    """
    drawn = _places_to_draw(images, out)
    records = _records(images)
    training = TrainingConfig() if config is None else config.training
    device = resolve_device(training.device)
    detector, height, width = _detector(weights, config)
    evaluation = EvaluationConfig() if config is None else config.evaluation
    evaluation = evaluation.model_copy(update={"score_threshold": score_threshold})
    # The same store as in training, so that pictures are fitted to the network's input in the same way.
    pictures = _without_boxes(records)
    with TemporaryDirectory(prefix="hkd-detect-") as folder:
        store = open_store(pictures, height, width, Path(folder), progress=False)
        results = detect_store(
            place(detector, device),
            store,
            pictures,
            evaluation,
            device=device,
            autocast_dtype=autocast_dtype(training.precision, device),
        )
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for record, image, place_drawn in zip(records, images, drawn, strict=True):
        pedestrians = tuple(
            FoundPedestrian(tuple(result["bbox"]), result["score"])
            for result in results
            if result["image_id"] == record.image_id
        )
        _draw(image, pedestrians).save(place_drawn)
        found.append(PictureDetections(image, place_drawn, pedestrians))
    plain = [{**asdict(picture), "image": str(picture.image), "drawn": str(picture.drawn)} for picture in found]
    (out / DETECTIONS_FILE).write_text(json.dumps(plain, indent=1), encoding="utf-8")
    return found


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


def _records(images: Sequence[Path]) -> list[ImageRecord]:
    records, problems = [], []
    for number, path in enumerate(images, start=1):
        try:
            with Image.open(path) as image:
                image.convert("RGB")
                records.append(ImageRecord(number, str(path.resolve()), image.height, image.width))
        except FileNotFoundError:
            problems.append(f"{path}: there is no such picture")
        except IsADirectoryError:
            problems.append(f"{path}: is a folder; name the pictures in it, such as {path}/*.jpg")
        except Exception as error:  # noqa: BLE001 (a decoder may raise anything on a damaged file)
            problems.append(f"{path}: does not open as a picture ({error})")
    if problems:
        raise PictureError(problems)
    return records


def _without_boxes(records: Sequence[ImageRecord]) -> Annotations:
    return Annotations(
        path=None,
        image_root=Path(),
        images=tuple(records),
        image_index=np.zeros(0, dtype=np.int64),
        boxes_xywh=np.zeros((0, 4)),
        vis_ratio=np.zeros(0),
        heights=np.zeros(0),
        ignore=np.zeros(0, dtype=np.bool_),
        records=(),
    )


def _detector(weights: Path, config: TrialConfig | None) -> tuple[Detector, int, int]:
    """The detector, and the height and width of its input in pixels."""
    if config is None:
        detector, metadata = load_detector(weights)
        return detector, metadata.image_height, metadata.image_width
    detector = build_detector(config.student)
    load_weights(detector, weights)
    return detector.eval(), config.data.image_height, config.data.image_width


def _draw(path: Path, pedestrians: Sequence[FoundPedestrian]) -> Image.Image:
    """The picture with a box and a score in per cent for each pedestrian, the best drawn last."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
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
