"""Search for the folders and annotation files of CityPersons.

Archives unpack to ``gtBboxCityPersons`` and ``leftImg8bit``; many people keep them in folders with the archives' names,
``gtBbox_cityPersons_trainval/gtBboxCityPersons`` and ``leftImg8bit_trainvaltest/leftImg8bit``. All of these are found
in ROOT and in its folders, and ROOT may be ``gtBboxCityPersons`` itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkd.data.sources.citypersons.official_json import FILE_ENDING
from hkd.image_files.listing import FoundFiles, is_hidden, split_hidden

SPLITS: Final = ("train", "val")
IMAGE_FOLDER: Final = "leftImg8bit"
JSON_FOLDER: Final = "gtBboxCityPersons"


@dataclass(frozen=True)
class SplitFiles:
    """The annotations that exist for one split."""

    mat: Path | None
    """``anno_SPLIT.mat``."""
    server_json: Path | None
    """``SPLIT_gt.json``, the evaluation server's."""
    official_json: tuple[Path, ...]
    """``CITY/NAME_gtBboxCityPersons.json``."""
    hidden: tuple[str, ...] = ()
    """Files of this kind that are hidden, such as macOS' ``._NAME_gtBboxCityPersons.json``."""


def find_annotations(root: Path, problems: list[str]) -> dict[str, SplitFiles]:
    """The annotations of each split that has any."""
    json_folder = root if _holds_json(root) else find_folder(root, JSON_FOLDER, problems)
    found = {}
    for name in SPLITS:
        folder = None if json_folder is None else json_folder / name
        official = FoundFiles((), ()) if folder is None else split_hidden(folder.glob(f"*/*{FILE_ENDING}"), folder)
        files = SplitFiles(
            _file(root, f"anno_{name}.mat"),
            _file(root, f"{name}_gt.json"),
            official.kept,
            tuple(map(str, official.hidden)),
        )
        if files.mat or files.server_json or files.official_json:
            found[name] = files
    return found


def find_images(root: Path, problems: list[str]) -> Path | None:
    """The folder ``leftImg8bit``, also beside ROOT if that is the folder of the JSON files."""
    folder = find_folder(root, IMAGE_FOLDER, problems)
    if folder is None and _holds_json(root):
        folder = find_folder(root.resolve().parent, IMAGE_FOLDER, problems)
    return folder


def find_folder(root: Path, name: str, problems: list[str]) -> Path | None:
    """The folder of this name, in ``root`` or in one of its folders; two of the latter are a problem."""
    if root.name == name or (root / name).is_dir():
        return root / name if (root / name).is_dir() else root
    nested = sorted(path for path in root.glob(f"*/{name}") if path.is_dir() and not is_hidden(path.relative_to(root)))
    if len(nested) > 1:
        problems.append(
            f"there are several folders {name}: {', '.join(str(path) for path in nested)}; move the one that is meant"
            f" to '{root}'"
        )
    return nested[0] if nested else None


def _holds_json(folder: Path) -> bool:
    return any(next((folder / name).glob(f"*/*{FILE_ENDING}"), None) is not None for name in SPLITS)


def _file(root: Path, name: str) -> Path | None:
    return next((folder / name for folder in (root, root / "annotations") if (folder / name).is_file()), None)
