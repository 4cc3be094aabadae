"""Files that hold the weights of a detector: reading and writing ours, and reading those of others.

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
from hkd.coco.parsing.values import shown
from hkd.config import DataConfig, DetectorConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.files import write_atomically
from hkd.models.build import build_detector
from hkd.models.components.heads import PersonPredictor
from hkd.models.detector import Detector
from hkd.models.weight_formats.class_predictor import (
    DELTAS,
    SCORES,
    num_scored_classes,
    with_first_classes,
    with_person_second,
)
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.importing import ImportedWeights, import_weights
from hkd.models.weight_formats.other_detectors import recognised_as
from hkd.models.weight_formats.torchvision_names import BACKBONE_PREFIX
from hkd.models.weight_formats.unpickling import load_tensors_only, require_file
from hkd.models.weight_formats.values import value_problem
from hkd.models.weight_selection import SelectedWeights, has_frozen_norms, select_weights

DETECTOR_FORMAT = "hkd.detector.1"
DETECTOR_SUFFIX = ".safetensors"
"""Of the files that :func:`save_detector` writes."""

_METADATA_KEY = "hkd"
_MAX_TENSORS_SHOWN = 5  # an error names this many tensors of a kind, then counts the rest

# Only norms without momentum use this count. Ours have momentum and accept a file without it; frozen norms lack the
# buffer and accept a file with it.
_OPTIONAL_SUFFIX = ".num_batches_tracked"
_PREDICTOR = "roi_heads.box_predictor"
_SHAPE_SETTINGS = "backbone, width_multiplier, pyramid_channels, head_channels and number of anchor_aspect_ratios"


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
                f'{path}: has format {shown(header["format"])}; this version of hkd reads "{DETECTOR_FORMAT}"'
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


def read_weights(path: Path) -> ImportedWeights:
    """The weights of a ``.safetensors`` or ``torch.save`` file, under our names.

    Reads what hkd and torchvision write (their two-stage ResNet-50 detectors with FPN, by any version, and
    classification ResNets), mmdetection's Faster R-CNN, and what training programs wrap around them (see
    :mod:`hkd.models.weight_formats.unwrapping`). Names that are not known are returned as they are.

    Raises:
        CheckpointError: the file is absent or unreadable, holds no named tensors or other Python objects, or weights
            that cannot be represented.
    """
    if path.suffix != DETECTOR_SUFFIX:
        return import_weights(load_tensors_only(path), path)
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            # Inside safe_open tensors are views of a mapped file: take copies.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a dict)
            is_ours = _METADATA_KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable .safetensors file ({error})") from error
    return ImportedWeights(tensors, person_class=1) if is_ours else import_weights(tensors, path)


def load_weights(detector: Detector, path: Path, *, person_class: int | None = None) -> tuple[str, ...]:
    """Read the weights of a trained detector into one of the same architecture.

    A class predictor of more classes than the detector has is kept whole: its other classes count as background, so
    that the scores of people are those of the trained detector.

    Args:
        detector: Changed only if all tensors fit.
        path: See :func:`read_weights`.
        person_class: Row of the person in the class predictor, where the file does not state it; None: known for two
            classes and for COCO's.

    Returns:
        What was read from where, left out or changed, a sentence each.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape, not of floating-point numbers or not finite.
            The detector is then unchanged.
    """
    weights = read_weights(path)
    if weights.is_classifier:
        raise CheckpointError(
            f"{path}: holds a classification ResNet, which detects nothing; allowed: a trained detector. As "
            "teacher.init_from it initialises the backbone of a teacher that is then trained"
        )
    tensors = with_person_second(weights.tensors, weights.person_class or person_class, path, detector.num_classes)
    scored = num_scored_classes(tensors)
    expected = dict(detector.state_dict())
    predictor = None
    if scored > detector.num_classes == 2:
        tensors = with_first_classes(tensors, DELTAS, 4 * detector.num_classes)
        predictor = PersonPredictor(detector.head_channels, scored)
        expected |= {f"{_PREDICTOR}.{name}": tensor for name, tensor in predictor.state_dict().items()}
    _require_usable(expected, tensors, path)
    if predictor is not None:
        detector.roi_heads.box_predictor = predictor.to(next(detector.parameters()))
    detector.load_state_dict(tensors, strict=False)
    return weights.notes + _notes_on_classes(scored, detector.num_classes, "count as background")


def load_first_weights(detector: nn.Module, path: Path, *, person_class: int | None = None) -> tuple[str, ...]:
    """Initialise a detector from a file, for training.

    Reads a detector, of whose classes those after background and person are dropped, or a classification ResNet, which
    initialises the backbone. Of a larger one, weights are selected (:mod:`hkd.models.weight_selection`).

    Args, Returns and Raises: as :func:`load_weights`.
    """
    weights = read_weights(path)
    expected = detector.state_dict()
    if weights.is_classifier:
        _set_backbone(detector, weights, path)
        rest = sorted({".".join(name.split(".")[:2]) for name in expected if not name.startswith(BACKBONE_PREFIX)})
        return (*weights.notes, f"the backbone is that of a classification ResNet; random: {', '.join(rest)}")
    classes = num_scored_classes(expected)
    tensors = with_person_second(weights.tensors, weights.person_class or person_class, path, classes)
    scored = num_scored_classes(tensors)
    if scored > classes:
        tensors = with_first_classes(with_first_classes(tensors, DELTAS, 4 * classes), SCORES, classes)
    selected = _selected(detector, tensors, expected, path)
    left = set(selected.left) if selected.has_other_blocks else set[str]()
    _require_usable({name: value for name, value in expected.items() if name not in left}, selected.tensors, path)
    detector.load_state_dict(selected.tensors, strict=False)
    notes = [*weights.notes, *_notes_on_classes(scored, classes, "are dropped")]
    if left:
        notes.append("its blocks are of another kind: the backbone and the convolutions that read it stay random")
    return tuple(notes)


def load_backbone(detector: nn.Module, path: Path) -> tuple[str, ...]:
    """Initialise a detector's backbone, and nothing else, from a classification ResNet at least as wide.

    Returns:
        What was read from where, left out or changed, a sentence each.

    Raises:
        CheckpointError: the file is unreadable, or holds no classification ResNet or one of another architecture.
    """
    weights = read_weights(path)
    if not weights.is_classifier:
        found = recognised_as(weights.tensors) or "a detector or another network"
        raise CheckpointError(
            f"{path}: holds {found}; allowed as student.backbone_from: a classification ResNet with torchvision's "
            "names. A detector is read by student.init_from"
        )
    _set_backbone(detector, weights, path)
    return weights.notes


def _set_backbone(detector: nn.Module, weights: ImportedWeights, path: Path) -> None:
    backbone = {name: value for name, value in detector.state_dict().items() if name.startswith(BACKBONE_PREFIX)}
    selected = _selected(detector, weights.tensors, backbone, path)
    if selected.has_other_blocks:
        _require_usable(backbone, weights.tensors, path, kind="a ResNet", settings="backbone")
    _require_usable(backbone, selected.tensors, path)
    detector.load_state_dict(selected.tensors, strict=False)


def _selected(
    detector: nn.Module, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path
) -> SelectedWeights:
    return select_weights(tensors, wanted, norm_is_frozen=has_frozen_norms(detector), name=str(path))


def architecture_problems(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> list[str]:
    """A sentence for each kind of tensor that does not match those of the ``expected`` state dict; empty if all do."""
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


def _require_usable(
    expected: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    path: Path,
    *,
    kind: str = "a detector",
    settings: str = _SHAPE_SETTINGS,
) -> None:
    problems = architecture_problems(expected, weights)
    other = recognised_as(weights) if problems else None
    if other is not None:
        raise CheckpointError(
            f"{path}: holds {other}; this network cannot be read. Allowed: Faster R-CNN with two fully connected "
            "layers on a ResNet-18, 34 or 50 with FPN, such as torchvision's fasterrcnn_resnet50_fpn"
        )
    if problems:
        raise CheckpointError(
            f"{path}: holds {kind} of another architecture than the one configured. "
            + " ".join(problems)
            + f" Allowed: weights of the same {settings}; change these in the configuration to match the file, or name "
            "another file."
        )
    problem = value_problem(weights, expected)
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}. Name another file of weights.")


def _notes_on_classes(scored: int, classes: int, what_happens: str) -> tuple[str, ...]:
    if scored <= classes:
        return ()
    return (f"scores {scored} classes, the background among them; those other than person {what_happens}",)


def _some(entries: list[str]) -> str:
    shown = ", ".join(entries[:_MAX_TENSORS_SHOWN])
    rest = len(entries) - _MAX_TENSORS_SHOWN
    return shown + (f" and {rest} more." if rest > 0 else ".")


def _shape(tensor: Tensor) -> str:
    return "(" + ", ".join(str(size) for size in tensor.shape) + ")"
