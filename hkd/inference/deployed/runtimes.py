"""Runtimes that execute exported detectors on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from hkd.inference.deployed.metadata import INPUT, OUTPUTS
from hkd.inference.deployed.onnx_file import DeployedFile
from hkd.inference.deployed.packages import required_package
from hkd.models.weight_formats.errors import CheckpointError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class RawDetections:
    """Outputs of the graph."""

    boxes: npt.NDArray[np.float32]
    """(N, K, 4) xyxy, pixels of the input."""
    scores: npt.NDArray[np.float32]
    """(N, K), descending."""
    count: npt.NDArray[np.int64]
    """(N,) used slots of each image."""


class Runtime(Protocol):
    """A loaded file."""

    def __call__(self, images: Pixels) -> RawDetections:
        """Detections of images (N, 3, H, W).

        Raises:
            CheckpointError: the graph cannot be computed.
        """


class OnnxRuntime:
    """ONNX Runtime on the CPU."""

    def __init__(self, file: DeployedFile, num_threads: int | None) -> None:
        """``num_threads`` None: as ONNX Runtime chooses."""
        onnxruntime = required_package("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised; warnings about the graph are of no use to the user
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        try:
            self._session: Any = onnxruntime.InferenceSession(file.content, options, providers=["CPUExecutionProvider"])
        # The exceptions of ONNX Runtime have no public base class.
        except Exception as error:
            raise _unusable(file.path, "ONNX Runtime cannot load it", error) from error
        self._path = file.path

    def __call__(self, images: Pixels) -> RawDetections:
        """See :class:`Runtime`."""
        try:
            return RawDetections(*self._session.run(list(OUTPUTS), {INPUT: images}))
        except Exception as error:
            raise _unusable(self._path, "ONNX Runtime cannot run it", error) from error


class OpenVino:
    """OpenVINO on the CPU, in fp32."""

    def __init__(self, file: DeployedFile, num_threads: int | None) -> None:
        """``num_threads`` None: as OpenVINO chooses."""
        openvino = required_package("openvino")
        # Otherwise OpenVINO computes in bf16 where the processor can, whose boxes differ by pixels.
        settings: dict[str, object] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if num_threads is not None:
            settings["INFERENCE_NUM_THREADS"] = num_threads
        try:
            core = openvino.Core()
            self._model: Any = core.compile_model(core.read_model(file.content), "CPU", settings)
        except Exception as error:
            raise _unusable(file.path, "OpenVINO cannot load it", error) from error
        self._path = file.path

    def __call__(self, images: Pixels) -> RawDetections:
        """See :class:`Runtime`."""
        try:
            outputs = self._model({INPUT: images})
        except Exception as error:
            raise _unusable(self._path, "OpenVINO cannot run it", error) from error
        return RawDetections(*(outputs[name] for name in OUTPUTS))


def _unusable(path: Path, problem: str, error: Exception) -> CheckpointError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return CheckpointError(f"{path}: {problem} ({lines[-1][:200]})")


RUNTIMES: Final[Mapping[str, Callable[[DeployedFile, int | None], Runtime]]] = MappingProxyType(
    {"onnxruntime": OnnxRuntime, "openvino": OpenVino}
)
"""By the names of ``--runtime``."""
