"""CrowdHuman (Shao et al., arXiv 1805.00123): ``.odgt`` to COCO JSON.

Written from the documentation at crowdhuman.org/download.html, and not tested on the real files. Input:
``annotation_train.odgt`` or ``annotation_val.odgt`` or both, and the images of all archives in one folder ``Images``.
Each line of an ``.odgt`` is a JSON object that describes one image::

    {"ID": "273271,c9db000d5146c15", "gtboxes": [{"tag": "person", "fbox": [x, y, w, h], "vbox": [x, y, w, h],
     "hbox": [x, y, w, h], "extra": {"box_id": 0, "occ": 0, "ignore": 0}, "head_attr": {...}}, ...]}

``fbox`` (full body, may extend beyond the image) becomes ``bbox``, ``vbox`` becomes ``vis_bbox``, and ``hbox`` (head)
becomes ``head_bbox``. Boxes with another tag than ``person`` ("mask": crowds, reflections, objects that resemble
people) and those with ``extra.ignore`` 1 are ignored, labelled with the tag or "ignore". ``vis_ratio`` is the area of
the visible box over the area of the full box. The format has no image sizes; they are read from the images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import parse_json, read_bounded
from hkd.coco.parsing.values import shown
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import ImageSizes, box_at
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

_FILES = {"train": "annotation_train.odgt", "validation": "annotation_val.odgt"}


def convert(
    root: Path,
    out: Path,
    *,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``validation.json`` to ``out``, for the ``.odgt`` files that exist.

    Boxes without area or completely outside their image are dropped and counted.

    Args:
        root: Folder of the ``.odgt`` files and ``Images``.
        out: Output folder, created if missing.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed line with its file and number, and every invalid image or box.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    sizes = ImageSizes(max_megapixels)
    splits = []
    found = {name: file for name, file in _FILES.items() if (root / file).is_file()}
    if not found:
        problems.append(f"found none of {', '.join(_FILES.values())}; name the folder that holds them and Images")
    elif not (root / "Images").is_dir():
        problems.append("found no folder Images; put the images of all archives into it, their sizes are needed")
    else:
        for name, file in found.items():
            split, dropped = drop_unusable_boxes(_read_split(name, root, file, sizes, progress, problems, notes))
            splits.append(split)
            notes += dropped
    # All images were opened to read their sizes.
    return write_splits(
        splits,
        out,
        root,
        check_images=False,
        problems=problems,
        source=str(root),
        notes=[*notes, *sizes.notes()],
        max_megapixels=max_megapixels,
    )


def _read_split(
    name: str, root: Path, file: str, sizes: ImageSizes, progress: bool, problems: list[str], notes: list[Note]
) -> Split:
    split = Split(name, [], [])
    seen: dict[str, int] = {}
    without_area: list[str] = []
    try:
        lines = read_bounded(root / file).split(b"\n")
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror})")
        return split
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
        elif not image or any(character in image for character in "/\\\0"):
            problems.append(f"{where}: ID {shown(image)} must be the name of a file in Images, without .jpg")
        elif image in seen:
            problems.append(f"{where}: duplicate ID '{image}', first in line {seen[image]}")
        else:
            seen[image] = number
            size = sizes.size(root / "Images" / f"{image}.jpg", where, problems)
            width, height = size or (1, 1)
            image_id = len(split.images) + 1
            split.images.append({"id": image_id, "file_name": f"Images/{image}.jpg", "height": height, "width": width})
            for index, box in enumerate(boxes):
                annotation = _annotation(box, f"{where}, gtboxes[{index}]", problems, without_area)
                if annotation is not None:
                    split.annotations.append({"image_id": image_id, **annotation})
    if not seen and not problems:
        problems.append(f"{file}: holds no image; each line must be an object of one")
    notes += counted_note(
        "visible_parts_adjusted",
        without_area,
        "treated {count} visible boxes of negative size as empty (first: {first})",
        name,
    )
    return split


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
    head = box_at(box["hbox"], f"{where}: hbox", problems) if "hbox" in box else None
    flags = {key: extra.get(key, 0) for key in ("ignore", "occ")}
    for key, flag in flags.items():
        # The documentation allows 0 and 1 for ignore, and any integer for occ.
        if not isinstance(flag, int) or (key == "ignore" and flag not in (0, 1)):
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
