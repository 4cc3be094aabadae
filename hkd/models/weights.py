"""Files that hold the weights of a detector: reading and writing ours, and reading torchvision's.

Nothing here unpickles: detectors are ``.safetensors``, everything else goes through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import hkd
from hkd.config import DataConfig, DetectorConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.files import write_atomically
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.unpickling import load_tensors_only, require_file
from hkd.models.weight_formats.values import value_problem

DETECTOR_FORMAT = "hkd.detector.1"

_METADATA_KEY = "hkd"
_MAX_TENSORS_SHOWN = 5  # an error names this many tensors of a kind, then counts the rest

# Rows of these are classes (of the last two, four box deltas each): background first, then the pedestrian, as in
# torchvision's COCO detectors, where class 1 is "person".
_CLASS_PREDICTOR = (
    "roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.cls_score.bias",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.box_predictor.bbox_pred.bias",
)
# Only norms without momentum use this count. Ours have momentum and accept a file without it; frozen norms lack the
# buffer and accept a file with it.
_OPTIONAL_SUFFIX = ".num_batches_tracked"


@dataclass(frozen=True)
class DetectorMetadata:
    """Metadata of a detector file."""

    config: DetectorConfig
    image_height: int
    """Height of the network's input at training and evaluation, pixels."""
    image_width: int
    hkd_version: str
    """The version that wrote the file."""
    metrics: dict[str, float]
    """Evaluation of these weights, by metric name; may be empty."""


def save_detector(
    path: Path,
    detector: nn.Module,
    config: DetectorConfig,
    *,
    image_height: int,
    image_width: int,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write a deployed detector as ``.safetensors``, with the metadata needed to rebuild it."""
    # A teacher's configuration also states its training; a deployed detector is described by its architecture only.
    architecture = {
        name: value for name, value in config.model_dump(mode="json").items() if name in DetectorConfig.model_fields
    }
    header = {
        "format": DETECTOR_FORMAT,
        "hkd_version": hkd.__version__,
        "config": architecture,
        "image_height": image_height,
        "image_width": image_width,
        "metrics": dict(metrics or {}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    # Not save_file, which makes a file that only its owner may read.
    write_atomically(path, save(tensors, metadata={_METADATA_KEY: json.dumps(header, sort_keys=True)}))


def load_detector(path: Path, device: torch.device | str = "cpu") -> tuple[Detector, DetectorMetadata]:
    """Build the detector of a file written by :func:`save_detector`, in eval mode.

    Raises:
        CheckpointError: the file is absent, damaged, or not written by hkd.
    """
    metadata = read_metadata(path)
    detector = build_detector(metadata.config)
    load_weights(detector, path)
    return detector.to(device).eval(), metadata


def read_metadata(path: Path) -> DetectorMetadata:
    """The metadata of a detector file, without reading its weights.

    Raises:
        CheckpointError: as :func:`load_detector`.
    """
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    if text is None:
        raise CheckpointError(
            f'{path}: its metadata has no entry "{_METADATA_KEY}", so its architecture is unknown; '
            "allowed: a detector that hkd saved"
        )
    try:
        header = json.loads(text)
        if header["format"] != DETECTOR_FORMAT:
            raise CheckpointError(
                f'{path}: has format "{header["format"]}"; this version of hkd reads "{DETECTOR_FORMAT}"'
            )
        # The sizes have the limits of a configuration.
        config = parse_config(DetectorConfig, header["config"], source="config")
        sides = {name: header[name] for name in ("image_height", "image_width")}
        data = parse_config(DataConfig, sides, source="config")
        return DetectorMetadata(
            config=config,
            image_height=data.image_height,
            image_width=data.image_width,
            hkd_version=str(header["hkd_version"]),
            metrics={str(name): float(value) for name, value in header["metrics"].items()},
        )
    except CheckpointError:
        raise
    except ConfigError as error:
        raise CheckpointError(
            f'{path}: its metadata entry "{_METADATA_KEY}" is damaged: {"; ".join(error.problems[:3])}'
        ) from error
    # ValueError: invalid JSON, a value that is not a number, or pydantic's; RecursionError: too deeply nested brackets.
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(
            f'{path}: its metadata entry "{_METADATA_KEY}" is damaged ({str(error)[:200]})'
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a ``.pth``/``.pt`` state dict (bare, or under the key ``model``).

    Raises:
        CheckpointError: the file is absent or unreadable, or holds anything but named tensors.
    """
    if path.suffix == ".safetensors":
        require_file(path)
        try:
            with safe_open(path, framework="pt") as file:
                # Inside safe_open tensors are views of a mapped file: take copies.
                return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    content = load_tensors_only(path)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(
            f"{path}: holds no state dict; allowed: a mapping from parameter names to tensors, "
            'bare or under the key "model"'
        )
    return {str(name): tensor for name, tensor in content.items()}


def load_weights(detector: nn.Module, path: Path) -> None:
    """Read weights from a file into a detector of the same architecture.

    Reads our own ``.safetensors`` and torchvision's ``fasterrcnn`` state dicts. A class predictor with more classes
    than the detector is cut to background (0) and the first classes; in torchvision's COCO detectors class 1 is person.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape, not of floating-point numbers or not finite.
            The detector is then unchanged.
    """
    weights = _cut_to_first_classes(read_weights(path), detector)
    problems = architecture_problems(detector, weights)
    if problems:
        raise CheckpointError(
            f"{path}: holds a detector of another architecture than the one configured. "
            + " ".join(problems)
            + " Allowed: weights of the same backbone, width_multiplier, pyramid_channels, head_channels and number of"
            " anchor_aspect_ratios; change these in the configuration to match the file, or name another file."
        )
    problem = value_problem(weights, detector.state_dict())
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}. Name another file of weights.")
    detector.load_state_dict(weights, strict=False)


def architecture_problems(detector: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each kind of tensor that does not match ``detector``; empty if all match."""
    expected = detector.state_dict()
    missing = [name for name in expected if name not in weights and not name.endswith(_OPTIONAL_SUFFIX)]
    unexpected = [name for name in weights if name not in expected and not name.endswith(_OPTIONAL_SUFFIX)]
    mismatched = [name for name in expected if name in weights and weights[name].shape != expected[name].shape]
    problems = []
    if mismatched:
        problems.append(
            f"{len(mismatched)} tensors have another shape: "
            + _some([f"{name} is {_shape(weights[name])} instead of {_shape(expected[name])}" for name in mismatched])
        )
    if missing:
        problems.append(
            f"{len(missing)} tensors are missing: " + _some([f"{name} {_shape(expected[name])}" for name in missing])
        )
    if unexpected:
        problems.append(
            f"{len(unexpected)} tensors are unexpected: "
            + _some([f"{name} {_shape(weights[name])}" for name in unexpected])
        )
    return problems


def _cut_to_first_classes(weights: dict[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    expected = detector.state_dict()
    cut = dict(weights)
    for name in _CLASS_PREDICTOR:
        if name in weights and name in expected:
            ours, theirs = expected[name], weights[name]
            if theirs.shape[1:] == ours.shape[1:] and theirs.shape[:1] > ours.shape[:1]:
                cut[name] = theirs[: ours.shape[0]]
    return cut


def _some(entries: list[str]) -> str:
    shown = ", ".join(entries[:_MAX_TENSORS_SHOWN])
    rest = len(entries) - _MAX_TENSORS_SHOWN
    return shown + (f" and {rest} more." if rest > 0 else ".")


def _shape(tensor: Tensor) -> str:
    return "(" + ", ".join(str(size) for size in tensor.shape) + ")"
