"""Schedule of a training, and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hkd.config.section import BatchSize, CountPerImage, Epochs, Fraction, OpenFraction, Section, Seed


class TrainingConfig(Section):
    """Training schedule and hyperparameters of one detector."""

    total_epochs: Epochs = 8
    """Epochs to train."""
    batch_size: BatchSize = 8
    """Images per step."""
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0.0, le=1e4)] = 1e-3
    """Peak learning rate, after warm-up."""
    final_learning_rate_fraction: Fraction = 0.01
    """Learning rate at the end of the cosine schedule, as a fraction of the peak."""
    warmup_fraction: Fraction = 0.1
    """Fraction of all steps over which the learning rate rises linearly from 0."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Momentum of sgd; adamw uses betas (0.9, 0.999)."""
    weight_decay: Annotated[float, Field(ge=0.0, le=1e4)] = 0.05
    """Weight decay, not applied to biases and normalization layers."""
    gradient_clip_norm: Annotated[float, Field(gt=0.0, le=1e6)] | None = 10.0
    """Largest gradient norm; null: gradients are not clipped."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the forward and backward passes (losses: fp32); ``auto``: bf16 on devices where it is faster."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: cuda if available, otherwise cpu."""
    num_threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """CPU threads per training; 0: those assigned to the process."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is evaluated and saved; null: no average."""
    seed: Seed = 0
    """Seed of initial weights, shuffling, augmentation and sampling."""
    sampled_anchors_per_image: CountPerImage = 256
    """Anchors of an image on which the RPN is trained."""
    positive_anchor_fraction: OpenFraction = 0.5
    """Largest fraction of positive anchors in the sample."""
    sampled_regions_per_image: CountPerImage = 64
    """Regions of an image on which the box head is trained and distilled (S)."""
    positive_region_fraction: OpenFraction = 0.25
    """Largest fraction of positive regions in the sample."""
    evaluate_every_epochs: Epochs = 1
    """Epochs between evaluations; the last epoch is always evaluated."""


class LatencyConfig(Section):
    """Latency of a study's students on a CPU: of the exported fp32 network, one image a call (docs/latency.md)."""

    table: Path | None = None
    """Measurements on the device: a file of ``hkd benchmark --json``. null: the study measures untrained students on
    the machine that starts it, before the teacher is trained."""
    runtime: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """Of the measurements; others in ``table`` are ignored."""
    num_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """CPU threads of the runtime; without ``table``."""
    num_students: Annotated[int, Field(ge=8, le=256)] = 16
    """Shapes of the space that are measured; the latency of others is predicted from these."""
    runs: Annotated[int, Field(ge=100, le=100_000)] = 100
    """Timed calls of each, in turn; without ``table``."""


class EvaluationConfig(Section):
    """Detection and evaluation on the validation images."""

    protocol: Literal["citypersons", "citypersons_extended", "caltech", "acf", "kaist"] = "citypersons"
    """Subsets of boxes that count, and the rules of matching (hkd.evaluation.protocols)."""
    score_threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    """Detections with a lower score are dropped."""
    nms_iou: OpenFraction = 0.5
    """IoU threshold of non-maximum suppression of detections."""
    max_detections_per_image: CountPerImage = 100
    batch_size: BatchSize = 16
    """Images per forward pass."""
    latency: LatencyConfig | None = None
    """Of studies: ``latency_ms`` of every student, a metric and an objective. null: none."""
