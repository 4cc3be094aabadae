"""Packages that the benchmarks need; found without importing them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

REQUIRED: Mapping[str, str] = {
    "torch": "torch>=2.11",
    "torchvision": "torchvision>=0.26",
    "numpy": "numpy",
    "pydantic": "pydantic",
    "yaml": "pyyaml",
    "PIL": "pillow",
    "filelock": "filelock",
}
"""Module -> requirement, of every section."""
OF_TRAININGS: Mapping[str, str] = {"safetensors": "safetensors", "pycocotools": "pycocotools"}
"""In addition, of sections that build hkd's own :class:`hkd.training.trainer.Trainer`."""
_OLDEST_TORCH = (2, 11)


class PackageError(ValueError):
    """A package is absent or too old."""


def absent(modules: Iterable[str]) -> list[str]:
    """The modules that cannot be found."""
    return [module for module in modules if find_spec(module) is None]


def check_packages() -> None:
    """Check what every section needs.

    Raises:
        PackageError: naming all absent packages, or a torch that is too old.
    """
    missing = [REQUIRED[module] for module in absent(REQUIRED)]
    if missing:
        raise PackageError(f"these packages are not installed: {', '.join(missing)}. Install them with pip")
    found = torch_version()
    numbers = tuple(int(number) for number in re.findall(r"\d+", found)[:2])
    if numbers and numbers < _OLDEST_TORCH:
        raise PackageError(f"torch {found} is installed, and {REQUIRED['torch']} is needed")


def torch_version() -> str:
    """The version of torch that is installed, as its package states it; empty without one."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""
