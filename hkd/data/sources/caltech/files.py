"""Search for the files of the Caltech Pedestrian data set, and collection of its frames in one folder.

Layouts depend on the tool that unpacked the data set, so files are recognized by their names, in any sub-folder and in
any case: ``setNN/VNNN.vbb`` and ``setNN/VNNN.seq``; frames ``setNN_VNNN_INNNNN.jpg``, ``setNN/VNNN/INNNNN.jpg`` or
``setNN/VNNN/images/INNNNN.jpg`` (or ``.png``), counted from 0; annotations of single frames
``setNN_VNNN_INNNNN.txt`` (or ``.jpg.txt``), ``setNN/VNNN/INNNNN.txt`` (as Dollar's dbExtract writes them) or
``setNN/VNNN/annotations/INNNNN.txt``; ``new_annotations*.json``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hkd.bounded_files import read_bounded
from hkd.coco.notes import Note, counted_note
from hkd.coco.parsing.errors import AnnotationError
from hkd.data.conversion.finding.folders import files_below
from hkd.data.conversion.finding.missing_images import INCOMPLETE_SET, missing_images_problem
from hkd.data.conversion.progress import track_progress
from hkd.data.sources.caltech.bbgt import starts_as_bbgt
from hkd.data.sources.caltech.seq import LARGEST_FRAME_BYTES, SeqVideo, open_seq
from hkd.files import write_atomically
from hkd.image_files.listing import is_hidden

VideoKey = tuple[int, int]
"""Set and video."""
FrameKey = tuple[int, int, int]
"""Set, video, and frame counted from 0."""
KeyT = TypeVar("KeyT")

LAST_SET = 10
_FIRST_TEST_SET = 6
FRAME_FOLDER = "images"
"""Folder of the collected frames in the output folder."""
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_VIDEO = re.compile(r"set(\d{2})/V(\d{3})", re.IGNORECASE)
_USUAL_FRAME = re.compile(r"set(\d{2})_V(\d{3})_I(\d{5})")
_FRAME = re.compile(_USUAL_FRAME.pattern, re.IGNORECASE)
_FRAME_IN_FOLDERS = re.compile(r"set(\d{2})/V(\d{3})/I(\d{5})", re.IGNORECASE)
_FOLDERS_OF_VIDEO = ("images", "annotations")
"""Folders that may stand between a video's folder and its frames."""


@dataclass(frozen=True)
class CaltechFiles:
    """The files of the data set."""

    annotations: Mapping[VideoKey, Path]
    """Original annotations, ``.vbb``."""
    texts: Mapping[FrameKey, Path]
    """Annotations of single frames, original or new."""
    new_documents: tuple[Path, ...]
    videos: Mapping[VideoKey, Path]
    """``.seq``."""
    frames: Mapping[FrameKey, Path]
    """Images."""
    other_texts: tuple[Path, ...]
    """Named like annotations of single frames, but not such; usually detections."""
    hidden: tuple[str, ...]
    """Files that were not looked at, because they are hidden or backups."""


def frame_name(key: FrameKey) -> str:
    """Usual file name of a frame, without suffix: ``set06_V000_I00029``."""
    return "set{:02d}_V{:03d}_I{:05d}".format(*key)


def is_test_frame(key: FrameKey) -> bool:
    """Whether the frame is of the test sets, 06 to 10."""
    return key[0] >= _FIRST_TEST_SET


def frame_key(file_name: str) -> FrameKey | None:
    """Frame of a file with the usual name ``setNN_VNNN_INNNNN``; ``None`` for other names."""
    return _key(_USUAL_FRAME.fullmatch(PurePosixPath(file_name).stem))


def find_files(root: Path, out: Path, problems: list[str]) -> CaltechFiles:
    """Search ``root``, except for ``<out>/images``, where frames are collected.

    Two files for the same video or frame are a problem.
    """
    annotations: dict[VideoKey, Path] = {}
    texts: dict[FrameKey, Path] = {}
    videos: dict[VideoKey, Path] = {}
    frames: dict[FrameKey, Path] = {}
    documents: list[Path] = []
    other_texts: list[Path] = []
    hidden: list[str] = []
    for path in files_below(root, (out / FRAME_FOLDER).resolve()):
        suffix = path.suffix.lower()
        if suffix not in (".vbb", ".seq", ".txt", ".json", *IMAGE_SUFFIXES):
            continue
        if is_hidden(path.relative_to(root)):
            hidden.append(path.relative_to(root).as_posix())
        elif suffix in (".vbb", ".seq"):
            video = _VIDEO.fullmatch("/".join(path.with_suffix("").parts[-2:]))
            if video is not None:
                _add(annotations if suffix == ".vbb" else videos, (int(video[1]), int(video[2])), path, problems)
        elif suffix == ".json":
            documents += [path] if path.name.startswith("new_annotations") else []
        elif (key := frame_of_path(path, _FOLDERS_OF_VIDEO)) is not None:
            if suffix != ".txt":
                _add(frames, key, path, problems)
            elif _has_usual_name(path) or starts_as_bbgt(path):
                _add(texts, key, path, problems)
            else:
                other_texts.append(path)
    return CaltechFiles(annotations, texts, tuple(documents), videos, frames, tuple(other_texts), tuple(hidden))


def frame_of_path(path: Path, folders_of_video: tuple[str, ...]) -> FrameKey | None:
    """Frame of an image or text, from its name (``setNN_VNNN_INNNNN``) or its folders (``setNN/VNNN/INNNNN``).

    Args:
        path: of the file.
        folders_of_video: names of folders that may stand between ``VNNN`` and the file.
    """
    stem = _stem(path)
    parts = [*path.parts[:-1], stem]
    if path.parent.name.lower() in folders_of_video:
        del parts[-2]
    return _key(_FRAME.fullmatch(stem) or _FRAME_IN_FOLDERS.fullmatch("/".join(parts[-3:])))


def _has_usual_name(path: Path) -> bool:
    return _FRAME.fullmatch(_stem(path)) is not None


def _stem(path: Path) -> str:
    """The name without ending; of texts also without that of their image, as in ``set06_V000_I00029.jpg.txt``."""
    is_text = path.suffix.lower() == ".txt"
    return re.sub(r"\.(jpe?g|png)$", "", path.stem, flags=re.IGNORECASE) if is_text else path.stem


def _key(match: re.Match[str] | None) -> FrameKey | None:
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def _add(found: dict[KeyT, Path], key: KeyT, path: Path, problems: list[str]) -> None:
    if key in found:
        problems.append(f"'{found[key]}' and '{path}' are the same video or frame; keep one, or name a narrower folder")
    found.setdefault(key, path)


def place_frames(
    wanted: Sequence[FrameKey],
    files: CaltechFiles,
    root: Path,
    out: Path,
    problems: list[str],
    *,
    skip_missing: bool,
    shown: bool,
) -> tuple[Path, dict[FrameKey, str], list[Note]]:
    """Provide every wanted frame that exists as an image file with the usual name.

    If all frames are such files already, they are used in place. Otherwise all frames are collected in
    ``<out>/images``: compressed frames of a ``.seq`` file are copied, uncompressed ones written as PNG.

    Returns:
        The root of the images, the path of each frame relative to it, and notes for the user. Frames that are missing
        are absent, and counted in a note if ``skip_missing``; otherwise they are a problem, unless all frames of the
        training or test sets are missing. If all are missing, that is always a problem.
    """
    notes: list[Note] = []
    by_video: dict[VideoKey, list[FrameKey]] = {}
    for key in _available(wanted, files, skip_missing, problems, notes):
        by_video.setdefault(key[:2], []).append(key)
    available = [key for keys in by_video.values() for key in keys]
    if all(key in files.frames and frame_key(files.frames[key].name) == key for key in available):
        return root, {key: files.frames[key].relative_to(root).as_posix() for key in available}, notes
    sources: dict[VideoKey, SeqVideo | None] = {}
    for video, keys in by_video.items():
        sources[video] = _source(video, keys, files, problems, notes)
    if problems:
        return root, {}, notes
    names: dict[FrameKey, str] = {}
    images = out / FRAME_FOLDER
    for video, keys in track_progress(by_video.items(), "Collecting frames", total=len(by_video), shown=shown):
        source = sources[video]
        for key in keys:
            suffix = files.frames[key].suffix.lower() if source is None else source.suffix
            names[key] = frame_name(key) + suffix
            try:
                data = (
                    read_bounded(files.frames[key], LARGEST_FRAME_BYTES) if source is None else source.encoded(key[2])
                )
            except AnnotationError as error:
                problems.append(str(error))
                continue
            except OSError as error:
                problems.append(f"'{files.frames[key]}' cannot be read ({error.strerror})")
                continue
            write_atomically(images / names[key], data)
    return images, names, notes


def _available(
    wanted: Sequence[FrameKey], files: CaltechFiles, skip_missing: bool, problems: list[str], notes: list[Note]
) -> list[FrameKey]:
    """The frames that are image files or in a video; the others are counted, or all of them a problem."""
    missing: dict[VideoKey, list[FrameKey]] = {}
    for key in wanted:
        if key not in files.frames and key[:2] not in files.videos:
            missing.setdefault(key[:2], []).append(key)
    lost = [key for keys in missing.values() for key in keys]
    if lost and len(lost) == len(wanted):
        for video, keys in missing.items():
            name = "set{:02d}/V{:03d}".format(*video)
            problems.append(
                f"{name}: {len(keys)} of {len(keys)} frames are missing (first: {frame_name(keys[0])}), and there is no"
                f" {name}.seq; add the video or its frames, or convert the annotations only (--annotations-only)"
            )
    absent = set(lost)
    available = [key for key in wanted if key not in absent]
    if available:
        for name, is_test in (("train", False), ("test", True)):
            of_split = [key for key in wanted if is_test_frame(key) == is_test]
            names = [frame_name(key) for key in of_split if key in absent]
            if len(names) == len(of_split):  # the split is left out, which the caller notes
                continue
            if names and not skip_missing:
                place = "there, neither as a file nor in the .seq of their video"
                problems.append(missing_images_problem(names, len(of_split), name, place))
            notes += counted_note(
                "images_missing",
                names,
                f"left out {{count}} of {len(of_split)} annotated frames, because neither the frame nor the .seq of its"
                f" video is there (first: {{first}}); {INCOMPLETE_SET}",
                name,
            )
    return available


def _source(
    video: VideoKey, keys: Sequence[FrameKey], files: CaltechFiles, problems: list[str], notes: list[Note]
) -> SeqVideo | None:
    """The video that contains the frames; ``None`` if they are image files."""
    if all(key in files.frames for key in keys):
        return None
    try:
        source = open_seq(files.videos[video])
    except AnnotationError as error:
        problems.append(str(error))
        return None
    beyond = [key for key in keys if key[2] >= source.frame_count]
    if beyond:
        problems.append(
            f"{source.path}: it holds {source.frame_count} frames, but {len(beyond)} annotated ones come after them"
            f" (first: frame {beyond[0][2]}, counted from 0); perhaps the file is"
            " incomplete: copy it again"
        )
    elif source.announced_frames > source.frame_count:
        sentence = f"{source.path} announces {source.announced_frames} frames and holds {source.frame_count}"
        notes.append(Note("images_missing", source.announced_frames - source.frame_count, sentence))
    return source
