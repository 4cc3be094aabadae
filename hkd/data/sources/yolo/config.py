"""Classes and splits of a data set in YOLO's format: ``data.yaml``, darknet's ``obj.data``, or ``classes.txt``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.bounded_files import read_bounded
from hkd.coco.parsing.values import is_integer, shown
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import parse_yaml
from hkd.data.conversion.file_formats.text_file import read_lines
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.image_files.listing import split_hidden

LARGEST_CONFIG_BYTES = 1 << 20
_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_NAMES_FILES = ("classes.txt", "obj.names", "labels.txt")
"""Of LabelImg and Label Studio, of darknet, of other tools: a class per line."""
_MOST_NAMES = 10_000


@dataclass(frozen=True)
class YoloConfig:
    """What the data set states about itself."""

    file: str
    """Name of the file, for messages."""
    names: dict[int, str]
    """Name of each class."""
    base: object
    """``path`` of ``data.yaml``: where the folders below start."""
    splits: Mapping[str, object]
    """Of each split, ours by name, a folder or list of images; empty: by the names of folders."""
    keypoints: tuple[int, int] | None
    """``kpt_shape`` of ``data.yaml``: number of key points, and numbers of each."""


def read_config(root: Path, problems: list[str]) -> YoloConfig | None:
    """The configuration in a data set's folder; None if it is invalid."""
    yaml_files = split_hidden(root.glob("*.y*ml"), root).kept
    data_files = split_hidden(root.glob("*.data"), root).kept
    named = [path for path in yaml_files if path.name in ("data.yaml", "data.yml")]
    files = named or yaml_files or data_files
    if len(files) > 1:
        found = ", ".join(path.name for path in files[:5])
        problems.append(f"found {len(files)} configurations ({found}); name one of them data.yaml")
        return None
    if files and files[0].suffix == ".data":
        return _from_values(_darknet(files[0], problems), root, files[0].name, problems)
    if files:
        values = _yaml(files[0], problems)
        return None if values is None else _from_values(values, root, files[0].name, problems)
    names_file = next((name for name in _NAMES_FILES if (root / name).is_file()), None)
    if names_file is None:
        what = f"data.yaml, other .yaml, obj.data, {' or '.join(_NAMES_FILES)}"
        patterns = ("*.yaml", "*.yml", "*.data", *_NAMES_FILES)
        problems.append(nothing_found(root, what, patterns, "name the folder that holds one of them"))
        return None
    return _from_values({"names": names_file}, root, names_file, problems)


def _yaml(path: Path, problems: list[str]) -> dict[Any, Any] | None:
    try:
        content = read_bounded(path, LARGEST_CONFIG_BYTES)
    except OSError as error:
        problems.append(f"{path.name}: cannot be read ({error.strerror})")
        return None
    try:
        values = parse_yaml(content, path.name, integer_keys=True)
    except ConfigError as error:
        problems += [f"{path.name}: {problem}" for problem in error.problems]
        return None
    if not isinstance(values, dict) or not values:
        problems.append(f"{path.name}: must be a mapping with names, train and val")
        return None
    if not any(values.get(key) for key in _SPLITS):
        problems.append(f"{path.name}: names neither train nor val nor test")
        return None
    return values


def _darknet(path: Path, problems: list[str]) -> dict[Any, Any]:
    """The lines ``key = value`` of darknet's ``obj.data``."""
    pairs = (line.partition("=") for line in read_lines(path, path.name, problems) if not line.startswith("#"))
    values = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    return {key: value for key, value in values.items() if key == "names" or key in _SPLITS}


def _from_values(values: dict[Any, Any], root: Path, file: str, problems: list[str]) -> YoloConfig | None:
    names = _class_names(values, root, file, problems)
    shape = values.get("kpt_shape")
    keypoints = None
    if shape is not None:
        if not (isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)):
            problems.append(f"{file}: kpt_shape is {shown(shape)}; it must be two integers, as [17, 3]")
            return None
        keypoints = (shape[0], shape[1])
    if names is None:
        return None
    splits: dict[str, object] = {}
    for key, name in _SPLITS.items():
        if values.get(key):
            splits.setdefault(name, values[key])
    return YoloConfig(file, names, values.get("path"), splits, keypoints)


def _class_names(values: dict[Any, Any], root: Path, file: str, problems: list[str]) -> dict[int, str] | None:
    """Class names by number; None if they are invalid."""
    names = values.get("names")
    if names is None:
        names = next((name for name in _NAMES_FILES if (root / name).is_file()), None)
        if names is None:
            problems.append(
                f"{file}: names must be a list of class names, or a mapping from their numbers; there is no"
                f" {' or '.join(_NAMES_FILES)} either"
            )
            return None
    if isinstance(names, str):
        return _names_of_text(names, values.get("nc"), root, file, problems)
    pairs = (
        list(enumerate(names)) if isinstance(names, list) else list(names.items()) if isinstance(names, dict) else []
    )
    if not pairs or len(pairs) > _MOST_NAMES:
        problems.append(f"{file}: names must be a list of class names, or a mapping from their numbers")
        return None
    found: dict[int, str] = {}
    num_problems = len(problems)
    for key, name in pairs:
        number = _class_number(key)
        if number is None:
            problems.append(f"{file}: names has the key {shown(key)}; it must be the number of a class")
        elif not isinstance(name, str):
            problems.append(
                f"{file}: names[{number}] is {shown(name)}, which YAML reads as no text; if it is the name of the"
                " class, write it in quotes"
            )
        elif number in found:
            problems.append(f"{file}: names has the number {number} twice; remove one")
        else:
            found[number] = name
    return found if len(problems) == num_problems else None


def _class_number(key: object) -> int | None:
    if isinstance(key, str) and key.strip().isascii() and key.strip().isdigit() and len(key) <= 9:
        return int(key)
    return int(key) if is_integer(key) and key >= 0 else None


def _names_of_text(names: str, nc: object, root: Path, file: str, problems: list[str]) -> dict[int, str] | None:
    """Class names of a file of names, or of one class."""
    # obj.data names it relative to darknet's folder: data/obj.names.
    for candidate in (names, Path(names).name):
        path = root / candidate
        if Path(candidate).suffix in (".txt", ".names") and ".." not in Path(candidate).parts and path.is_file():
            lines = [line.strip() for line in read_lines(path, candidate, problems)]
            while lines and not lines[-1]:
                lines.pop()
            if lines and all(lines):
                return dict(enumerate(lines))
            problems.append(f"{candidate}: must have the name of a class in each line")
            return None
    if Path(names).suffix in (".txt", ".names"):
        problems.append(f"{file}: names is the file {shown(names)}, which is not in the data set's folder; add it")
        return None
    if nc in (None, 1):
        return {0: names}
    problems.append(f"{file}: names is the text {shown(names)}, but nc is {shown(nc)}; list the {shown(nc)} names")
    return None
