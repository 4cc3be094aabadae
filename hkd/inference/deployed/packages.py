"""Packages that only exported detectors need, imported when they are used."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Final

EXTRAS: Final = {"onnx": "export", "onnxruntime": "export", "openvino": "openvino"}
"""The extra of hkd that installs each package."""


class MissingPackageError(ValueError):
    """A package is not installed."""


def required_package(name: str) -> ModuleType:
    """Import ``name``, one of :data:`EXTRAS`, or a module in it.

    Raises:
        MissingPackageError: it is not installed, or cannot be imported.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = "is not installed" if isinstance(error, ModuleNotFoundError) else f"cannot be imported ({error})"
        raise MissingPackageError(
            f"the package {package} {reason}, which exported detectors need: pip install 'hkd[{EXTRAS[package]}]'"
        ) from error
