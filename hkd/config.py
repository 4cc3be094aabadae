"""The configuration of one trial: a tree of frozen, strict sections.

The dotted name of a setting (``student.width_multiplier``) is its path in YAML, its ``--set`` override, its key in a
search space and its parameter in MLflow. :mod:`hkd.config_files.parsing` reads configurations and reports mistakes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Every number has an upper limit, far above what a training needs, so that a typing error or a hostile file is
# reported before anything is computed. Whether a combination fits the memory is found by trying (hkd.training.memory).
LARGEST_SIDE = 16_384
"""Of an image, pixels."""
MOST_EPOCHS = 100_000
MOST_PER_IMAGE = 10_000
"""Proposals, sampled regions or detections of an image."""
LARGEST_WEIGHT = 1e6
"""Of a loss."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
OpenFraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
SceneSide = Annotated[int, Field(ge=64, le=LARGEST_SIDE)]
InputSide = Annotated[int, Field(ge=64, le=LARGEST_SIDE, multiple_of=32)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
CountPerImage = Annotated[int, Field(ge=1, le=MOST_PER_IMAGE)]
BatchSize = Annotated[int, Field(ge=1, le=65_536)]
ScaleFactor = Annotated[float, Field(ge=0.01, le=100.0)]
BoxSize = Annotated[float, Field(ge=0.1, le=LARGEST_SIDE)]
LossWeight = Annotated[float, Field(ge=0.0, le=LARGEST_WEIGHT)]

PYRAMID_LEVELS = ("p2", "p3", "p4", "p5", "p6")
"""Levels of every detector's feature pyramid, finest first."""
PYRAMID_STRIDES = (4, 8, 16, 32, 64)
"""Stride of each level, pixels."""

SELECTED_FROM_TEACHER = "teacher"
"""Value of ``student.init_from``."""

FeatureLoss = Literal["pearson", "mse"]
"""``pearson`` compares channels up to scale and offset, ``mse`` compares values."""
ComparedCells = Literal["sample", "all"]
"""``sample``: one in 3 to 11 cells of large maps, see :mod:`hkd.distillation.cells`; ``all``: every cell."""


class Section(BaseModel):
    """A part of the configuration: immutable; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SyntheticConfig(Section):
    """Generated street scenes (hkd.data.sources.synthetic), used if no annotation file is given."""

    train_images: Annotated[int, Field(ge=1, le=1_000_000)] = 480
    """Number of training scenes."""
    validation_images: Annotated[int, Field(ge=1, le=1_000_000)] = 160
    """Number of validation scenes; none of them is a training scene."""
    height: SceneSide = 288
    """Height of a scene, pixels."""
    width: SceneSide = 384
    """Width of a scene, pixels."""
    style: Literal["street", "hard"] = "street"
    """``hard``: smaller and more occluded people, crowds, look-alikes, night, rain, fog, blur and noise."""
    seed: Seed = 0
    """Seed of the scenes; a scene depends on the style, the seed, its index and its size alone."""


class AugmentationConfig(Section):
    """Random augmentation of training images, sampled per image and epoch, applied in batches on the device."""

    flip_probability: Fraction = 0.5
    """Probability of a horizontal flip."""
    scale_min: ScaleFactor = 0.8
    """Smallest scale factor; below 1 the image shrinks and is padded."""
    scale_max: ScaleFactor = 1.3
    """Largest scale factor; above 1 the image is cropped at random."""
    brightness: Fraction = 0.2
    """The brightness factor is sampled from [1 - brightness, 1 + brightness]."""
    contrast: Fraction = 0.2
    """The contrast factor is sampled from [1 - contrast, 1 + contrast]."""
    saturation: Fraction = 0.2
    """The saturation factor is sampled from [1 - saturation, 1 + saturation]."""
    minimum_visible_fraction: Fraction = 0.4
    """A box becomes an ignore region if less than this fraction of its area remains after cropping."""

    @model_validator(mode="after")
    def _scales_in_order(self) -> Self:
        if self.scale_min > self.scale_max:
            raise ValueError(f"scale_min ({self.scale_min}) must not be above scale_max ({self.scale_max})")
        return self


class DataConfig(Section):
    """Images, and the size at which the network sees them."""

    train_annotations: Path | None = None
    """COCO-style JSON of the training images (see ``hkd data --help``); null: generated scenes."""
    validation_annotations: Path | None = None
    """COCO-style JSON of the validation images; null: generated scenes."""
    image_root: Path | None = None
    """Folder of the images; null: as stated in the annotation file."""
    person_categories: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of the categories of people, in any case; empty: ``pedestrian`` or ``person``. Boxes of other categories
    are not read."""
    ignored_categories: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names of categories whose boxes are ignore regions, besides ``ignore``, ``dontcare`` and the like."""
    synthetic: SyntheticConfig = SyntheticConfig()
    image_height: InputSide = 192
    """Height of the network's input, pixels; images are resized to fit and padded at the bottom and right."""
    image_width: InputSide = 256
    """Width of the network's input, pixels."""
    max_objects_per_image: Annotated[int, Field(ge=1, le=1000)] = 32
    """Ground-truth boxes per image (G); a data set that exceeds it is an error, which states the number needed."""
    max_megapixels: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 100.0
    """Largest number of pixels of an image file, in millions; as RGB, an image takes 3 MB of memory per megapixel."""
    cache_dir: Path = Path("data/cache")
    """Folder of decoded images and generated scenes, shared by all trials of a node."""
    augmentation: AugmentationConfig = AugmentationConfig()

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.train_annotations is None) != (self.validation_annotations is None):
            raise ValueError("set both train_annotations and validation_annotations, or neither (generated scenes)")
        return self


class DetectorConfig(Section):
    """Architecture of a two-stage FPN detector."""

    backbone: Literal["resnet18", "resnet34", "resnet50"] = "resnet18"
    width_multiplier: Annotated[float, Field(ge=0.125, le=2.0)] = 0.5
    """Factor on the backbone's channels, which are rounded to a multiple of 8."""
    pyramid_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 64
    """Channels of pyramid levels p2..p6."""
    head_channels: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = 128
    """Width of the box head's two fully connected layers."""
    norm: Literal["batch", "frozen_batch"] = "batch"
    """Batch normalization; ``frozen_batch`` keeps the loaded statistics and scales, as torchvision's detectors do."""
    anchor_sizes: Annotated[tuple[BoxSize, ...], Field(min_length=5, max_length=5)] = (
        13.0,
        23.0,
        41.0,
        72.0,
        113.0,
    )
    """Square root of the anchor area at p2..p6, pixels of the network's input (torchvision: 32, 64, ..., 512)."""
    anchor_aspect_ratios: Annotated[tuple[ScaleFactor, ...], Field(min_length=1, max_length=32)] = (2.44,)
    """Height / width of the anchors at each level; 2.44 = 1 / 0.41 fits pedestrians (Dollar et al., 2012)."""
    canonical_region_size: BoxSize = 56.0
    """Square root of the area of regions pooled from p4, pixels (FPN, equation 1; torchvision: 224)."""
    pre_nms_proposals_per_level: CountPerImage = 128
    """Proposals of a pyramid level before non-maximum suppression."""
    proposals_per_image: CountPerImage = 64
    """Proposals of an image that reach the box head (P); FLOPs are counted at this number."""
    proposal_nms_iou: OpenFraction = 0.7
    """IoU threshold of non-maximum suppression of proposals."""


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


class TeacherConfig(DetectorConfig):
    """The large detector from which students learn: loaded from a checkpoint, or trained once and cached."""

    width_multiplier: Annotated[float, Field(ge=0.125, le=2.0)] = 1.0
    pyramid_channels: Annotated[int, Field(ge=8, le=1024, multiple_of=8)] = 128
    head_channels: Annotated[int, Field(ge=16, le=4096, multiple_of=8)] = 256
    checkpoint: Path | None = None
    """Trained weights (.safetensors of hkd, or a .pth of torchvision or mmdetection); the teacher is then not trained.
    A .pth does not state its anchors: set anchor_sizes, anchor_aspect_ratios and canonical_region_size with it."""
    torchvision: Path | None = None
    """Trained weights of torchvision's fasterrcnn_resnet50_fpn (or of its Mask or Keypoint R-CNN), in place of
    ``checkpoint``. All settings of the architecture, anchors included, are then torchvision's."""
    person_class: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Row of the person in the class predictor of a file (0 is the background); null: 1 of two classes or of COCO's."""
    init_from: Path | None = None
    """Initial weights of the teacher's training: a detector of this architecture, or a classification ResNet for the
    backbone alone."""
    init_from_synthetic: TrainingConfig | None = None
    """Schedule of a pretraining on generated scenes (data.synthetic); null: no pretraining."""
    training: TrainingConfig = TrainingConfig()
    """Schedule of the teacher's training; not used with ``checkpoint``."""

    @property
    def trained_weights(self) -> Path | None:
        """The file of a teacher that is not trained here: ``checkpoint`` or ``torchvision``."""
        return self.checkpoint or self.torchvision

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = ("checkpoint", "torchvision", "init_from", "init_from_synthetic")
        named = [name for name in origins if getattr(self, name) is not None]
        if len(named) > 1:
            raise ValueError(f"set at most one of {', '.join(origins)}; found {', '.join(named)}")
        return self

    @model_validator(mode="after")
    def _torchvision_preset(self) -> Self:
        """Fill in torchvision's settings, and refuse others."""
        if self.torchvision is None:
            return self
        different = [
            f"{name} is {_plain_text(getattr(self, name))} instead of {_plain_text(value)}"
            for name, value in _TORCHVISION_ARCHITECTURE.items()
            if name in self.model_fields_set and getattr(self, name) != value
        ]
        if different:
            raise ValueError(
                f"torchvision is set, and these settings are not those of its fasterrcnn_resnet50_fpn: "
                f"{'; '.join(different)}. Remove them, or set checkpoint instead of torchvision"
            )
        unset = {
            name: value
            for name, value in (_TORCHVISION_ARCHITECTURE | _TORCHVISION_NUMBERS).items()
            if name not in self.model_fields_set
        }
        self.__dict__.update(unset)  # the section is frozen for all others
        return self


# torchvision.models.detection.fasterrcnn_resnet50_fpn; its defaults stand in the signature of FasterRCNN.
_TORCHVISION_ARCHITECTURE: dict[str, object] = {
    "backbone": "resnet50",
    "width_multiplier": 1.0,
    "pyramid_channels": 256,
    "head_channels": 1024,
    "norm": "frozen_batch",
    "anchor_sizes": (32.0, 64.0, 128.0, 256.0, 512.0),
    "anchor_aspect_ratios": (0.5, 1.0, 2.0),
    "canonical_region_size": 224.0,
}
# Numbers that a user may change: they trade time for a few detections, and do not change what the weights mean.
_TORCHVISION_NUMBERS: dict[str, object] = {
    "pre_nms_proposals_per_level": 1000,
    "proposals_per_image": 1000,
    "proposal_nms_iou": 0.7,
}


def _plain_text(value: object) -> str:
    return str(list(value) if isinstance(value, tuple) else value)


class StudentConfig(DetectorConfig):
    """The small detector that is trained, evaluated and shipped."""

    init_from: Literal["teacher"] | Path | None = None
    """First weights. ``teacher``: selected from the teacher's channels (hkd.models.weight_selection); a file: copied or
    selected from a detector, or from a classification ResNet of the same backbone; null: random."""


class FeatureStageConfig(Section):
    """A distillation stage that compares features."""

    loss: FeatureLoss = "pearson"
    """``pearson``: 1 - correlation per channel (PKD, NeurIPS 2022); ``mse``: mean squared difference."""
    weight: LossWeight = 1.0
    """Weight of the loss; 0 disables the stage at no cost."""


class LogitStageConfig(Section):
    """The distillation stage that compares outputs of the box head."""

    loss: Literal["kl"] = "kl"
    weight: LossWeight = 1.0
    """Weight of the loss on class logits; 0 disables it at no cost."""
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 2.0
    """Temperature of both softmax distributions; the loss is scaled by its square (Hinton et al., 2015)."""
    box_deltas_weight: LossWeight = 0.0
    """Weight of the mean squared difference of the pedestrian class's box deltas; 0 disables it."""


class DistillationConfig(Section):
    """Losses between student and teacher, by distillation stage."""

    pyramid: FeatureStageConfig = FeatureStageConfig()
    region: FeatureStageConfig = FeatureStageConfig()
    embedding: FeatureStageConfig = FeatureStageConfig(weight=0.0)
    logits: LogitStageConfig = LogitStageConfig()
    compared_cells: ComparedCells = "sample"
    """Cells at which pyramid and region features are compared. ``sample`` takes one cell in up to 11 of a large map, at
    least 1,000 per batch: faster, for an equally good student (benchmarks/NOTES.md)."""

    @property
    def is_active(self) -> bool:
        """Whether any weight is above 0; otherwise no teacher is needed."""
        return (
            any(stage.weight > 0 for stage in (self.pyramid, self.region, self.embedding, self.logits))
            or self.logits.box_deltas_weight > 0
        )


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


class TrialConfig(Section):
    """All settings of one training (in a study: of a trial)."""

    data: DataConfig = DataConfig()
    teacher: TeacherConfig | None = TeacherConfig()
    """null: the student is trained alone."""
    student: StudentConfig = StudentConfig()
    distillation: DistillationConfig = DistillationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @property
    def is_distilled(self) -> bool:
        """Whether there is a teacher and a distillation weight above 0."""
        return self.teacher is not None and self.distillation.is_active

    @property
    def uses_teacher(self) -> bool:
        """Whether the training needs the teacher's weights: to distil them, or to select first weights from them."""
        return self.is_distilled or self.student.init_from == SELECTED_FROM_TEACHER

    @model_validator(mode="after")
    def _teacher_to_select_from(self) -> Self:
        if self.student.init_from == SELECTED_FROM_TEACHER and self.teacher is None:
            raise ValueError(
                "student.init_from is teacher, but teacher is null; configure a teacher, name a file, or set it to null"
            )
        if self.student.init_from == SELECTED_FROM_TEACHER and self.teacher is not None:
            larger = [
                f"student.{name} {getattr(self.student, name)} above teacher.{name} {getattr(self.teacher, name)}"
                for name in self._selected_widths()
                if getattr(self.student, name) > getattr(self.teacher, name)
            ]
            if len(self.student.anchor_aspect_ratios) != len(self.teacher.anchor_aspect_ratios):
                larger.append("another number of anchor_aspect_ratios")
            if larger:
                raise ValueError(
                    "student.init_from is teacher, of whose channels the student's are a selection, with "
                    f"{'; '.join(larger)}; make the teacher at least as wide, or set student.init_from to null"
                )
        return self

    def _selected_widths(self) -> tuple[str, ...]:
        """Settings of the student that must not be above the teacher's if its weights are selected from it."""
        assert self.teacher is not None
        has_equal_blocks = (self.student.backbone == "resnet50") == (self.teacher.backbone == "resnet50")
        return ("pyramid_channels", "head_channels", *(["width_multiplier"] if has_equal_blocks else []))
