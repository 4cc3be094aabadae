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
import math
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
from hkd.data.conversion.file_formats.text_file import PROBLEMS_PER_FILE, read_lines
from hkd.data.conversion.finding.root_folder import nothing_found
from hkd.data.conversion.progress import track_progress
from hkd.data.conversion.splits import Split, drop_unusable_boxes
from hkd.data.conversion.summary import ConversionSummary
from hkd.data.conversion.values import ImageSizes, decimal, hidden_files_note
from hkd.data.conversion.writing import write_splits
from hkd.image_files.headers import DEFAULT_MAX_MEGAPIXELS
from hkd.image_files.listing import image_files, is_hidden

_CLASSES = (
    *("", "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non-motorized vehicle", "static person"),
    *("distractor", "occluder", "occluder on the ground", "full occluder", "reflection", "crowd"),
)
"""Names by number."""
_PEDESTRIAN = "pedestrian"
_IGNORED = frozenset(_CLASSES[number] for number in (2, 7, 8, 12))
_IGNORED_IN_MOT20 = _IGNORED | {_CLASSES[6]}
_UNNAMED = "no class"
"""Of boxes with the class -1, as CVAT writes it."""
_DETECTORS = re.compile(r"-(DPM|FRCNN|SDP)$")
"""MOT17 has each sequence three times, with the same frames and annotations and another detector's boxes."""
_LARGEST_INFO_BYTES = 1 << 16
_LARGEST_NUMBER = 1e9


@dataclass(frozen=True)
class _Sequence:
    name: str
    """Relative to the root."""
    folder: Path


@dataclass(frozen=True)
class _Row:
    frame: int
    box_xywh: list[float]
    is_considered: bool
    class_name: str
    visibility: float | None
    identity: int
    line: int


@dataclass(frozen=True)
class _Labels:
    """The classes of a sequence."""

    names: tuple[str, ...]
    """By number; the first is of no class."""
    first_pixel: int
    """Coordinate of the image's left and upper edge."""


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
    labels = _labels(sequence.folder / "gt" / "labels.txt", root, problems)
    if not frames:
        return []
    rows = _rows(sequence.folder / "gt" / "gt.txt", where, labels, problems)
    rows = _rows_of_frames(rows, frames, where, problems)
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
    sequence: _Sequence, rows: Sequence[_Row], labels: _Labels, named: CategoryNames, where: str, problems: list[str]
) -> ClassRoles:
    used = Counter(row.class_name for row in rows)
    if labels.names is not _CLASSES:
        roles = class_roles(labels.names[1:], used, named, where, problems)
        return roles or ClassRoles(frozenset(), frozenset())
    if not named.people:
        named = CategoryNames((_PEDESTRIAN,), named.ignored)  # not "person on vehicle"
    roles = class_roles(_CLASSES[1:], used, named, where, problems) or ClassRoles(frozenset(), frozenset())
    by_rule = _IGNORED_IN_MOT20 if "MOT20" in sequence.name.upper() else _IGNORED
    return ClassRoles(roles.people, (roles.ignored | by_rule) - roles.people)


def _annotation(row: _Row, is_person: bool) -> dict[str, Any]:
    record: dict[str, Any] = {"bbox": row.box_xywh}
    if row.visibility is not None:
        record["vis_ratio"] = row.visibility
    if not is_person:
        return record | {"ignore": 1, "label": row.class_name}
    return record if row.is_considered else record | {"ignore": 1, "label": "not considered"}


def _labels(path: Path, root: Path, problems: list[str]) -> _Labels:
    if not path.is_file():
        return _Labels(_CLASSES, 1)
    lines = read_lines(path, path.relative_to(root).as_posix(), problems)
    return _Labels((_UNNAMED, *(line.strip() for line in lines if line.strip())), 0)


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


def _rows(path: Path, where: str, labels: _Labels, problems: list[str]) -> list[_Row]:
    rows = []
    num_problems = len(problems)
    for number, line in enumerate(read_lines(path, where, problems), 1):
        if len(problems) - num_problems == PROBLEMS_PER_FILE:
            break
        if line.strip():
            row = _row(line.strip(), number, labels)
            if isinstance(row, str):
                problems.append(f"{where}, line {number}: found {line.strip()[:80]!r}; {row}")
            else:
                rows.append(row)
    return rows


def _rows_of_frames(rows: Sequence[_Row], frames: dict[int, Path], where: str, problems: list[str]) -> list[_Row]:
    """The rows whose frame exists and whose identity is not in this frame already."""
    seen: dict[tuple[int, int], int] = {}
    kept = []
    absent: dict[int, int] = {}
    num_problems = len(problems)
    for row in rows:
        if len(problems) - num_problems == PROBLEMS_PER_FILE:
            break
        first = seen.setdefault((row.frame, row.identity), row.line)
        if row.frame not in frames:
            absent.setdefault(row.frame, row.line)
        elif first != row.line and row.identity > 0:  # CVAT's boxes of no track have the identity -1
            problems.append(
                f"{where}, line {row.line}: identity {row.identity} is twice in frame {row.frame}, first in line"
                f" {first}; correct or remove one of the lines"
            )
        else:
            kept.append(row)
    if absent:
        frame, line = next(iter(absent.items()))
        problems.append(
            f"{where}: has boxes in {len(absent):,} frames that do not exist (first: frame {frame}, line {line}); there"
            f" are {len(frames):,} frames, from {min(frames)} to {max(frames)}; add the frames, or remove the lines"
        )
    return kept


def _row(line: str, number: int, labels: _Labels) -> _Row | str:
    """The row of a line, or what is wrong with it."""
    cells = [cell.strip() for cell in line.rstrip(", ").split(",")]
    try:
        numbers = [decimal(cell) for cell in cells]
    except ValueError:
        numbers = []
    if not 6 <= len(numbers) <= 10 or not all(abs(value) <= _LARGEST_NUMBER for value in numbers):
        return "expected the numbers frame, id, left, top, width, height, consider, class, visibility"
    frame, identity, left, top, width, height, *rest = numbers
    if len(numbers) == 10:  # MOT15: the position in the world instead of class and visibility
        rest = rest[:1]
    consider, class_id, visibility = (*rest, *(1.0, 1.0, math.nan)[len(rest) :])
    if consider not in (0, 1):
        return "consider (column 7) must be 0 or 1; is this a file of detections with scores?"
    if any(value != int(value) for value in (frame, identity, class_id)):
        return "frame, id and class must be integers"
    if not 1 <= class_id < len(labels.names) and class_id != -1:
        return f"class (column 8) must be from 1 to {len(labels.names) - 1}"
    if visibility < 0 or visibility > 1:
        return "visibility (column 9) must be from 0 to 1"
    return _Row(
        frame=int(frame),
        box_xywh=[left - labels.first_pixel, top - labels.first_pixel, width, height],
        is_considered=consider == 1,
        class_name=labels.names[int(class_id)] if class_id > 0 else _UNNAMED,
        visibility=None if math.isnan(visibility) else visibility,
        identity=int(identity),
        line=number,
    )
