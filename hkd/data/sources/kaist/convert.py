"""KAIST Multispectral Pedestrian (Hwang, Park, Kim, Choi, Kweon, CVPR 2015) to COCO JSON, one modality at a time.

Frames are used as in the benchmark: every second of sets 00 to 05 for training (``train-all-02``), every 20th of sets
06 to 11 for testing (``test-all-20``), or those of given lists. ``person`` counts; ``people``, ``person?``,
``cyclist`` and other labels are ignored. The data set has three levels of occlusion instead of visible parts, which
become ``vis_ratio`` 1 (none), 0.75 (partial, up to half hidden) and 0.25 (heavy); protocol ``kaist`` separates them.

Coordinates are not shifted, as in the evaluation of Li, Song, Tong, Tang (MSDS-RCNN, BMVC 2018), whose results files
have x and y from 1 like the annotations.

Written from the published readers and scripts, and tested on files as they have them; not on the images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.finding.missing_images import leave_out_missing_images
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes_of_all
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.caltech.bbgt import read_bbgt
from hkd.data.sources.caltech.files import FrameKey, frame_name
from hkd.data.sources.caltech.vbb import VideoObject
from hkd.data.sources.kaist.benchmark_json import FILE_PATTERN
from hkd.data.sources.kaist.files import KaistFiles, Modality, find_files
from hkd.data.sources.kaist.frame_lists import TEST_STEP, TRAIN_STEP, is_test_frame, is_train_frame, read_frame_list
from hkd.data.sources.kaist.xml_annotations import FRAME_HEIGHT, FRAME_WIDTH, HEAVY_OCCLUSION, read_frame_xml
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS

COUNTED_LABEL = "person"
VISIBLE_SHARES = (1.0, 0.75, 0.25)
"""``vis_ratio`` of each level of occlusion: the middle of the visible range, where something is hidden."""


def convert(
    root: Path,
    out: Path,
    *,
    modality: Modality = "visible",
    annotation_folders: Sequence[str] = (),
    train_list: Path | None = None,
    test_list: Path | None = None,
    annotations_only: bool = False,
    skip_missing: bool = False,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``test.json`` to ``out``, for the sets that are annotated.

    Image ids start from 1 in each file, sorted by set, video and frame; they are the image numbers of the benchmark's
    results files (``det-test-all.txt``). Ids of the benchmark's JSON are kept. Images stay where they are.

    Args:
        root: Folder of the data set, see :mod:`hkd.data.sources.kaist.files`.
        out: Output folder, created if missing.
        modality: Images of visible light, or of long-wave infrared.
        annotation_folders: Those to read, if there are several annotations of the same frames.
        train_list: List of the training frames; None: every second of sets 00 to 05.
        test_list: List of the test frames; None: every 20th of sets 06 to 11.
        annotations_only: Do not search or check images; sufficient for evaluation.
        skip_missing: Leave images out whose files do not exist.
        max_megapixels: Largest number of pixels of an image, in millions.
        progress: Show progress bars on stderr.

    Raises:
        AnnotationError: listing every problem of the files.
    """
    root, out = Path(root), Path(out)
    problems: list[str] = []
    files = find_files(root, modality, annotation_folders, problems, with_images=not annotations_only)
    if not files.annotations and not problems:
        problems.append(
            "found no annotations: setNN/VNNN/INNNNN.xml or .txt, setNN_VNNN_INNNNN.txt (first line '% bbGt version=3')"
            f", also in folders '{modality}', or {FILE_PATTERN}; name the folder of KAIST's annotations and images"
        )
    notes = hidden_files_note(files.hidden)
    wanted = _wanted(files, train_list, test_list, problems, notes)
    if files.annotations and not any(wanted.values()) and not problems:
        problems.append(
            f"none of the {len(files.annotations)} annotated frames is one in {TRAIN_STEP} of sets 00 to 05, or one in"
            f" {TEST_STEP} of sets 06 to 11; name lists of frames (--train-list, --test-list)"
        )
    splits = [_split(name, keys, files, root, modality, problems, progress) for name, keys in wanted.items() if keys]
    if problems:
        raise AnnotationError(problems, str(root))
    if not annotations_only:
        splits, left_out = leave_out_missing_images(splits, root, skip_missing, problems)
        notes += left_out
    splits, dropped = drop_unusable_boxes_of_all(splits)
    return write_splits(
        splits,
        out,
        root,
        check_images=not annotations_only,
        problems=problems,
        source=str(root),
        notes=[*notes, *dropped],
        max_megapixels=max_megapixels,
        show_progress=progress,
    )


def _wanted(
    files: KaistFiles, train_list: Path | None, test_list: Path | None, problems: list[str], notes: list[Note]
) -> dict[str, list[FrameKey]]:
    """The annotated frames of each split; frames of a list that are not annotated, and others, are noted."""
    wanted = {}
    listed: set[FrameKey] = set()
    for name, path, is_chosen in (("train", train_list, is_train_frame), ("test", test_list, is_test_frame)):
        if path is None:
            wanted[name] = sorted(filter(is_chosen, files.annotations))
            continue
        try:
            keys = read_frame_list(path)
        except AnnotationError as error:
            problems += error.located_problems
            continue
        listed |= set(keys)
        wanted[name] = [key for key in keys if key in files.annotations]
        notes += counted_note(
            "images_without_labels",
            [frame_name(key) for key in keys if key not in files.annotations],
            f"left out {{count}} of {len(keys)} frames of '{path}', which have no annotations (first: {{first}})",
            name,
        )
    used = set().union(*wanted.values())
    unused = sorted(files.annotations.keys() - used)
    notes += counted_note(
        "images_excluded",
        list(map(frame_name, unused)),
        f"left out {{count}} of {len(files.annotations)} annotated frames, which are in none of the splits"
        " (first: {first})",
    )
    return wanted


def _split(
    name: str,
    keys: Sequence[FrameKey],
    files: KaistFiles,
    root: Path,
    modality: Modality,
    problems: list[str],
    progress: bool,
) -> Split:
    split = Split(name, [], [])
    ids = _image_ids(keys, files)
    for image_id, key in zip(ids, track_progress(keys, f"Reading {name}", shown=progress), strict=True):
        objects = _objects(key, files, problems)
        file_name = _file_name(files.images, key, root, modality)
        split.images.append({"id": image_id, "file_name": file_name, "height": FRAME_HEIGHT, "width": FRAME_WIDTH})
        split.annotations.extend(_annotation(image_id, found) for found in objects)
    return split


def _image_ids(keys: Sequence[FrameKey], files: KaistFiles) -> list[int]:
    """Those of the JSON file, if all frames are in one; else from 1."""
    paths = {files.annotations[key] for key in keys}
    document = files.documents.get(paths.pop()) if len(paths) == 1 else None
    return [document[key].image_id for key in keys] if document is not None else list(range(1, len(keys) + 1))


def _objects(key: FrameKey, files: KaistFiles, problems: list[str]) -> tuple[VideoObject, ...]:
    path = files.annotations[key]
    if path in files.documents:
        return files.documents[path][key].objects
    if path.suffix.lower() == ".xml":
        return read_frame_xml(path, problems)
    return read_bbgt(path, problems, largest_occlusion=HEAVY_OCCLUSION)


def _file_name(images: Mapping[FrameKey, Path], key: FrameKey, root: Path, modality: Modality) -> str:
    """Path of the image relative to ``root``; where it is in the published layout, if it was not found."""
    if key in images:
        return images[key].relative_to(root).as_posix()
    set_number, video, frame = key
    return f"images/set{set_number:02d}/V{video:03d}/{modality}/I{frame:05d}.jpg"


def _annotation(image_id: int, found: VideoObject) -> dict[str, Any]:
    label, occlusion = found.label.lower(), found.occluded or 0
    return {
        "image_id": image_id,
        "bbox": list(found.box_xywh),
        "vis_ratio": VISIBLE_SHARES[occlusion],
        "height": found.box_xywh[3],
        "ignore": int(found.ignored or label != COUNTED_LABEL),
        "label": label,
        "occluded": int(occlusion > 0),
    }
