"""Files that hold weights: the deployed detector, and the full state of a training.

Nothing here unpickles: detectors are safetensors, everything else goes through ``torch.load(weights_only=True)``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

import hkd
from hkd.config import DetectorConfig
from hkd.files import replace_atomically, write_atomically
from hkd.models.build import build_detector
from hkd.models.detector import Detector

DETECTOR_FORMAT = "hkd.detector.1"
STATE_FORMAT = "hkd.training_state.1"

_METADATA_KEY = "hkd"
_TENSORS_NAMED = 5  # an error names this many tensors of a kind, then counts the rest

# Rows of these are classes (of the last two, four box deltas each): background first, then the pedestrian, as in
# torchvision's COCO detectors, where class 1 is "person".
_CLASS_PREDICTOR = (
    "roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.cls_score.bias",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.box_predictor.bbox_pred.bias",
)
# Counts batches for norms without momentum; ours have momentum, so that a file may do without it. Frozen norms have
# none: they take a file's all the same.
_OPTIONAL_SUFFIX = ".num_batches_tracked"


class CheckpointError(ValueError):
    """A file of weights cannot be read, or holds another architecture."""


@dataclass(frozen=True)
class DetectorMetadata:
    """What a detector file says of its weights."""

    config: DetectorConfig
    image_height: int
    """Height of the network's input at training and evaluation, pixels."""
    image_width: int
    hkd_version: str
    """The version that wrote the file."""
    metrics: dict[str, float]
    """Evaluation of these weights, by metric name; empty where there was none."""


def save_detector(
    path: Path,
    detector: nn.Module,
    config: DetectorConfig,
    *,
    image_height: int,
    image_width: int,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Write a deployed detector as ``.safetensors``, with what is needed to build it again in its metadata."""
    # A teacher's configuration says where it came from as well; what is deployed is only its shape.
    shape = {
        name: value for name, value in config.model_dump(mode="json").items() if name in DetectorConfig.model_fields
    }
    header = {
        "format": DETECTOR_FORMAT,
        "hkd_version": hkd.__version__,
        "config": shape,
        "image_height": image_height,
        "image_width": image_width,
        "metrics": dict(metrics or {}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    # Not save_file, which makes a file that only its owner may read.
    write_atomically(path, save(tensors, metadata={_METADATA_KEY: json.dumps(header, sort_keys=True)}))


def load_detector(path: Path, device: torch.device | str = "cpu") -> tuple[Detector, DetectorMetadata]:
    """Build the detector that a file written by :func:`save_detector` describes, in eval mode.

    Raises:
        CheckpointError: the file is absent, damaged, or no detector of ours.
    """
    metadata = read_metadata(path)
    detector = build_detector(metadata.config)
    load_weights(detector, path)
    return detector.to(device).eval(), metadata


def read_metadata(path: Path) -> DetectorMetadata:
    """What a detector file says of itself, without reading its weights.

    Raises:
        CheckpointError: as :func:`load_detector`.
    """
    _require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    if text is None:
        raise CheckpointError(
            f'{path}: its metadata has no entry "{_METADATA_KEY}", so that its architecture is unknown; '
            "allowed: a detector that hkd saved"
        )
    try:
        header = json.loads(text)
        if header["format"] != DETECTOR_FORMAT:
            raise CheckpointError(
                f'{path}: has format "{header["format"]}"; this version of hkd reads "{DETECTOR_FORMAT}"'
            )
        return DetectorMetadata(
            config=DetectorConfig.model_validate(header["config"]),
            image_height=int(header["image_height"]),
            image_width=int(header["image_width"]),
            hkd_version=str(header["hkd_version"]),
            metrics={str(name): float(value) for name, value in header["metrics"].items()},
        )
    except CheckpointError:
        raise
    # ValueError: no JSON, no number where one belongs, or pydantic's; RecursionError: brackets without end.
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(f'{path}: its metadata entry "{_METADATA_KEY}" is damaged ({error})') from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, or of a ``.pth``/``.pt`` state dict (bare, or under the key ``model``).

    Raises:
        CheckpointError: the file is absent or unreadable, or holds anything but named tensors.
    """
    _require_file(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                # Inside safe_open tensors are views of a mapped file: take copies.
                return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    content = _load_safely(path)
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

    Takes our own ``.safetensors`` and torchvision's ``fasterrcnn`` state dicts. Where the file's class predictor knows
    more classes than the detector, its rows for background (0) and the first classes are taken: of torchvision's COCO
    detectors that is class 1, person.

    Raises:
        CheckpointError: a tensor is missing, left over or of another shape. The detector is then unchanged.
    """
    weights = _first_classes(read_weights(path), detector)
    problems = architecture_problems(detector, weights)
    if problems:
        raise CheckpointError(
            f"{path}: holds a detector of another architecture than the one configured. "
            + " ".join(problems)
            + " Allowed: weights of the same backbone, width_multiplier, pyramid_channels, head_channels and number of"
            " anchor_aspect_ratios; change these in the configuration to what the file holds, or name another file."
        )
    detector.load_state_dict(weights, strict=False)


def architecture_problems(detector: nn.Module, weights: Mapping[str, Tensor]) -> list[str]:
    """Sentences on the tensors that keep ``weights`` from fitting ``detector``; empty where they fit."""
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


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a training's state: nested dicts and lists of tensors, numbers and strings."""
    with replace_atomically(path) as partial:
        torch.save({"format": STATE_FORMAT, **state}, partial)


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, tensors on the CPU.

    Raises:
        CheckpointError: the file is absent, damaged, or something else.
    """
    _require_file(path)
    state = _load_safely(path)
    if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
        raise CheckpointError(f'{path}: not a training state that this version of hkd reads ("{STATE_FORMAT}")')
    return state


def _first_classes(weights: dict[str, Tensor], detector: nn.Module) -> dict[str, Tensor]:
    """Cut the class predictor of a detector that knows more classes to the first ones."""
    expected = detector.state_dict()
    cut = dict(weights)
    for name in _CLASS_PREDICTOR:
        if name in weights and name in expected:
            ours, theirs = expected[name], weights[name]
            if theirs.shape[1:] == ours.shape[1:] and theirs.shape[:1] > ours.shape[:1]:
                cut[name] = theirs[: ours.shape[0]]
    return cut


def _load_safely(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # torch.load meets a damaged file with anything from EOFError to UnpicklingError; each means the same to a user.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path}: not a file that can be read safely ({reason}); "
            "allowed: tensors, numbers and strings as torch.save writes them, and no other Python objects"
        ) from error


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file of weights; check the path")


def _some(entries: list[str]) -> str:
    shown = ", ".join(entries[:_TENSORS_NAMED])
    rest = len(entries) - _TENSORS_NAMED
    return shown + (f" and {rest} more." if rest > 0 else ".")


def _shape(tensor: Tensor) -> str:
    return "(" + ", ".join(str(size) for size in tensor.shape) + ")"
