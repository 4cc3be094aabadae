"""The configuration of one trial: a frozen, strict tree.

Every field's dotted name (``student.width_multiplier``) is at once its place in YAML, its ``--set``
override, its key in a search space and its parameter in MLflow. Unknown keys are errors. Numbers carry
their unit in their name. Reading, overriding and reporting of mistakes live in :mod:`hkd.config_io`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

PYRAMID_LEVELS = ("p2", "p3", "p4", "p5", "p6")
"""Levels of every detector's feature pyramid, finest first."""
PYRAMID_STRIDES = (4, 8, 16, 32, 64)
"""Stride of each of them, pixels."""


class Section(BaseModel):
    """A strict, frozen part of the tree."""

    # allow_inf_nan: no setting of ours has a meaning at infinity.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SyntheticConfig(Section):
    """Generated street scenes (hkd.data.sources.synthetic), used where no annotation file is named."""

    train_images: Annotated[int, Field(ge=1, le=1_000_000)] = 480
    """Number of training scenes."""
    validation_images: Annotated[int, Field(ge=1, le=1_000_000)] = 160
    """Number of validation scenes; their indices never meet the training scenes'."""
    height: Annotated[int, Field(ge=64)] = 288
    """Height of a drawn scene, pixels."""
    width: Annotated[int, Field(ge=64)] = 384
    """Width of a drawn scene, pixels."""
    seed: Seed = 0
    """The scenes are a function of (seed, index)."""


class AugmentationConfig(Section):
    """Random changes to training images, drawn anew for each image and epoch, in batches on the device."""

    flip_probability: Fraction = 0.5
    """Probability of a mirror image."""
    scale_min: PositiveFloat = 0.8
    """Smallest zoom; below 1 the image shrinks and is padded."""
    scale_max: PositiveFloat = 1.3
    """Largest zoom; above 1 a random window of the image is kept."""
    brightness: Fraction = 0.2
    """Brightness factor is drawn from [1 - brightness, 1 + brightness]."""
    contrast: Fraction = 0.2
    """Contrast factor, likewise."""
    saturation: Fraction = 0.2
    """Saturation factor, likewise."""
    minimum_visible_fraction: Fraction = 0.4
    """A box of which less than this share is left inside the window becomes an ignore region."""

    @model_validator(mode="after")
    def _scales_in_order(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min ({self.scale_min}) must not be above scale_max ({self.scale_max})")
        return self


class DataConfig(Section):
    """Which images, at what size."""

    train_annotations: Path | None = None
    """COCO-style JSON of the training images (see ``hkd data --help``); none = generated scenes."""
    validation_annotations: Path | None = None
    """COCO-style JSON of the validation images."""
    image_root: Path | None = None
    """Folder that the annotations' file names are relative to; none = what the annotation file says."""
    synthetic: SyntheticConfig = SyntheticConfig()
    image_height: Annotated[int, Field(ge=64, multiple_of=32)] = 192
    """Height of the network's input, pixels; images are fitted inside and padded at the bottom and right."""
    image_width: Annotated[int, Field(ge=64, multiple_of=32)] = 256
    """Width of the network's input, pixels."""
    max_objects_per_image: Annotated[int, Field(ge=1, le=1000)] = 32
    """Ground-truth slots an image (G); a data set with a fuller image is refused with the number needed."""
    cache_dir: Path = Path("data/cache")
    """Where decoded images and generated scenes are kept, shared by all trials of a node."""
    augmentation: AugmentationConfig = AugmentationConfig()

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.train_annotations is None) != (self.validation_annotations is None):
            raise ValueError("name both train_annotations and validation_annotations, or neither (generated scenes)")
        return self


class DetectorConfig(Section):
    """Shape of a two-stage FPN detector."""

    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    width_multiplier: Annotated[float, Field(ge=0.125, le=2.0)] = 0.5
    """Factor on the backbone's channels (rounded to a multiple of 8)."""
    pyramid_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 64
    """Channels of p2..p6."""
    head_channels: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = 128
    """Outputs of the box head's two fully connected layers."""
    norm: Literal["batch", "frozen_batch"] = "batch"
    """``frozen_batch`` keeps the statistics and scales of loaded weights, as torchvision's pretrained detectors do."""
    anchor_sizes: Annotated[tuple[PositiveFloat, ...], Field(min_length=5, max_length=5)] = (
        13.0,
        23.0,
        41.0,
        72.0,
        113.0,
    )
    """Square root of the anchors' area at p2..p6, pixels of the network's input (torchvision: 32, 64, ..., 512)."""
    anchor_aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (2.44,)
    """Height over width of the anchors at each level; 2.44 = 1 / 0.41 is the pedestrian's (Dollar et al., 2012)."""
    canonical_region_size: PositiveFloat = 56.0
    """A region with this square root of its area is pooled from p4 (FPN's equation 1; torchvision: 224)."""
    pre_nms_proposals_per_level: PositiveInt = 128
    """Proposals of a level that enter non-maximum suppression."""
    proposals_per_image: PositiveInt = 64
    """Proposals of an image that reach the box head (P); FLOPs are stated at this number."""
    proposal_nms_iou: OpenFraction = 0.7


class TrainingConfig(Section):
    """How one detector is trained."""

    total_epochs: PositiveInt = 8
    batch_size: PositiveInt = 8
    optimizer: Literal["sgd", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    """Peak learning rate, after warm-up."""
    final_learning_rate_fraction: Fraction = 0.01
    """The cosine ends at this fraction of the peak."""
    warmup_fraction: Fraction = 0.1
    """Share of all steps over which the learning rate rises linearly from 0."""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Of sgd; adamw uses betas (0.9, 0.999)."""
    weight_decay: NonNegativeFloat = 0.05
    """Not applied to biases and norms."""
    gradient_clip_norm: PositiveFloat | None = 10.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the forward and backward passes; losses are in fp32. ``auto``: bf16 where the machine is faster with it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: NonNegativeInt = 0
    """CPU threads of one training; 0 = what the process was given."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of an exponential moving average of the weights, which is then what is evaluated and saved."""
    seed: Seed = 0
    sampled_anchors_per_image: PositiveInt = 256
    positive_anchor_fraction: OpenFraction = 0.5
    sampled_regions_per_image: PositiveInt = 64
    """Regions of an image on which the box head is trained and distilled (S)."""
    positive_region_fraction: OpenFraction = 0.25
    evaluate_every_epochs: PositiveInt = 1
    """The last epoch is always evaluated."""


class TeacherConfig(DetectorConfig):
    """The heavy detector that students learn from: loaded from a checkpoint, or trained once and cached."""

    width_multiplier: Annotated[float, Field(ge=0.125, le=2.0)] = 1.0
    pyramid_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 128
    head_channels: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = 256
    checkpoint: Path | None = None
    """Trained weights (.safetensors, or a torchvision state dict .pth): the teacher is not trained."""
    init_from: Path | None = None
    """Weights from which the teacher's own training starts; must fit this architecture."""
    init_from_synthetic: TrainingConfig | None = None
    """Train on generated scenes (data.synthetic) first, with this schedule, and start from the result."""
    training: TrainingConfig = TrainingConfig()
    """The schedule of the teacher's own training; not used with ``checkpoint``."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = {
            "checkpoint": self.checkpoint,
            "init_from": self.init_from,
            "init_from_synthetic": self.init_from_synthetic,
        }
        named = [name for name, value in origins.items() if value is not None]
        if len(named) > 1:
            raise ValueError(
                f"name at most one of checkpoint, init_from, init_from_synthetic; found {', '.join(named)}"
            )
        return self


class FeatureLevelConfig(Section):
    """Distillation of features at one hierarchy."""

    loss: Literal["pearson", "mse"] = "pearson"
    weight: NonNegativeFloat = 1.0
    """0 leaves this hierarchy out, at no cost."""


class LogitLevelConfig(Section):
    """Distillation of the box head's answers."""

    loss: Literal["kl"] = "kl"
    weight: NonNegativeFloat = 1.0
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """Softens both distributions; the loss is scaled by its square (Hinton et al., 2015)."""
    box_deltas_weight: NonNegativeFloat = 0.0
    """Weight, beside the above, of the mean squared difference of the pedestrian's box deltas."""


class DistillationConfig(Section):
    """Which hierarchies the student copies from its teacher, and how strongly."""

    pyramid: FeatureLevelConfig = FeatureLevelConfig()
    region: FeatureLevelConfig = FeatureLevelConfig()
    embedding: FeatureLevelConfig = FeatureLevelConfig(weight=0.0)
    logits: LogitLevelConfig = LogitLevelConfig()
    compared_cells: Literal["sample", "all"] = "sample"
    """Where pyramid and region features are compared: ``all`` cells, or a ``sample`` of large maps' cells: one in up to
    11, of which a batch leaves at least 1,000. A sample takes less time for as good a student (benchmarks/NOTES.md)."""

    @property
    def is_active(self) -> bool:
        """Whether any hierarchy has a weight: if none has, no teacher is needed."""
        return (
            any(level.weight > 0 for level in (self.pyramid, self.region, self.embedding, self.logits))
            or self.logits.box_deltas_weight > 0
        )


class EvaluationConfig(Section):
    """How a detector is judged."""

    protocol: Literal["citypersons", "citypersons_extended", "caltech", "acf"] = "citypersons"
    """Which boxes count, and how detections are matched (hkd.evaluation.protocols)."""
    score_threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.01
    nms_iou: OpenFraction = 0.5
    max_detections_per_image: PositiveInt = 100
    batch_size: PositiveInt = 16


class TrialConfig(Section):
    """Everything that determines one trial."""

    data: DataConfig = DataConfig()
    teacher: TeacherConfig | None = TeacherConfig()
    """null trains the student alone."""
    student: DetectorConfig = DetectorConfig()
    distillation: DistillationConfig = DistillationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def is_distilled(self) -> bool:
        """Whether the student learns from a teacher: one is configured, and a distillation weight is above 0."""
        return self.teacher is not None and self.distillation.is_active
