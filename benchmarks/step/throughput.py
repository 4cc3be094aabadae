"""Images per second of an epoch of training and of an evaluation, from JPEG files."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.step.contenders import BASELINE_BF16, BASELINE_FP32, BASELINES, LABELS, OURS, Contenders, loader_workers
from benchmarks.step.hkd_trainer import HkdTrainer
from benchmarks.step.timing import Spread, print_progress, ratios, time_interleaved
from benchmarks.step.torchvision_trainer import TorchvisionDataset, TorchvisionTrainer, collate
from benchmarks.step.workload import Pictures, Workload, make_annotations, make_pictures, write_jpegs
from hkd.coco.annotations import Annotations
from hkd.config import EvaluationConfig
from hkd.data.loader import evaluation_batches
from hkd.data.store import ImageStore, open_store
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.runtime.device import autocast_dtype

_FILE_SIZES = {"cpu": (480, 640), "cuda": (960, 1280)}
"""Height and width of the files, pixels."""


@dataclass(frozen=True)
class Throughput:
    """Throughput of one contender."""

    label: str
    images_per_second: Spread
    speedup: Spread | None
    """Relative to the fp32 baseline in the same pass; None if that was not measured."""


@dataclass(frozen=True)
class FromFiles:
    """Throughput of all contenders on the same JPEG files."""

    images: int
    file_height: int
    file_width: int
    loader_workers: int
    store_seconds: float
    """Seconds for hkd's image store, once per node: decoding and resizing all images."""
    epoch: tuple[Throughput, ...]
    """Training on each image once. The baseline decodes images in DataLoader workers; hkd includes the gradient ratios
    of the distillation stages on the first batch, which weigh more in a short epoch."""
    data_only: tuple[Throughput, ...]
    """Batches of an epoch without training."""
    evaluation: tuple[Throughput, ...]
    """The student's detections in all images."""


@dataclass(frozen=True)
class _ImageFiles:
    """The same images as JPEG files and as hkd's image store."""

    pictures: Pictures
    paths: list[Path]
    store: ImageStore
    annotations: Annotations
    store_seconds: float


def measure_from_files(
    contenders: Contenders, folder: Path, *, names: Sequence[str], images: int, passes: int, sections: Sequence[str]
) -> FromFiles:
    """Write JPEG files to ``folder``, and measure interleaved passes over them.

    Args:
        contenders: provides the workload and hkd's teacher.
        folder: of the files.
        names: contenders to measure; baselines are optional, distilled hkd is always measured.
        images: number of files.
        passes: measured passes, after one warm-up pass.
        sections: ``epoch``, ``evaluation`` or both.
    """
    workload = contenders.workload
    device = workload.device
    files = _write_image_files(workload, folder, images)
    used = images - images % workload.batch_size
    trainers = {
        name: TorchvisionTrainer(workload, is_bf16=name == BASELINE_BF16) for name in names if name in BASELINES
    }
    ours = HkdTrainer(workload.config, files.store, files.annotations, device, teacher=contenders.teacher)
    milliseconds: dict[str, dict[str, list[float]]] = {}
    if "epoch" in sections:
        loader = _file_loader(workload, files, is_training=True)
        reading: dict[str, Callable[[], object]] = {BASELINE_FP32: partial(_exhaust, loader)}
        reading[OURS] = lambda: _exhaust(_epoch(ours))
        milliseconds["data_only"] = time_interleaved(reading, passes, 1, device, "data alone")
        training: dict[str, Callable[[], object]] = {
            name: partial(_train, trainer, loader) for name, trainer in trainers.items()
        }
        training[OURS] = ours.train_epoch
        milliseconds["epoch"] = time_interleaved(training, passes, 1, device, "epoch")
    if "evaluation" in sections:
        calls = _evaluations(workload, files, trainers, ours.learners[0].detector)
        milliseconds["evaluation"] = time_interleaved(calls, passes, 1, device, "evaluation")
    height, width = _FILE_SIZES[device.type]
    return FromFiles(
        images=images,
        file_height=height,
        file_width=width,
        loader_workers=loader_workers(device),
        store_seconds=files.store_seconds,
        epoch=_throughputs(milliseconds.get("epoch", {}), used),
        data_only=_throughputs(milliseconds.get("data_only", {}), used),
        evaluation=_throughputs(milliseconds.get("evaluation", {}), images),
    )


def _write_image_files(workload: Workload, folder: Path, images: int) -> _ImageFiles:
    print_progress(f"from files: writing {images} files")
    pictures = make_pictures(images, *_FILE_SIZES[workload.device.type])
    paths = write_jpegs(folder / "images", pictures)
    annotations = make_annotations(pictures, folder / "images", [path.name for path in paths])
    started = time.perf_counter()
    store = open_store(annotations, workload.image_height, workload.image_width, folder / "stores", progress=False)
    return _ImageFiles(pictures, paths, store, annotations, time.perf_counter() - started)


def _file_loader(workload: Workload, files: _ImageFiles, *, is_training: bool) -> DataLoader[Any]:
    return DataLoader(
        TorchvisionDataset(workload, files.pictures, files.paths, is_training=is_training),
        workload.batch_size if is_training else workload.config.evaluation.batch_size,
        shuffle=is_training,
        drop_last=is_training,
        num_workers=loader_workers(workload.device),
        persistent_workers=True,
        pin_memory=workload.device.type == "cuda",
        collate_fn=collate,
    )


def _epoch(ours: HkdTrainer) -> Iterable[Any]:
    return itertools.islice(iter(ours.next_batch, None), ours.loader.steps_per_epoch)


def _evaluations(
    workload: Workload, files: _ImageFiles, trainers: Mapping[str, TorchvisionTrainer], detector: Detector
) -> dict[str, Callable[[], object]]:
    """Detection with the same student weights, which fit torchvision's detector too."""
    loader = _file_loader(workload, files, is_training=False)
    calls: dict[str, Callable[[], object]] = {}
    for name, trainer in trainers.items():
        trainer.student.load_state_dict(detector.state_dict())
        calls[name] = partial(trainer.detect, loader)
    evaluation = workload.config.evaluation
    calls[OURS] = lambda: _detect(detector, files.store, evaluation, workload)
    return calls


@torch.no_grad()
def _detect(detector: Detector, store: ImageStore, evaluation: EvaluationConfig, workload: Workload) -> None:
    """As :func:`hkd.inference.store_detection.detect_validation`, without conversion to COCO results."""
    dtype = autocast_dtype(workload.config.training.precision, workload.device)
    fused = fuse_for_inference(detector, dtype or torch.float32)  # as the evaluation of a training does, each time
    for images, valid_sizes, _ in evaluation_batches(store, evaluation.batch_size, workload.device):
        with torch.autocast(workload.device.type, dtype=dtype, enabled=dtype is not None):
            found = fused.detect(
                images,
                valid_sizes,
                score_threshold=evaluation.score_threshold,
                nms_iou=evaluation.nms_iou,
                max_detections=evaluation.max_detections_per_image,
            )
        for part in (found.boxes_xyxy, found.scores, found.valid):
            part.cpu()


def _throughputs(milliseconds: Mapping[str, Sequence[float]], images: int) -> tuple[Throughput, ...]:
    """From the milliseconds of each pass."""
    baseline = milliseconds.get(BASELINE_FP32)
    return tuple(
        Throughput(
            LABELS[name],
            Spread.of(values).inverse(1e3 * images),
            None if baseline is None else ratios(baseline, values),
        )
        for name, values in milliseconds.items()
    )


def _train(trainer: TorchvisionTrainer, loader: DataLoader[Any]) -> None:
    for images, targets in loader:
        trainer.step(images, targets)


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass
