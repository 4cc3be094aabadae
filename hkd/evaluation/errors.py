"""The error of an evaluation whose inputs are wrong."""

from __future__ import annotations

from hkd.coco.parsing.errors import InputError


class EvaluationInputError(InputError):
    """Ground truth, detections or a protocol cannot be used; ``problems`` has a sentence for each mistake."""
