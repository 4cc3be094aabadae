"""Files of ``hkd benchmark --json``, as studies and reports read them.

Some are written by hand, from the times of another tool: required of each row are the runtime, the architecture, the
input's size and the median time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from hkd.config import DetectorConfig
from hkd.config.section import InputSide
from hkd.config_files.parsing import parse_config
from hkd.files import read_record
from hkd.inference.deployed.metadata import LARGEST_BATCH, StudyIdentity
from hkd.text.escaping import LinesError

Milliseconds = Annotated[float, Field(gt=0.0, le=1e9)]


class MeasurementsError(LinesError):
    """A file of measurements cannot be used."""


class _Read(BaseModel):
    """A part of the file. Unknown keys are ignored, as later versions may write more."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class MeasuredTimes(_Read):
    """Of one image."""

    median_ms: Milliseconds
    p90_ms: Milliseconds | None = None


class MeasuredFile(_Read):
    """One detector as measured by one runtime."""

    file: Annotated[str, Field(max_length=4096)] = ""
    runtime: Annotated[str, Field(max_length=64)]
    precision: Literal["fp32", "int8"] = "fp32"
    input_size: tuple[InputSide, InputSide]
    """Height and width, pixels."""
    batch: Annotated[int, Field(ge=1, le=LARGEST_BATCH)] = 1
    network: MeasuredTimes
    ratio: Annotated[float, Field(gt=0.0, le=1e9)] | None = None
    """Median over the rounds of the time over that of the first row."""
    num_bytes: Annotated[int, Field(ge=1, le=2**40)] | None = None
    """Of the file."""
    detector: DetectorConfig
    metrics: dict[str, float] = Field(default_factory=dict, max_length=1000)
    """That the file states of itself."""
    study: StudyIdentity | None = None
    """The trial that it was exported from."""


class Measurements(_Read):
    """A file of ``hkd benchmark --json``."""

    processor: Annotated[str, Field(max_length=256)] = "unnamed device"
    num_threads: Annotated[int, Field(ge=1)] | None = None
    rows: Annotated[tuple[MeasuredFile, ...], Field(min_length=1, max_length=10_000)]

    def milliseconds(self, row: MeasuredFile) -> float:
        """Time of an image: the first row's median times the ratio, which other load on the machine changes least."""
        return row.network.median_ms if row.ratio is None else self.rows[0].network.median_ms * row.ratio


def read_measurements(path: Path) -> Measurements:
    """Read a file.

    Raises:
        ConfigError: listing what is missing or invalid.
        MeasurementsError: it cannot be read, or is not JSON.
    """
    try:
        raw = read_record(path)
    except OSError as error:
        raise MeasurementsError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise MeasurementsError(
            f"{path}: is not JSON ({str(error)[:100]}); write it with hkd benchmark --json"
        ) from error
    return parse_config(Measurements, raw, source=str(path))
