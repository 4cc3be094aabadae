"""Detectors written as ONNX files: the body of ``hkd export``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

import hkd
from hkd.config import DetectorConfig, EvaluationConfig, TrialConfig
from hkd.export.detection import InputShape, add_detections, add_normalised, add_pooled, add_proposals
from hkd.export.graph import OPSET, GraphBuilder
from hkd.export.layers import add_box_head, add_proposal_head, add_pyramid
from hkd.files import file_hash, write_atomically
from hkd.inference.deployed.metadata import (
    FORMAT,
    INPUT,
    MOST_DETECTIONS,
    OUTPUTS,
    PROPERTY,
    RESIZING,
    DeployedMetadata,
    StudyIdentity,
    input_size_problem,
)
from hkd.inference.deployed.onnx_file import graph_problems
from hkd.inference.detector_files import read_detector
from hkd.models.cost import detector_cost
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import DETECTOR_SUFFIX, read_metadata
from hkd.text.escaping import LinesError

CLASSES = ("pedestrian",)


class ExportError(LinesError):
    """A detector cannot be exported as asked. Each problem is a line."""


@dataclass(frozen=True)
class ExportSettings:
    """What an exported graph has fixed."""

    batch: int
    """N, images a call."""
    max_detections: int
    """K, slots of an image."""
    score_threshold: float
    nms_iou: float

    @classmethod
    def of_evaluation(
        cls,
        evaluation: EvaluationConfig,
        *,
        batch: int = 1,
        max_detections: int | None = None,
        score_threshold: float | None = None,
        nms_iou: float | None = None,
    ) -> ExportSettings:
        """Those of an evaluation, where they are not given."""
        return cls(
            batch,
            evaluation.max_detections_per_image if max_detections is None else max_detections,
            evaluation.score_threshold if score_threshold is None else score_threshold,
            evaluation.nms_iou if nms_iou is None else nms_iou,
        )


@dataclass(frozen=True)
class ExportedFile:
    """A written file."""

    path: Path
    num_bytes: int
    metadata: DeployedMetadata


def export_detector(
    weights: Path,
    out: Path,
    settings: ExportSettings,
    *,
    config: TrialConfig | None = None,
    study: StudyIdentity | None = None,
) -> ExportedFile:
    """Write the detector of a file of weights as an ONNX file.

    Args:
        weights: a detector saved by hkd, or with ``config`` any file that fits its student.
        out: the new file, written atomically.
        settings: fixed numbers of the graph.
        config: see :func:`hkd.inference.detector_files.read_detector`.
        study: where the weights are from.

    Raises:
        CheckpointError: the weights cannot be used.
        ExportError: the detector has more proposals than can be exported, the graph would be too large, or the file
            states a metric that is not finite.
    """
    return write_model(*detector_model(weights, settings, config=config, study=study), out)


def detector_model(
    weights: Path, settings: ExportSettings, *, config: TrialConfig | None = None, study: StudyIdentity | None = None
) -> tuple[onnx.ModelProto, DeployedMetadata]:
    """The graph of a detector with its metadata; arguments and errors as of :func:`export_detector`."""
    detector, height, width = read_detector(weights, config)
    architecture = _architecture(weights, config)
    metrics = _metrics(weights, architecture, height, width)
    _check_numbers(detector, settings, weights, (height, width))
    if unknown := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise ExportError(
            f"{weights}: its metrics {', '.join(unknown)} are not finite: the training diverged, or the file is "
            "damaged; export other weights"
        )
    cost = detector_cost(detector, height, width)
    metadata = DeployedMetadata(
        format=FORMAT,
        hkd_version=hkd.__version__,
        versions={"onnx": onnx.__version__, "torch": torch.__version__},
        opset=OPSET,
        precision="fp32",
        fp32_layers=(),
        classes=CLASSES,
        batch=settings.batch,
        image_height=height,
        image_width=width,
        resizing=RESIZING,
        max_detections=settings.max_detections,
        score_threshold=settings.score_threshold,
        nms_iou=settings.nms_iou,
        detector=architecture,
        num_params=cost.num_params,
        flops=cost.flops,
        metrics=metrics,
        weights_sha256=file_hash(weights),
        study=study,
    )
    model = build_graph(detector, InputShape(settings.batch, height, width), settings, metadata)
    if problems := graph_problems(model, metadata):
        raise ExportError(
            f"{weights}: the graph could not be read: {problems[0]}; give a smaller --batch, or --config with smaller "
            "images or fewer proposals"
        )
    return model, metadata


def build_graph(
    detector: Detector, shape: InputShape, settings: ExportSettings, metadata: DeployedMetadata
) -> onnx.ModelProto:
    """The graph: ``images`` (N, 3, H, W) uint8 to ``boxes`` (N, K, 4), ``scores`` (N, K) and ``count`` (N,)."""
    assert detector.num_classes == len(CLASSES) + 1
    graph = GraphBuilder()
    images, limits = add_normalised(graph, detector, INPUT, shape)
    levels = add_pyramid(graph, detector, images)
    heads = add_proposal_head(graph, detector.rpn, levels)
    proposals = add_proposals(graph, detector, heads, limits, shape)
    pooled = add_pooled(graph, detector, levels[:-1], proposals.boxes, shape)
    probabilities, deltas = add_box_head(graph, detector.roi_heads, pooled)
    found = add_detections(
        graph,
        proposals,
        probabilities,
        deltas,
        limits,
        shape,
        count=detector.proposals_per_image,
        score_threshold=settings.score_threshold,
        nms_iou=settings.nms_iou,
        max_detections=settings.max_detections,
    )
    batch, slots = shape.batch, settings.max_detections
    kinds: list[tuple[type[np.generic], list[int]]] = [
        (np.float32, [batch, slots, 4]),
        (np.float32, [batch, slots]),
        (np.int64, [batch]),
    ]
    return graph.model(
        {INPUT: (np.uint8, [batch, 3, shape.height, shape.width])},
        {name: (value, *kind) for name, value, kind in zip(OUTPUTS, found, kinds, strict=True)},
        {PROPERTY: metadata.to_json()},
    )


def write_model(model: onnx.ModelProto, metadata: DeployedMetadata, out: Path) -> ExportedFile:
    """Write a graph atomically."""
    content = model.SerializeToString(deterministic=True)
    write_atomically(out, content)
    return ExportedFile(out, len(content), metadata)


def _architecture(weights: Path, config: TrialConfig | None) -> DetectorConfig:
    """Of the detector that :func:`read_detector` reads."""
    if config is None:
        return read_metadata(weights).config
    return DetectorConfig(**{name: getattr(config.student, name) for name in DetectorConfig.model_fields})


def _metrics(weights: Path, architecture: DetectorConfig, height: int, width: int) -> dict[str, float]:
    """Those that the file of weights states, unless they are of another detector than the exported one.

    A state dict states none, and ``--config`` may name another input size or other numbers of proposals.
    """
    if weights.suffix != DETECTOR_SUFFIX:
        return {}
    try:
        stated = read_metadata(weights)
    except CheckpointError:
        return {}
    is_same = (stated.config, stated.image_height, stated.image_width) == (architecture, height, width)
    return stated.metrics if is_same else {}


def _check_numbers(detector: Detector, settings: ExportSettings, weights: Path, size: tuple[int, int]) -> None:
    of_student = {
        "proposals_per_image": detector.proposals_per_image,
        "pre_nms_proposals_per_level": detector.pre_nms_proposals_per_level,
    }
    limit = f"allowed: at most {MOST_DETECTIONS}, because suppression compares all pairs in fixed shapes"
    with_config = f"export them with --weights {weights} and a --config (YAML) in which"
    problems = [
        f"{weights}: {name} {number}; {limit}; {with_config} student.{name} is smaller"
        for name, number in of_student.items()
        if number > MOST_DETECTIONS
    ]
    if settings.max_detections > MOST_DETECTIONS:
        problems.append(
            f"{weights}: evaluation.max_detections_per_image {settings.max_detections}; {limit}; give a smaller "
            "--max-detections"
        )
    if problem := input_size_problem(*size):
        problems.append(
            f"{weights}: {problem}; {with_config} data.image_height and data.image_width are smaller, and evaluate it "
            "again"
        )
    if problems:
        raise ExportError(*problems)
