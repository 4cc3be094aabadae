"""CrowdHuman (Shao et al., arXiv 1805.00123): ``.odgt`` to COCO JSON.

Written from the documentation at crowdhuman.org/download.html, and not tested on the real files. Input:
``annotation_train.odgt`` or ``annotation_val.odgt`` or both, and the images of the archives: all in one folder
``Images``, or in any others (``CrowdHuman_train01/Images``, ``train/Images``, ``val``), found by their names. Each line
of an ``.odgt`` is a JSON object that describes one image::

    {"ID": "273271,c9db000d5146c15", "gtboxes": [{"tag": "person", "fbox": [x, y, w, h], "vbox": [x, y, w, h],
     "hbox": [x, y, w, h], "extra": {"box_id": 0, "occ": 0, "ignore": 0}, "head_attr": {...}}, ...]}

``fbox`` (full body, may extend beyond the image) becomes ``bbox``, ``vbox`` becomes ``vis_bbox``, and ``hbox`` (head)
becomes ``head_bbox``. Boxes with another tag than ``person`` ("mask": crowds, reflections, objects that resemble
people) and those with ``extra.ignore`` 1 are ignored, labelled with the tag or "ignore". ``vis_ratio`` is the area of
the visible box over the area of the full box. The format has no image sizes; they are read from the images.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from hkd.bounded_files import read_bounded
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import parse_json
from hkd.coco.parsing.values import is_integer, shown
from hkd.data.conversion.finding.folders import files_below
from hkd.data.conversion.finding.missing_images import INCOMPLETE_SET, missing_images_problem
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import ImageSizes, box_at, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import IMAGE_SUFFIXES, is_file, is_hidden

_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04")
"""First bytes of gzip and zip."""
_FILES = {"train": "annotation_train.odgt", "validation": "annotation_val.odgt"}


def convert(
    root: Path,
    out: Path,
    *,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``validation.json`` to ``out``, for the ``.odgt`` files that exist.

    Boxes without area or completely outside their image are dropped and counted. Ids of images count lines, so that
    they do not depend on the files.

    Args:
        root: Folder of the ``.odgt`` files (also in ``annotations``) and of the images.
        out: Output folder, created if missing.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed line with its file and number, and every invalid image or box.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    images = _Images(root, ImageSizes(max_megapixels))
    splits = []
    found = {name: path for name, file in _FILES.items() if (path := _find(root, file)) is not None}
    if not found:
        problems.append(f"found none of {', '.join(_FILES.values())}; name the folder that holds them and the images")
    for name, path in found.items():
        split, dropped = drop_unusable_boxes(_read_split(name, path, images, skip_missing, progress, problems, notes))
        splits.append(split)
        notes += dropped
    complete = [split for split in splits if split.images]
    if found and not complete and not problems:
        problems.append(
            f"found none of the annotated images (first: '{images.first_missing}') in this folder or those below it;"
            " extract the archives of images there, their sizes are needed"
        )
    # All images were opened to read their sizes.
    return write_splits(
        splits if problems else complete,
        out,
        root,
        check_images=False,
        problems=problems,
        source=str(root),
        notes=[*notes, *images.notes()],
        max_megapixels=max_megapixels,
    )


def _find(root: Path, name: str) -> Path | None:
    return next((folder / name for folder in (root, root / "annotations") if (folder / name).is_file()), None)


class _Images:
    """The images below a folder, by their names without ending.

    Args:
        root: the folder.
        sizes: reads the images' headers.
    """

    def __init__(self, root: Path, sizes: ImageSizes) -> None:
        self._root = root
        self._sizes = sizes
        self._hidden: list[str] = []
        self.first_missing = ""
        """ID of the first image that was not found."""

    def find(self, image_id: str, where: str, problems: list[str]) -> tuple[str, int, int] | None:
        """Path relative to the folder, width and height; ``None`` if there is no such image.

        An image that cannot be used, or of which there are several, is added to ``problems``, and has the size 1 x 1.
        """
        usual = f"Images/{PurePosixPath(image_id)}.jpg"
        names = [usual] if is_file(self._root / usual) else self._matches(PurePosixPath(image_id))
        if not names:
            self.first_missing = self.first_missing or f"{image_id}.jpg"
            return None
        if len(names) > 1:
            problems.append(f"{where}: there are several images: '{names[0]}', '{names[1]}'; keep one")
            return names[0], 1, 1
        size = self._sizes.size(self._root / names[0], where, problems)
        return names[0], *(size or (1, 1))

    def notes(self) -> list[Note]:
        """Notes on images that are stored rotated, and on hidden files."""
        return [*self._sizes.notes(), *hidden_files_note(self._hidden)]

    def _matches(self, name: PurePosixPath) -> list[str]:
        """Paths that end with this name, which may have folders and an ending."""
        stem = name.stem if name.suffix.lower() in IMAGE_SUFFIXES else name.name
        folders = name.parts[:-1]
        return [
            path.as_posix()
            for path in self._by_stem.get(stem, ())
            if not folders or path.parts[-1 - len(folders) : -1] == folders
        ]

    @cached_property
    def _by_stem(self) -> dict[str, list[PurePath]]:
        found: dict[str, list[PurePath]] = {}
        for path in files_below(self._root):
            if path.suffix.lower() in IMAGE_SUFFIXES:
                relative = path.relative_to(self._root)
                if is_hidden(relative):
                    self._hidden.append(relative.as_posix())
                else:
                    found.setdefault(path.stem, []).append(relative)
        return found


def _read_split(
    name: str,
    path: Path,
    images: _Images,
    skip_missing: bool,
    progress: bool,
    problems: list[str],
    notes: list[Note],
) -> Split:
    file = path.name
    split = Split(name, [], [])
    seen: dict[str, int] = {}
    missing: list[str] = []
    without_area: list[str] = []
    try:
        content = read_bounded(path)
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror})")
        return split
    if content.startswith(_COMPRESSED):
        problems.append(f"{file}: is a compressed archive; extract it, and name the folder of its content")
        return split
    lines = content.split(b"\n")
    for number, line in enumerate(track_progress(lines, f"Reading {file}", shown=progress), 1):
        where = f"{file}, line {number}"
        if not line.strip():
            continue
        try:
            record = parse_json(line, file)
        except AnnotationError as error:
            problems.append(f"{where}: {error.problems[0].removeprefix('line 1, ')}")
            continue
        image = record.get("ID") if isinstance(record, dict) else None
        boxes = record.get("gtboxes") if isinstance(record, dict) else None
        if not isinstance(image, str) or not isinstance(boxes, list):
            problems.append(f'{where}: must be an object with a text "ID" and a list "gtboxes"')
        elif not _is_image_name(image):
            problems.append(f"{where}: ID {shown(image)} must be the name of an image below the folder, without .jpg")
        elif image in seen:
            problems.append(f"{where}: duplicate ID '{image}', first in line {seen[image]}")
        else:
            seen[image] = number
            found = images.find(image.replace("\\", "/"), where, problems)
            annotations = [
                _annotation(box, f"{where}, gtboxes[{index}]", problems, without_area)
                for index, box in enumerate(boxes)
            ]
            if found is None:
                missing.append(f"{image}.jpg")
                continue
            file_name, width, height = found
            split.images.append({"id": len(seen), "file_name": file_name, "height": height, "width": width})
            split.annotations.extend({"image_id": len(seen), **record} for record in annotations if record is not None)
    if not seen and not problems:
        problems.append(f"{file}: holds no image; each line must be an object of one")
    notes += counted_note(
        "visible_parts_adjusted",
        without_area,
        "treated {count} visible boxes of negative size as empty (first: {first})",
        name,
    )
    notes += _missing_images(name, file, missing, len(seen), skip_missing, problems)
    return split


def _missing_images(
    name: str, file: str, missing: list[str], num_images: int, skip_missing: bool, problems: list[str]
) -> list[Note]:
    if missing and len(missing) == num_images:
        sentence = f"left out, because none of its {num_images} images was found"
        return [Note("splits_missing", 1, sentence, split=name)]
    if missing and not skip_missing:
        problems.append(missing_images_problem(missing, num_images, file, "in this folder or those below it"))
    sentence = f"left out {{count}} of {num_images} images, which were not found (first: {{first}}); {INCOMPLETE_SET}"
    return counted_note("images_missing", missing, sentence, name)


def _is_image_name(value: str) -> bool:
    parts = PureWindowsPath(value).parts
    is_absolute = bool(PureWindowsPath(value).anchor)
    return bool(parts) and not is_absolute and ".." not in parts and "\0" not in value


def _annotation(box: object, where: str, problems: list[str], without_area: list[str]) -> dict[str, Any] | None:
    """The COCO record of one ``gtbox``; ``None``, with an entry in ``problems``, if it is malformed."""
    if not isinstance(box, dict):
        problems.append(f"{where} is a {type(box).__name__}; it must be an object")
        return None
    tag, extra = box.get("tag"), box.get("extra", {})
    if not isinstance(tag, str) or not tag:
        problems.append(f"{where}: tag is {shown(tag)}; it must be a text, 'person' or 'mask'")
        return None
    if not isinstance(extra, dict):
        problems.append(f"{where}: extra is {shown(extra)}; it must be an object")
        return None
    full = box_at(box.get("fbox"), f"{where}: fbox", problems)
    visible = box_at(box.get("vbox"), f"{where}: vbox", problems)
    head = box_at(box["hbox"], f"{where}: hbox", problems) if box.get("hbox") is not None else None
    flags = {key: extra.get(key, 0) for key in ("ignore", "occ")}
    for key, flag in flags.items():
        # The documentation allows 0 and 1 for ignore, and any integer for occ.
        if not (is_integer(flag) or isinstance(flag, bool)) or (key == "ignore" and flag not in (0, 1)):
            problems.append(f"{where}: extra.{key} is {shown(flag)}; it must be 0 or 1")
            return None
    if full is None or visible is None:
        return None
    if min(visible[2:]) < 0:
        without_area.append(f"{where}, vbox {visible}")
        visible = [visible[0], visible[1], max(0.0, visible[2]), max(0.0, visible[3])]
    area = full[2] * full[3]
    annotation: dict[str, Any] = {
        "bbox": full,
        "vis_bbox": visible,
        "vis_ratio": min(1.0, visible[2] * visible[3] / area) if area > 0 else 0.0,
        "height": full[3],
        "ignore": int(tag != "person" or flags["ignore"] == 1),
    }
    if head is not None:
        annotation["head_bbox"] = head
    if "occ" in extra:
        annotation["occluded"] = int(flags["occ"] != 0)
    if annotation["ignore"]:
        annotation["label"] = tag if tag != "person" else "ignore"
    return annotation
