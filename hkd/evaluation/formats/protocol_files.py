"""Protocols by name, and users' own from YAML files.

A protocol file (only ``subsets`` is required; the other keys have the defaults shown here)::

    name: my_protocol               # the file's name without its ending
    subsets:                        # at least one
      - name: reasonable            # ends the metric's name, mr2_reasonable: letters, digits, underscores
        height: [50, null]          # pixels, bounds included; null: no bound
        height_includes_high: true  # false: below the upper bound
        visibility: [0.65, null]    # visible share of the full body
        visibility_includes_high: true
    fppi_points: null               # nine, 10^-2 to 10^0, a quarter of a decade apart
    iou_threshold: 0.5
    height_filter_ratio: 1.25       # detections outside the heights by more than this factor are left out; null: none
    max_detections_per_image: null  # null: no limit
    miss_rate_floor: 1e-10
    counted_labels: null            # [person]: classes in neither list are dropped; null: any other class can count
    ignored_labels: []              # classes that are ignored
    border_xyxy: null               # [5, 5, 635, 475]: boxes not wholly inside are ignored
    truth_aspect_ratio: null        # 0.41: width over height that boxes which count are given
    detection_aspect_ratio: null
    rounds_boxes: false             # true: ground truth is first rounded to whole pixels
    unoccluded_visibility: null     # .inf or 1: derive visibility from vis_bbox, this where nothing is hidden
    visibility_of_equal_boxes: null # 0: where vis_bbox equals bbox, with unoccluded_visibility

Each key is described at :class:`hkd.evaluation.protocols.Protocol`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from hkd.config import Section
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import load_yaml
from hkd.evaluation.errors import EvaluationInputError
from hkd.evaluation.protocols import CALTECH, PROTOCOLS, Interval, Protocol, Subset

# Infinity is allowed here: it is the visibility of people without occlusion.
_NotNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=True)]
_Positive = Annotated[float, Field(gt=0.0, le=1e9)]
_AspectRatio = Annotated[float, Field(ge=0.01, le=100.0)]
_Range = tuple[_NotNegative, _NotNegative | None]


class SubsetSection(Section):
    """One subset of a protocol file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    height: _Range
    height_includes_high: bool = True
    visibility: _Range = (0.0, None)
    visibility_includes_high: bool = True

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for key, (low, high) in (("height", self.height), ("visibility", self.visibility)):
            if high is not None and low > high:
                raise ValueError(f"{key} needs its lower bound first, found [{low:g}, {high:g}]")
        return self


class ProtocolSection(Section):
    """A protocol file."""

    name: str | None = None
    subsets: Annotated[tuple[SubsetSection, ...], Field(min_length=1, max_length=100)]
    fppi_points: Annotated[tuple[_Positive, ...], Field(min_length=1, max_length=1000)] | None = None
    iou_threshold: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    height_filter_ratio: Annotated[float, Field(ge=1.0, le=1e9)] | None = 1.25
    max_detections_per_image: Annotated[int, Field(ge=1, le=2**31)] | None = None
    miss_rate_floor: Annotated[float, Field(ge=0.0, lt=1.0)] = 1e-10
    counted_labels: tuple[str, ...] | None = None
    ignored_labels: tuple[str, ...] = ()
    border_xyxy: tuple[float, float, float, float] | None = None
    truth_aspect_ratio: _AspectRatio | None = None
    detection_aspect_ratio: _AspectRatio | None = None
    rounds_boxes: bool = False
    unoccluded_visibility: _NotNegative | None = None
    visibility_of_equal_boxes: _NotNegative | None = None


def load_protocol(name_or_path: str | Path) -> Protocol:
    """A built-in protocol by its name, or one's own from a YAML file (a path that ends in .yaml or .yml).

    Raises:
        EvaluationInputError: there is no such protocol, or the file is wrong; naming every mistake in it.
    """
    if (built_in := PROTOCOLS.get(str(name_or_path))) is not None:
        return built_in
    path = Path(name_or_path)
    if path.suffix.lower() not in (".yaml", ".yml"):
        names = ", ".join(sorted(PROTOCOLS))
        problem = f"there is no protocol {str(name_or_path)!r}; name one of: {names}; or a YAML file of your own"
        raise EvaluationInputError([problem])
    try:
        return _protocol(parse_config(ProtocolSection, load_yaml(path), source=str(path)), path.stem)
    except ConfigError as error:
        raise EvaluationInputError([f"{path}: {problem}" for problem in error.problems]) from None
    except ValueError as error:
        raise EvaluationInputError([f"{path}: {error}; correct the file"]) from None


def _protocol(section: ProtocolSection, name: str) -> Protocol:
    """The protocol of a file.

    Raises:
        ValueError: keys that are right each by itself contradict each other.
    """
    return Protocol(
        **section.model_dump(exclude={"name", "subsets", "fppi_points"}),
        name=section.name or name,
        subsets=tuple(
            Subset(
                name=subset.name,
                height_range=_interval(subset.height, subset.height_includes_high),
                visibility_range=_interval(subset.visibility, subset.visibility_includes_high),
            )
            for subset in section.subsets
        ),
        fppi_points=section.fppi_points or CALTECH.fppi_points,
    )


def _interval(bounds: _Range, includes_high: bool) -> Interval:
    low, high = bounds
    return Interval(low, math.inf if high is None else high, includes_high)
