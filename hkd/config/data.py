"""Images, and the size at which the network sees them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from hkd.bucket_uri import DATA_SCHEMES, OPTIONS, VERSION, uri_problem
from hkd.config.section import Fraction, InputSide, OpenFraction, ScaleFactor, SceneSide, Section, Seed

Score = Annotated[float, Field(gt=0.0, le=1.0)]


def _location(value: str | Path) -> str | Path:
    """A path, or the URI of an object or folder in a bucket as a text."""
    if isinstance(value, Path) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value):
        return Path(value)
    problem = uri_problem(value, DATA_SCHEMES, (*OPTIONS, VERSION))
    if problem is not None:
        raise ValueError(f"a URI that cannot be used; {problem}")
    return value


DataLocation = Annotated[str | Path, AfterValidator(_location)]
"""Of a file or folder: a path, or a URI (``s3://``, ``gs://``, ``file://``) of what is copied to each node."""


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
    """``hard``: more, and more occluded people, crowds, look-alikes, night, rain, fog, blur and noise."""
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

    train_annotations: DataLocation | None = None
    """COCO-style JSON of the training images (see ``hkd data --help``); null: generated scenes. The files and folders
    of images may be in a bucket, ``s3://BUCKET/PATH``: each node copies what it uses to ``cache_dir``."""
    validation_annotations: DataLocation | None = None
    """COCO-style JSON of the validation images; null: generated scenes."""
    test_annotations: DataLocation | None = None
    """COCO-style JSON of images that no search sees: a study evaluates its confirmed students on them. None of them may
    be a training, validation or unlabelled image. null: none."""
    image_root: DataLocation | None = None
    """Folder of the images; null: as stated in the annotation file. In a bucket, if the annotations are."""
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
    unlabelled_images: DataLocation | None = None
    """Folder of images without annotations, such as frames of videos, at any depth: the teacher labels them, and
    students train on them beside the training images. null: none."""
    unlabelled_fraction: OpenFraction = 0.5
    """Share of the unlabelled images in each batch, rounded to whole images, at least one of each kind."""
    unlabelled_object_score: Score | None = None
    """The teacher's detections on unlabelled images count as people from this score on; null: chosen on the validation
    images."""
    unlabelled_ignored_score: Score | None = None
    """Its detections from this score up to the one above are ignore regions, others are not used; null: chosen on the
    validation images."""
    cache_dir: Path = Path("data/cache")
    """Folder of decoded images and generated scenes, shared by all trials of a node."""
    augmentation: AugmentationConfig = AugmentationConfig()

    def with_generated_scenes(self) -> DataConfig:
        """The same settings, with generated scenes in place of all files and folders of images."""
        files = ("train_annotations", "validation_annotations", "test_annotations", "image_root", "unlabelled_images")
        return self.model_copy(update=dict.fromkeys(files))

    @model_validator(mode="after")
    def _scores_in_order(self) -> Self:
        lower, upper = self.unlabelled_ignored_score, self.unlabelled_object_score
        if lower is not None and upper is not None and lower > upper:
            raise ValueError(f"unlabelled_ignored_score ({lower}) must not be above unlabelled_object_score ({upper})")
        return self

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.train_annotations is None) != (self.validation_annotations is None):
            raise ValueError("set both train_annotations and validation_annotations, or neither (generated scenes)")
        if self.test_annotations is not None and self.train_annotations is None:
            raise ValueError(
                "test_annotations is set without train_annotations; name files of all three sets, or no test images "
                "(students of generated scenes are confirmed on their validation scenes)"
            )
        return self

    @model_validator(mode="after")
    def _annotations_beside_images(self) -> Self:
        names = ("train_annotations", "validation_annotations", "test_annotations", "image_root")
        kinds = {name: type(getattr(self, name)) for name in names if getattr(self, name) is not None}
        in_bucket = [name for name, kind in kinds.items() if kind is str]
        if 0 < len(in_bucket) < len(kinds):
            others = ", ".join(name for name in kinds if name not in in_bucket)
            raise ValueError(
                f"{', '.join(in_bucket)} in a bucket, but {others} not; name URIs for all of them, or paths for all "
                "(a path as a URI: file:///PATH)"
            )
        return self


def unlabelled_per_batch(batch_size: int, fraction: float) -> int:
    """Unlabelled images in each batch."""
    return round(batch_size * fraction)
