"""Images per second over a whole epoch from files, and over an evaluation of all of them."""

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

from benchmarks.step.baseline_torchvision import BaselineDataset, BaselineTrainer, collate
from benchmarks.step.contenders import BASELINE_BF16, BASELINE_FP32, BASELINES, LABELS, OURS, Contenders, loader_workers
from benchmarks.step.ours import OursTrainer
from benchmarks.step.timing import Spread, ratios, take_turns, tell
from benchmarks.step.workload import Pictures, Workload, annotations_of, make_pictures, write_photographs
from hkd.coco.annotations import Annotations
from hkd.config import EvaluationConfig
from hkd.data.loader import evaluation_batches
from hkd.data.store import ImageStore, open_store
from hkd.models.detector import Detector
from hkd.models.fused import fuse_for_inference
from hkd.runtime.device import autocast_dtype

_FILE_SIZES = {"cpu": (480, 640), "cuda": (960, 1280)}
"""Height and width of the photographs, pixels."""


@dataclass(frozen=True)
class Throughput:
    """One contender's speed over a set of images."""

    label: str
    images_per_second: Spread
    speedup: Spread | None
    """Over the fp32 baseline, pass by pass; None where it did not take part."""


@dataclass(frozen=True)
class FromFiles:
    """What each makes of the same JPEG files."""

    images: int
    file_height: int
    file_width: int
    loader_workers: int
    store_seconds: float
    """Ours, once a node: decoding and fitting all images."""
    epoch: tuple[Throughput, ...]
    """Training on each image once; the baseline decodes them in its loader's workers. Ours measures the pulls of the
    distillation's levels on the first batch, as a training does once an epoch: the fewer images, the more it weighs."""
    data_only: tuple[Throughput, ...]
    """The same batches made but not trained on."""
    evaluation: tuple[Throughput, ...]
    """The student's detections in each image."""


@dataclass(frozen=True)
class _Photographs:
    """One set of pictures as each contender reads them."""

    pictures: Pictures
    paths: list[Path]
    store: ImageStore
    annotations: Annotations
    store_seconds: float


def measure_from_files(
    contenders: Contenders, folder: Path, *, names: Sequence[str], images: int, passes: int, sections: Sequence[str]
) -> FromFiles:
    """Writes photographs to ``folder``, and takes turns in going over them.

    Args:
        names: of the contenders: the baselines among them take part; hkd, distilled, always does.
        sections: ``epoch``, ``evaluation`` or both.
    """
    workload = contenders.workload
    device = workload.device
    photographs = _photographs(workload, folder, images)
    used = images - images % workload.batch_size
    trainers = {name: BaselineTrainer(workload, is_mixed=name == BASELINE_BF16) for name in names if name in BASELINES}
    ours = OursTrainer(workload.config, photographs.store, photographs.annotations, device, teacher=contenders.teacher)
    taken: dict[str, dict[str, list[float]]] = {}
    if "epoch" in sections:
        loader = _file_loader(workload, photographs, is_training=True)
        reading: dict[str, Callable[[], object]] = {BASELINE_FP32: partial(_exhaust, loader)}
        reading[OURS] = lambda: _exhaust(_epoch(ours))
        taken["data_only"] = take_turns(reading, passes, 1, device, "data alone")
        training: dict[str, Callable[[], object]] = {
            name: partial(_train, trainer, loader) for name, trainer in trainers.items()
        }
        training[OURS] = ours.train_epoch
        taken["epoch"] = take_turns(training, passes, 1, device, "epoch")
    if "evaluation" in sections:
        calls = _evaluations(workload, photographs, trainers, ours.learners[0].detector)
        taken["evaluation"] = take_turns(calls, passes, 1, device, "evaluation")
    height, width = _FILE_SIZES[device.type]
    return FromFiles(
        images=images,
        file_height=height,
        file_width=width,
        loader_workers=loader_workers(device),
        store_seconds=photographs.store_seconds,
        epoch=_throughputs(taken.get("epoch", {}), used),
        data_only=_throughputs(taken.get("data_only", {}), used),
        evaluation=_throughputs(taken.get("evaluation", {}), images),
    )


def _photographs(workload: Workload, folder: Path, images: int) -> _Photographs:
    tell(f"from files: writing {images} photographs")
    pictures = make_pictures(images, *_FILE_SIZES[workload.device.type])
    paths = write_photographs(folder / "images", pictures)
    annotations = annotations_of(pictures, folder / "images", [path.name for path in paths])
    started = time.perf_counter()
    store = open_store(annotations, workload.image_height, workload.image_width, folder / "stores", progress=False)
    return _Photographs(pictures, paths, store, annotations, time.perf_counter() - started)


def _file_loader(workload: Workload, photographs: _Photographs, *, is_training: bool) -> DataLoader[Any]:
    return DataLoader(
        BaselineDataset(workload, photographs.pictures, photographs.paths, is_training=is_training),
        workload.batch_size if is_training else workload.config.evaluation.batch_size,
        shuffle=is_training,
        drop_last=is_training,
        num_workers=loader_workers(workload.device),
        persistent_workers=True,
        pin_memory=workload.device.type == "cuda",
        collate_fn=collate,
    )


def _epoch(ours: OursTrainer) -> Iterable[Any]:
    return itertools.islice(iter(ours.next_batch, None), ours.loader.steps_per_epoch)


def _evaluations(
    workload: Workload, photographs: _Photographs, trainers: Mapping[str, BaselineTrainer], detector: Detector
) -> dict[str, Callable[[], object]]:
    """Each finds the same student's pedestrians: torchvision's detector takes our weights as they are."""
    loader = _file_loader(workload, photographs, is_training=False)
    calls: dict[str, Callable[[], object]] = {}
    for name, trainer in trainers.items():
        trainer.student.load_state_dict(detector.state_dict())
        calls[name] = partial(trainer.detect, loader)
    evaluation = workload.config.evaluation
    calls[OURS] = lambda: _detect(detector, photographs.store, evaluation, workload)
    return calls


@torch.no_grad()
def _detect(detector: Detector, store: ImageStore, evaluation: EvaluationConfig, workload: Workload) -> None:
    """As :func:`hkd.inference.store_detection.detect_validation`, up to the detections on the host."""
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


def _throughputs(taken: Mapping[str, Sequence[float]], images: int) -> tuple[Throughput, ...]:
    """From milliseconds a pass."""
    baseline = taken.get(BASELINE_FP32)
    return tuple(
        Throughput(
            LABELS[name],
            Spread.of(values).inverse(1e3 * images),
            None if baseline is None else ratios(baseline, values),
        )
        for name, values in taken.items()
    )


def _train(trainer: BaselineTrainer, loader: DataLoader[Any]) -> None:
    for images, targets in loader:
        trainer.step(images, targets)


def _exhaust(items: Iterable[object]) -> None:
    for _ in items:
        pass
