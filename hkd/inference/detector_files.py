"""The detector in a file of weights that a user names for detection."""

from __future__ import annotations

from pathlib import Path

from hkd.config import TrialConfig
from hkd.inference.deployed.onnx_file import is_exported
from hkd.models.build import build_detector
from hkd.models.detector import Detector
from hkd.models.weight_formats.errors import CheckpointError
from hkd.models.weights import load_detector, load_weights


def read_detector(weights: Path, config: TrialConfig | None, *, is_teacher: bool = False) -> tuple[Detector, int, int]:
    """The detector in eval mode, and the height and width of its input in pixels.

    Args:
        weights: a detector saved by hkd, or with ``config`` any file that fits its student.
        is_teacher: whether the file must fit the configured teacher, if there is one, and not the student.

    Raises:
        CheckpointError: the weights cannot be used, or a state dict is given without ``config``.
    """
    if is_exported(weights):
        raise CheckpointError(
            f"{weights}: an exported detector, which hkd detect and hkd benchmark read; name the .safetensors "
            "file that it was exported from"
        )
    if config is None:
        if weights.is_file() and weights.suffix != ".safetensors":
            raise CheckpointError(
                f"{weights}: a state dict does not describe its detector; give the configuration of its training with "
                "--config, or the student.safetensors that hkd saved"
            )
        detector, metadata = load_detector(weights)
        return detector, metadata.image_height, metadata.image_width
    teacher = config.teacher if is_teacher else None
    detector = build_detector(config.student if teacher is None else teacher)
    load_weights(detector, weights, person_class=None if teacher is None else teacher.person_class)
    return detector.eval(), config.data.image_height, config.data.image_width
