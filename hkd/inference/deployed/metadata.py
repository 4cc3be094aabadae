"""What an exported detector states about itself, as JSON in one property of the ONNX file."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from hkd.config import DetectorConfig
from hkd.config.section import InputSide, OpenFraction, Section
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError

PROPERTY: Final = "hkd"
"""Name of the property."""
FORMAT: Final = "hkd.onnx.1"
INPUT: Final = "images"
OUTPUTS: Final = ("boxes", "scores", "count")
LARGEST_BATCH: Final = 256
MOST_DETECTIONS: Final = 2_000
"""Of an image; suppression compares all pairs of as many boxes."""
MOST_INPUT_PIXELS: Final = 4096 * 4096
"""H x W, twice that of a 4K frame: the graph has constants for each cell of the pyramid."""
RESIZING: Final = (
    "Pictures are upright (EXIF) and RGB. Both sides are scaled by min(image_height / height, image_width / width), "
    "rounded down, by Pillow's BILINEAR filter, which averages as it reduces. The picture is at the top left; the rest "
    "of the input is 0. Boxes over this scale are in pixels of the picture. Rows and columns that are black down to "
    "the lower and right border count as padding."
)

_Name = Annotated[str, Field(max_length=255)]
"""Of a folder."""


def input_size_problem(height: int, width: int) -> str | None:
    """Why no graph has an input of this size; None if one may."""
    if height * width <= MOST_INPUT_PIXELS:
        return None
    return f"image_height {height} x image_width {width}: allowed are at most {MOST_INPUT_PIXELS:,} pixels"


class StudyIdentity(Section):
    """The trial from which a detector was exported."""

    study: _Name
    trial: _Name


class ImageSet(Section):
    """An annotation file and its images."""

    annotations: str
    """Name of the annotation file, without its folder."""
    num_images: Annotated[int, Field(ge=1)]
    content_hash: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """Of image records and boxes: the digest of the data set in MLflow."""


class Int8Images(Section):
    """Images by which a detector was quantised."""

    calibration: ImageSet
    num_calibrated: Annotated[int, Field(ge=1)]
    """How many of them the ranges of activations are from."""
    validation: ImageSet
    compared_with_training: bool
    """Whether their files were compared with those of the training: calibration images are training images, validation
    images are not."""


class DeployedMetadata(Section):
    """Metadata of an exported detector."""

    format: Literal["hkd.onnx.1"]
    hkd_version: str
    versions: dict[str, str]
    """Of the packages that wrote the file."""
    opset: Annotated[int, Field(ge=1, le=1000)]
    precision: Literal["fp32", "int8"]
    """Of the layers; normalisation, proposals, pooling and suppression are fp32."""
    fp32_layers: tuple[str, ...]
    """With int8: layers that were left in fp32."""
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=1)]
    batch: Annotated[int, Field(ge=1, le=LARGEST_BATCH)]
    image_height: InputSide
    image_width: InputSide
    resizing: str
    """How a picture becomes an input, in words."""
    max_detections: Annotated[int, Field(ge=1, le=MOST_DETECTIONS)]
    score_threshold: Annotated[float, Field(ge=0.0, lt=1.0)]
    nms_iou: OpenFraction
    detector: DetectorConfig
    num_params: Annotated[int, Field(ge=1)]
    flops: Annotated[int, Field(ge=1)]
    """Of one image, 2 per multiply-add."""
    metrics: dict[str, float]
    """Evaluation by the training, by metric name (``mr2_reasonable``, a fraction)."""
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the file of weights."""
    study: StudyIdentity | None
    """null: exported from a file of weights."""
    int8_images: Int8Images | None = None
    """null: fp32, or not recorded."""

    @model_validator(mode="after")
    def _check_pixels(self) -> DeployedMetadata:
        if problem := input_size_problem(self.image_height, self.image_width):
            raise ValueError(problem)
        return self

    def to_json(self) -> str:
        """The value of the property."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def parse_metadata(text: str) -> DeployedMetadata:
    """The metadata in the value of the property.

    Raises:
        ConfigError: listing what is missing or invalid.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON ({str(error)[:100]})", PROPERTY) from error
    if not isinstance(raw, dict):
        raise ConfigError("not an object", PROPERTY)
    return parse_config(DeployedMetadata, raw, source=PROPERTY)
