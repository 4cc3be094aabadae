"""Checks of the files that a command writes, before it computes anything."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from hkd.files import is_device_or_pipe


def output_problems(outputs: Mapping[str, Path | None], inputs: Collection[Path]) -> list[str]:
    """One message for every output file that would overwrite an input, is used twice or cannot be written.

    Args:
        outputs: Path by option; ``None`` for options that were not given.
        inputs: Files and folders that the command reads.
    """
    input_paths = {path.resolve() for path in inputs}
    input_folders = {path for path in input_paths if path.is_dir()}
    options: dict[Path, str] = {}
    problems = []
    for option, path in outputs.items():
        if path is None:
            continue
        resolved = path.resolve()
        if is_device_or_pipe(path):  # such as /dev/stdout
            continue
        if resolved in input_paths:
            problems.append(f"{path}: is an input and would be overwritten; give {option} another file")
        elif input_folders & set(resolved.parents):
            problems.append(f"{path}: is inside an input folder; give {option} a file elsewhere")
        elif path.is_dir():
            problems.append(f"{path}: is a folder; give {option} a file")
        elif resolved in options:
            problems.append(f"{path}: is also given to {options[resolved]}; give {option} another file")
        elif (reason := _write_obstacle(resolved)) is not None:
            problems.append(f"{path}: cannot be written ({reason}); give {option} another file")
        options[resolved] = option
    return problems


def _write_obstacle(path: Path) -> str | None:
    """Why a file cannot be written; ``None`` if it probably can."""
    folder = next(parent for parent in path.parents if parent.exists())
    try:
        # Permissions do not show whether the disk is full or the file system read-only.
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder}: {error.strerror or type(error).__name__}"
