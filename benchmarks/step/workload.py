"""Detectors, schedule and images of the speed benchmarks, the same for every contender.

A ResNet-50 teacher (FPN 256, head 1024) and a ResNet-18 student of half width (FPN 128, head 256) with one foreground
class. All contenders use the same numbers of sampled anchors and regions and of proposals, and augmentation of the same
strength.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hkd.coco.annotations import Annotations, parse_annotations
from hkd.coco.writing import annotation_document
from hkd.config import DataConfig, DistillationConfig, StudentConfig, TeacherConfig, TrainingConfig, TrialConfig

STUDENT = StudentConfig(backbone="resnet18", width_multiplier=0.5, pyramid_channels=128, head_channels=256)
TEACHER = TeacherConfig(backbone="resnet50", width_multiplier=1.0, pyramid_channels=256, head_channels=1024)


@dataclass(frozen=True)
class Workload:
    """Detectors, batch size, image size and device."""

    batch_size: int
    image_height: int
    """Height of the network's input, pixels."""
    image_width: int
    device: torch.device
    student: StudentConfig = STUDENT
    teacher: TeacherConfig = TEACHER

    @property
    def config(self) -> TrialConfig:
        """The workload as a configuration of ``hkd``."""
        return TrialConfig(
            data=DataConfig(image_height=self.image_height, image_width=self.image_width, max_objects_per_image=16),
            teacher=self.teacher,
            student=self.student,
            distillation=DistillationConfig(),
            training=TrainingConfig(batch_size=self.batch_size, optimizer="sgd", learning_rate=1e-3, weight_decay=1e-4),
        )


def default_workload(
    device: torch.device, batch_size: int | None = None, image_height: int | None = None, image_width: int | None = None
) -> Workload:
    """Batch size 8 and 192 x 256 pixels on a CPU, 16 and 480 x 640 on a GPU, unless arguments replace them."""
    batch, height, width = (16, 480, 640) if device.type == "cuda" else (8, 192, 256)
    return Workload(batch_size or batch, image_height or height, image_width or width, device)


@dataclass(frozen=True)
class Pictures:
    """Decoded images with their boxes."""

    images: npt.NDArray[np.uint8]
    """(N, H, W, 3) RGB."""
    boxes_xyxy: list[npt.NDArray[np.float32]]
    """Per image (n, 4), pixels."""


def make_pictures(count: int, height: int, width: int, seed: int = 0) -> Pictures:
    """Images of coarse noise with one to eight boxes of pedestrian shape; content does not affect the time."""
    generator = np.random.default_rng(seed)
    images = np.empty((count, height, width, 3), np.uint8)
    boxes = []
    for image in images:
        coarse = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        image[:] = np.repeat(np.repeat(coarse, 8, axis=0), 8, axis=1)
        number = int(generator.integers(1, 9))
        heights = generator.uniform(0.12, 0.8, number) * height
        widths = heights * 0.41
        left, top = generator.uniform(0, width - widths), generator.uniform(0, height - heights)
        boxes.append(np.stack([left, top, left + widths, top + heights], axis=1).astype(np.float32))
        for x1, y1, x2, y2 in boxes[-1].astype(int):
            image[y1:y2, x1:x2] = generator.integers(0, 255, 3)
    return Pictures(images, boxes)


def make_annotations(pictures: Pictures, image_root: Path, names: Sequence[str]) -> Annotations:
    """The boxes as ``hkd`` reads them from an annotation file."""
    count, height, width = pictures.images.shape[:3]
    images = [
        {"id": number + 1, "file_name": names[number], "height": height, "width": width} for number in range(count)
    ]
    boxes = [
        {"image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for number, own in enumerate(pictures.boxes_xyxy, start=1)
        for x1, y1, x2, y2 in own.tolist()
    ]
    document = annotation_document(images, boxes, str(image_root))
    return parse_annotations(document, image_root / "annotations.json", image_root, check_images=False)


def write_jpegs(folder: Path, pictures: Pictures) -> list[Path]:
    """Write the images as JPEG files of quality 90; returns their paths."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(pictures.images):
        paths.append(folder / f"{number:05d}.jpg")
        Image.fromarray(image).save(paths[-1], quality=90)
    return paths
