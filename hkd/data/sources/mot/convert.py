"""MOT Challenge (Milan et al., arXiv 1603.00831; MOT15 to MOT20), and exports in its format.

Each sequence is a folder with ``gt/gt.txt``, the frames in ``img1``, and optionally ``seqinfo.ini``. A line of
``gt.txt`` is::

    frame, id, left, top, width, height, consider, class, visibility

(MOT15: ``frame, id, left, top, width, height, consider, x, y, z``, all pedestrians). Frames and pixels count from 1: a
box at the upper left corner of the image starts at (1, 1). By the rules of the challenge's evaluation (TrackEval's
``mot_challenge_2d_box.py``):

* class 1 (pedestrian) with ``consider`` 1 counts; with 0 it is ignored;
* classes 2 (person on vehicle), 7 (static person), 8 (distractor), 12 (reflection) and, in MOT20, 6 (vehicle without
  motor) are neither errors nor hits where a detector finds them: ignored;
* all others (vehicles, occluders, crowds) are left out.

Where ``gt/labels.txt`` exists, as CVAT writes it, it names the classes, and pixels count from 0.

``visibility`` becomes ``vis_ratio``. Neighbouring frames show nearly the same: ``every`` takes one frame in so many,
and whole sequences are for training or validation.
"""

from __future__ import annotations

import configparser
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hkd.bounded_files import read_bounded
from hkd.coco.categories import CategoryNames
from hkd.coco.notes import Note, counted_note
from hkd.data.conversion.classes import ClassRoles, class_roles, other_classes_note
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import ImageSizes, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.data.sources.mot.ground_truth import CLASSES, Labels, Row, read_labels, read_rows, rows_of_frames
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import image_files, is_hidden

_PEDESTRIAN = "pedestrian"
_IGNORED = frozenset(CLASSES[number] for number in (2, 7, 8, 12))
_IGNORED_IN_MOT20 = _IGNORED | {CLASSES[6]}
_DETECTORS = re.compile(r"-(DPM|FRCNN|SDP)$")
"""MOT17 has each sequence three times, with the same frames and annotations and another detector's boxes."""
_LARGEST_INFO_BYTES = 1 << 16


@dataclass(frozen=True)
class _Sequence:
    name: str
    """Relative to the root."""
    folder: Path


def convert(
    root: Path,
    out: Path,
    *,
    person_names: Sequence[str] = (),
    ignored_names: Sequence[str] = (),
    validation_sequences: Sequence[str] = (),
    every: int = 1,
    max_megapixels: float = DEFAULT_MAX_MEGAPIXELS,
    progress: bool = True,
) -> ConversionSummary:
    """Write ``train.json`` and ``validation.json`` to ``out``.

    Args:
        root: Folder of the sequences, in any sub-folder; only those with ``gt/gt.txt`` are read.
        out: Output folder, created if missing.
        person_names: Names of the classes to keep; by default ``pedestrian``, or ``person`` of ``gt/labels.txt``.
        ignored_names: Names of classes whose boxes are ignore regions, besides those above.
        validation_sequences: Names of the sequences for validation; by default the last third of them by name, and
            none if there is only one.
        every: Use every Nth frame of a sequence, the first included.
        max_megapixels: Largest number of pixels of a frame, in millions.
        progress: Show a progress bar on stderr.

    Raises:
        AnnotationError: listing every malformed line, sequence and frame.
    """
    root = Path(root)
    problems: list[str] = []
    notes: list[Note] = []
    found, repeated = _sequences(root)
    notes += counted_note(
        "sequences_repeated",
        [sequence.name for sequence in repeated],
        "left out {count} sequences that differ from another only in the detector (first: {first})",
    )
    if not found:
        problems.append(nothing_found(root, "SEQUENCE/gt/gt.txt", (), "name the folder of the sequences"))
    named = CategoryNames(tuple(person_names), tuple(ignored_names))
    chosen = _validation(found, validation_sequences, problems)
    if chosen and not validation_sequences:
        names = tuple(sorted(chosen))
        sentence = f"{', '.join(names[:20])} are for validation: the last third of {len(found)} sequences"
        notes.append(Note("validation_sequences", len(names), sentence, names))
    sizes = ImageSizes(max_megapixels)
    splits = []
    for name in ("train", "validation"):
        split = Split(name, [], [])
        for sequence in track_progress(
            [one for one in found if (one.name in chosen) == (name == "validation")], f"Reading {name}", shown=progress
        ):
            notes += _read_sequence(sequence, root, named, every, split, sizes, problems)
        if split.images:
            split, dropped = drop_unusable_boxes(split)
            splits.append(split)
            notes += dropped
    # All frames were opened to read their sizes.
    return write_splits(
        splits, out, root, check_images=False, problems=problems, source=str(root), notes=[*notes, *sizes.notes()]
    )


def _sequences(root: Path) -> tuple[list[_Sequence], list[_Sequence]]:
    """The sequences with annotations by name, and those that repeat one of them (MOT17)."""
    files = (path for path in root.rglob("gt/gt.txt") if not is_hidden(path.relative_to(root)))
    folders = sorted(path.parent.parent for path in files)
    found: dict[str, _Sequence] = {}
    repeated = []
    for folder in folders:
        name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
        key = _DETECTORS.sub("", name)
        if key in found:
            repeated.append(_Sequence(name, folder))
        else:
            found[key] = _Sequence(name, folder)
    return list(found.values()), repeated


def _validation(found: Sequence[_Sequence], wanted: Sequence[str], problems: list[str]) -> set[str]:
    """Names of the validation sequences; a user may leave out folders above, and the detector of MOT17."""
    if not wanted:
        return (
            {sequence.name for sequence in found[len(found) - len(found) // 3 :]}
            if len(found) > 2
            else ({found[-1].name} if len(found) == 2 else set())
        )
    chosen = set()
    for name in wanted:
        matches = [one.name for one in found if name in _short_names(one.name)]
        if len(matches) != 1 and found:
            state = "there is no sequence" if not matches else "several sequences are named"
            problems.append(f"{state} {name} (--validation); there are: {', '.join(one.name for one in found[:20])}")
        chosen |= set(matches)
    if len(chosen) == len(found) > 0:
        problems.append("all sequences are for validation (--validation); leave at least one for training")
    return chosen


def _short_names(name: str) -> set[str]:
    last = name.rpartition("/")[2]
    return {name, last, _DETECTORS.sub("", name), _DETECTORS.sub("", last)}


def _read_sequence(
    sequence: _Sequence,
    root: Path,
    named: CategoryNames,
    every: int,
    split: Split,
    sizes: ImageSizes,
    problems: list[str],
) -> list[Note]:
    info = _info(sequence.folder / "seqinfo.ini", root, problems)
    frames, hidden = _frames(sequence, info.get("imdir", "img1"), root, problems)
    where = (sequence.folder / "gt" / "gt.txt").relative_to(root).as_posix()
    labels = read_labels(sequence.folder / "gt" / "labels.txt", root, problems)
    if not frames:
        return []
    rows = read_rows(sequence.folder / "gt" / "gt.txt", where, labels, problems)
    rows = rows_of_frames(rows, frames, where, problems)
    roles = _roles(sequence, rows, labels, named, where, problems)
    stated_size = _stated_size(info)
    ids: dict[int, int] = {}
    for position, number in enumerate(sorted(frames)):
        if position % every == 0:
            name = frames[number].relative_to(root).as_posix()
            size = sizes.size(frames[number], name, problems) or (1, 1)
            if stated_size not in (None, size) and not ids:
                assert stated_size is not None
                problems.append(
                    f"{sequence.name}/seqinfo.ini: states frames of {stated_size[0]} x {stated_size[1]} pixels (width x"
                    f" height), but {name} has {size[0]} x {size[1]}; the boxes may be of another size: correct one"
                )
            ids[number] = len(split.images) + 1
            split.images.append({"id": ids[number], "file_name": name, "height": size[1], "width": size[0]})
    others: Counter[str] = Counter()
    for row in rows:
        if row.frame in ids and row.class_name in roles.people | roles.ignored:
            is_person = row.class_name in roles.people
            split.annotations.append({"image_id": ids[row.frame], **_annotation(row, is_person)})
        elif row.frame in ids:
            others[row.class_name] += 1
    left_out = [frames[number].relative_to(root).as_posix() for number in frames if number not in ids]
    sentence = f"left out {{count}} frames of {sequence.name}: not one in {every}"
    return [
        *hidden_files_note(hidden, split.name),
        *counted_note("images_excluded", left_out, sentence, split.name),
        *other_classes_note(others, split.name),
    ]


def _roles(
    sequence: _Sequence, rows: Sequence[Row], labels: Labels, named: CategoryNames, where: str, problems: list[str]
) -> ClassRoles:
    used = Counter(row.class_name for row in rows)
    if labels.names is not CLASSES:
        roles = class_roles(labels.names[1:], used, named, where, problems)
        return roles or ClassRoles(frozenset(), frozenset())
    if not named.people:
        named = CategoryNames((_PEDESTRIAN,), named.ignored)  # not "person on vehicle"
    roles = class_roles(CLASSES[1:], used, named, where, problems) or ClassRoles(frozenset(), frozenset())
    by_rule = _IGNORED_IN_MOT20 if "MOT20" in sequence.name.upper() else _IGNORED
    return ClassRoles(roles.people, (roles.ignored | by_rule) - roles.people)


def _annotation(row: Row, is_person: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"bbox": row.box_xywh}
    if row.visibility is not None:
        record["vis_ratio"] = row.visibility
    if not is_person:
        return record | {"ignore": 1, "label": row.class_name}
    return record if row.is_considered else record | {"ignore": 1, "label": "not considered"}


def _info(path: Path, root: Path, problems: list[str]) -> dict[str, str]:
    """Section ``Sequence`` of ``seqinfo.ini``, with keys in lower case; empty if there is no such file."""
    where = path.relative_to(root).as_posix()
    try:
        text = read_bounded(path, _LARGEST_INFO_BYTES).decode("utf-8-sig")
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        return dict(parser["Sequence"]) if parser.has_section("Sequence") else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        problems.append(f"{where}: cannot be read ({error.strerror})")
    except (UnicodeDecodeError, configparser.Error) as error:
        problems.append(f"{where}: is no INI file in UTF-8 ({str(error).splitlines()[0][:100]}); correct it")
    return {}


def _stated_size(info: dict[str, str]) -> tuple[int, int] | None:
    """Width and height of the frames; None if absent or no numbers."""
    width, height = (info.get(key, "") for key in ("imwidth", "imheight"))
    is_stated = all(text.isascii() and text.isdigit() and len(text) < 8 for text in (width, height))
    return (int(width), int(height)) if is_stated else None


def _frames(
    sequence: _Sequence, folder_name: str, root: Path, problems: list[str]
) -> tuple[dict[int, Path], list[str]]:
    """The frames by their number, and hidden files.

    The number is the name (``000001.jpg``), or the position among files whose numbers have no gap (CVAT's
    ``frame_000000.png`` is frame 1).
    """
    folder = sequence.folder / (folder_name if re.fullmatch(r"[\w-]+", folder_name) else "img1")
    where = folder.relative_to(root).as_posix()
    listed = image_files(folder)
    if not listed.kept:
        problems.append(f"{where}: found no frames; extract the images of the sequence there")
        return {}, []
    hidden = [path.relative_to(root).as_posix() for path in listed.hidden]
    ends = [re.search(r"[0-9]{1,9}$", path.stem) for path in listed.kept]
    numbers = [-1 if end is None else int(end[0]) for end in ends]
    frames = dict(sorted(zip(numbers, listed.kept, strict=True)))
    if -1 in frames or len(frames) < len(numbers):
        without = next((path for path, number in zip(listed.kept, numbers, strict=True) if number < 0), None)
        state = "two frames have the same number" if without is None else f"{without.name} has no number at its end"
        problems.append(f"{where}: {state}; name the frames 000001.jpg, 000002.jpg ...")
        return {}, hidden
    if all(path.stem.isdigit() for path in listed.kept):
        return frames, hidden
    if min(frames) > 1 or max(frames) - min(frames) + 1 != len(frames):
        problems.append(
            f"{where}: {len(frames)} frames are numbered from {min(frames)} to {max(frames)}, so that it is unknown"
            " which frame of gt.txt each is; name them 000001.jpg, 000002.jpg ..."
        )
        return {}, hidden
    return dict(enumerate(frames.values(), 1)), hidden
