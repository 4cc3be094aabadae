"""The Caltech Pedestrian data set (Dollar, Wojek, Schiele, Perona, PAMI 2012) to COCO JSON.

Original annotations are ``.vbb`` files, or the text files of single frames that Dollar's dbExtract makes of them. New
annotations (Zhang, Benenson, Omran, Hosang, Schiele, CVPR 2016) are a text file per image, or a COCO-style JSON derived
from them. Every n-th frame is used, starting with the n-th: with 30, as in the benchmark, frames 29, 59 and so on,
counted from 0. Sets 00 to 05 are ``train``, 06 to 10 ``test``.

Coordinates are not shifted, as in the reference evaluation.

Tested on the .vbb files of the test sets, the new annotations as JSON, 65 frames and a short .seq. Training sets, whole
videos and the new annotations as text files are read as documented by Dollar's code.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from hkd.coco.annotations import read_annotations
from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.caltech.bbgt import read_bbgt
from hkd.data.sources.caltech.files import (
    FRAME_FOLDER,
    LAST_SET,
    CaltechFiles,
    FrameKey,
    find_files,
    frame_key,
    frame_name,
    is_test_frame,
    place_frames,
)
from hkd.data.sources.caltech.vbb import VideoObject, read_vbb
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

FRAME_WIDTH, FRAME_HEIGHT = 640, 480
"""Size of every frame, pixels."""
COUNTED_LABEL = "person"
"""All other labels ("people", "person?", "person-fa", "ignore") are ignore regions."""
IGNORE_LABEL = "ignore"

Objects = Mapping[FrameKey, Sequence[VideoObject]]


def convert(
    root: Path,
    out: Path,
    *,
    every: int = 30,
    annotations: Literal["original", "new"] = "original",
    annotations_only: bool = False,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``test.json`` to ``out``, for the sets that exist.

    Image ids start from 1 in each file, sorted by set, video and frame. Annotations have the data set's ``label``, and
    ``occluded`` and ``vis_bbox`` if known; ``vis_ratio`` is 1 if the box is not occluded or the visible part unknown.
    Frames with the usual file names are used in place; others, and those in ``.seq`` files, are written to
    ``<out>/images``. If there is any problem, no annotation file is written.

    Args:
        root: Folder of the data set, see :mod:`hkd.data.sources.caltech.files`.
        out: Output folder, created if missing.
        every: n of every n-th frame.
        annotations: Original or new annotations.
        annotations_only: Do not search or check frames; sufficient for evaluation.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show progress bars on stderr.

    Raises:
        AnnotationError: listing every problem of the files.
        ValueError: ``every`` is below 1.
    """
    if every < 1:
        raise ValueError(f"every is {every}; it must be at least 1")
    root, out = Path(root), Path(out)
    problems: list[str] = []
    notes: list[Note] = []
    if root.resolve() == out.resolve():
        raise AnnotationError(["it cannot be --out as well as --root; write to another folder"], str(root))
    files = find_files(root, out, problems)
    read = _read_original if annotations == "original" else _read_new
    objects = read(files, every, problems, notes, progress)
    if not objects and not problems:
        problems.append(_nothing_found(annotations, every, files))
    keys = sorted(objects)
    image_root, names = out / FRAME_FOLDER, {key: f"{frame_name(key)}.jpg" for key in keys}
    if not annotations_only and not problems:
        image_root, names, frame_notes = place_frames(
            keys, files, root, out, problems, skip_missing=skip_missing, shown=progress
        )
        notes += frame_notes
    if problems:
        raise AnnotationError(problems, str(root))
    notes += hidden_files_note(files.hidden)
    splits = _splits(objects, names, notes)
    return write_splits(
        splits,
        out,
        image_root,
        check_images=not annotations_only,
        problems=problems,
        source=str(root),
        notes=notes,
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _splits(objects: Objects, names: Mapping[FrameKey, str], notes: list[Note]) -> list[Split]:
    """The training and test split, as far as they have frames, without unusable boxes, which are noted.

    Image ids are those of all annotated frames, so that they stay the same if some frames are missing.
    """
    splits = []
    for name, is_test in (("train", False), ("test", True)):
        chosen = [key for key in sorted(objects) if is_test_frame(key) == is_test]
        split = _split(name, chosen, objects, names)
        if split.images:
            split, dropped = drop_unusable_boxes(split)
            splits.append(split)
            notes += dropped
        elif chosen:
            notes.append(Note("splits_missing", 1, f"left out, none of its {len(chosen)} frames is there", split=name))
    return splits


def _nothing_found(annotations: str, every: int, files: CaltechFiles) -> str:
    wanted = "setNN/VNNN.vbb" if annotations == "original" else "setNN_VNNN_INNNNN.txt or new_annotations*.json"
    sentence = (
        f"found no annotation of one in {every} frames; name a folder that contains {wanted}, of sets 00 to {LAST_SET}"
    )
    if not files.other_texts:
        return sentence
    return (
        f"{sentence}; {len(files.other_texts)} texts of frames do not start with '% bbGt version=3' (first:"
        f" '{files.other_texts[0]}'): if they are detections, evaluate them with `hkd evaluate --detections FOLDER`"
    )


def _read_original(files: CaltechFiles, every: int, problems: list[str], notes: list[Note], progress: bool) -> Objects:
    if not files.annotations and files.texts:
        sentence = f"read {len(files.texts)} texts of single frames, because there is no .vbb file"
        notes.append(Note("other", len(files.texts), sentence))
        return _read_frames(_texts(files, problems, progress), every, problems, notes)
    objects: dict[FrameKey, Sequence[VideoObject]] = {}
    known = [(video, path) for video, path in sorted(files.annotations.items()) if video[0] <= LAST_SET]
    for (set_number, video_number), path in track_progress(known, "Reading annotations", shown=progress):
        try:
            annotation = read_vbb(path, every)
        except AnnotationError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
            continue
        objects |= {(set_number, video_number, frame): found for frame, found in annotation.objects.items()}
    if len(known) < len(files.annotations):
        beyond = len(files.annotations) - len(known)
        notes.append(
            Note("files_without_annotations", beyond, f"dropped {beyond} .vbb files of sets beyond {LAST_SET}")
        )
    return objects


def _read_new(files: CaltechFiles, every: int, problems: list[str], notes: list[Note], progress: bool) -> Objects:
    frames = chain(_texts(files, problems, progress), _documents(files, problems, notes))
    return _read_frames(frames, every, problems, notes)


def _read_frames(
    frames: Iterable[tuple[FrameKey, Sequence[VideoObject]]], every: int, problems: list[str], notes: list[Note]
) -> Objects:
    objects: dict[FrameKey, Sequence[VideoObject]] = {}
    num_dropped = 0
    for key, found in frames:
        if key in objects:
            problems.append(f"{frame_name(key)} is annotated twice; keep the text files or the JSON, not both")
        elif key[0] > LAST_SET or (key[2] + 1) % every:
            num_dropped += 1
        else:
            objects[key] = found
    if num_dropped:
        sentence = f"dropped {num_dropped} annotated frames: not one in {every}, or of sets beyond {LAST_SET}"
        notes.append(Note("images_excluded", num_dropped, sentence))
    return objects


def _texts(
    files: CaltechFiles, problems: list[str], progress: bool
) -> Iterator[tuple[FrameKey, Sequence[VideoObject]]]:
    for key, path in track_progress(sorted(files.texts.items()), "Reading annotations", shown=progress):
        yield key, read_bbgt(path, problems)


def _documents(
    files: CaltechFiles, problems: list[str], notes: list[Note]
) -> Iterator[tuple[FrameKey, Sequence[VideoObject]]]:
    for path in files.new_documents:
        try:
            document = read_annotations(path, check_images=False)
        except AnnotationError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
            continue
        found: dict[int, list[VideoObject]] = {image.image_id: [] for image in document.images}
        for record in document.coco_records():
            x, y, width, height = record["bbox"]
            label = IGNORE_LABEL if record["ignore"] else COUNTED_LABEL
            found[record["image_id"]].append(VideoObject(label, (x, y, width, height), None, None))
        sentence = (
            f"{path}: contains no occlusions; all {len(document.ignore)} boxes count as completely visible, so that"
            " miss rates by visibility are not those of the text files"
        )
        notes.append(Note("visible_parts_adjusted", len(document.ignore), sentence))
        for image in document.images:
            frame = frame_key(image.file_name)
            if frame is None:
                problems.append(f"{path}: image '{image.file_name}' does not name a frame as setNN_VNNN_INNNNN")
            else:
                yield frame, found[image.image_id]


def _split(name: str, keys: Sequence[FrameKey], objects: Objects, names: Mapping[FrameKey, str]) -> Split:
    numbered = [(image_id, key) for image_id, key in enumerate(keys, 1) if key in names]
    images = [
        {"id": image_id, "file_name": names[key], "height": FRAME_HEIGHT, "width": FRAME_WIDTH}
        for image_id, key in numbered
    ]
    annotations = [_annotation(image_id, found) for image_id, key in numbered for found in objects[key]]
    return Split(name, images, annotations)


def _annotation(image_id: int, found: VideoObject) -> dict[str, Any]:
    _, _, width, height = found.box_xywh
    visible = found.visible_xywh
    visible_area = 0.0 if visible is None else visible[2] * visible[3]
    is_measured = found.occluded and visible_area > 0 and width * height > 0
    annotation = {
        "image_id": image_id,
        "bbox": list(found.box_xywh),
        "vis_ratio": min(1.0, visible_area / (width * height)) if is_measured else 1,
        "height": height,
        "ignore": int(found.ignored or found.label != COUNTED_LABEL),
        "label": found.label,
    }
    # An unknown occlusion must not be written as "not occluded".
    if visible is not None:
        annotation["vis_bbox"] = list(visible)
    if found.occluded is not None:
        annotation["occluded"] = int(found.occluded)
    return annotation
