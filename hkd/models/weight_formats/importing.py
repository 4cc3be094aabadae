"""Weights of a file in our names, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hkd.models.weight_formats import mmdetection, torchvision_names
from hkd.models.weight_formats.class_predictor import num_scored_classes
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weight_formats.unwrapping import unwrap
from hkd.models.weight_formats.values import storage_problem

_PERSON_NAMES = ("person", "pedestrian")


@dataclass(frozen=True)
class ImportedWeights:
    """Tensors under our names, which are torchvision's."""

    tensors: dict[str, Tensor]
    is_classifier: bool = False
    """Whether the file holds a classification ResNet; ``tensors`` are then those of a detector's backbone."""
    person_class: int | None = None
    """Row of the person in the class predictor, where the file states it."""
    notes: tuple[str, ...] = ()
    """What was read from where, left out or changed, a sentence each."""


def import_weights(content: Any, path: Path) -> ImportedWeights:
    """Bring weights to our names.

    Args:
        content: From ``torch.load``, or the named tensors of a ``.safetensors`` file.
        path: The file, for messages and its hash.

    Raises:
        CheckpointError: the file holds no weights, or weights that cannot be represented.
    """
    unwrapped = unwrap(content, path)
    tensors, notes = unwrapped.tensors, list(unwrapped.notes)
    problem = storage_problem(tensors)
    if problem is not None:
        raise CheckpointError(f"{path}: {problem}. Name another file of weights.")
    if unwrapped.layout == "resnet":
        prefix = torchvision_names.BACKBONE_PREFIX
        backbone = {prefix + name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}
        return ImportedWeights(backbone, is_classifier=True, notes=tuple(notes))
    if unwrapped.layout == "mmdetection":
        tensors, more = mmdetection.converted(tensors, content, path)
        return ImportedWeights(
            tensors, person_class=_person_row(mmdetection.class_names(content), tensors), notes=(*notes, *more)
        )
    if unwrapped.layout == "torchvision":
        tensors = torchvision_names.with_present_names(tensors)
        tensors, others = torchvision_names.without_other_heads(tensors)
        if others:
            notes.append(f"not read: {len(others)} tensors of mask or keypoint heads")
        if torchvision_names.is_trained_without_epsilon(path):
            tensors = torchvision_names.scaled_for_epsilon(tensors)
    return ImportedWeights(tensors, notes=tuple(notes))


def _person_row(class_names: tuple[str, ...], tensors: dict[str, Tensor]) -> int | None:
    """The row of the one class that is named as a person, if the names fit the rows."""
    if num_scored_classes(tensors) != len(class_names) + 1:
        return None
    people = [row for row, name in enumerate(class_names, start=1) if name.strip().lower() in _PERSON_NAMES]
    return people[0] if len(people) == 1 else None
