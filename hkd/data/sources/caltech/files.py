"""Search for the files of the Caltech Pedestrian data set, and collection of its frames in one folder.

Layouts depend on the tool that unpacked the data set, so files are recognized by their names, in any sub-folder:
``setNN/VNNN.vbb`` and ``setNN/VNNN.seq``; frames ``setNN_VNNN_INNNNN.jpg`` or ``setNN/VNNN/INNNNN.jpg`` (or ``.png``),
counted from 0; new annotations ``setNN_VNNN_INNNNN.txt`` (or ``.jpg.txt``) and ``new_annotations*.json``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hkd.coco.notes import Note
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.parsing.reading import read_bounded
from hkd.data.conversion.progress import track_progress
from hkd.data.sources.caltech.seq import LARGEST_FRAME_BYTES, SeqVideo, open_seq
from hkd.files import write_atomically

VideoKey = tuple[int, int]
"""Set and video."""
FrameKey = tuple[int, int, int]
"""Set, video, and frame counted from 0."""
KeyT = TypeVar("KeyT")

LAST_SET = 10
FRAME_FOLDER = "images"
"""Folder of the collected frames in the output folder."""
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_VIDEO = re.compile(r"set(\d{2})/V(\d{3})")
_FRAME = re.compile(r"set(\d{2})_V(\d{3})_I(\d{5})")
_FRAME_IN_FOLDERS = re.compile(r"set(\d{2})/V(\d{3})/I(\d{5})")


@dataclass(frozen=True)
class CaltechFiles:
    """The files of the data set."""

    annotations: Mapping[VideoKey, Path]
    """Original annotations, ``.vbb``."""
    new_texts: Mapping[FrameKey, Path]
    new_documents: tuple[Path, ...]
    videos: Mapping[VideoKey, Path]
    """``.seq``."""
    frames: Mapping[FrameKey, Path]
    """Images."""


def frame_name(key: FrameKey) -> str:
    """Usual file name of a frame, without suffix: ``set06_V000_I00029``."""
    return "set{:02d}_V{:03d}_I{:05d}".format(*key)


def frame_key(file_name: str) -> FrameKey | None:
    """Frame of a file with the usual name ``setNN_VNNN_INNNNN``; ``None`` for other names."""
    match = _FRAME.fullmatch(PurePosixPath(file_name).stem)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def find_files(root: Path, out: Path, problems: list[str]) -> CaltechFiles:
    """Search ``root``, except for ``<out>/images``, where frames are collected.

    Two files for the same video or frame are a problem.
    """
    annotations: dict[VideoKey, Path] = {}
    texts: dict[FrameKey, Path] = {}
    videos: dict[VideoKey, Path] = {}
    frames: dict[FrameKey, Path] = {}
    documents: list[Path] = []
    for path in _files_below(root, (out / FRAME_FOLDER).resolve()):
        suffix = path.suffix.lower()
        in_folders = path.with_suffix("").as_posix().split("/")
        if suffix in (".vbb", ".seq"):
            video = _VIDEO.fullmatch("/".join(in_folders[-2:]))
            if video is not None:
                found = annotations if suffix == ".vbb" else videos
                _add(found, (int(video[1]), int(video[2])), path, problems)
        elif suffix in (".txt", *_IMAGE_SUFFIXES):
            stem = path.name.removesuffix(path.suffix)
            if suffix == ".txt":
                stem = re.sub(r"\.(jpe?g|png)$", "", stem)
            match = _FRAME.fullmatch(stem)
            if match is None and suffix != ".txt":
                match = _FRAME_IN_FOLDERS.fullmatch("/".join(in_folders[-3:]))
            if match is not None:
                key = (int(match[1]), int(match[2]), int(match[3]))
                _add(texts if suffix == ".txt" else frames, key, path, problems)
        elif suffix == ".json" and path.name.startswith("new_annotations"):
            documents.append(path)
    return CaltechFiles(annotations, texts, tuple(documents), videos, frames)


def _add(found: dict[KeyT, Path], key: KeyT, path: Path, problems: list[str]) -> None:
    if key in found:
        problems.append(f"'{found[key]}' and '{path}' are the same video or frame; keep one, or name a narrower folder")
    found.setdefault(key, path)


def _files_below(root: Path, excluded: Path) -> Iterator[Path]:
    """All files, sorted by name; links to folders are followed, each folder once."""
    seen = {excluded}
    for folder, folders, files in os.walk(root, followlinks=True):
        resolved = Path(folder).resolve()
        if resolved in seen:
            folders.clear()
            continue
        seen.add(resolved)
        folders.sort()
        yield from (Path(folder) / name for name in sorted(files))


def place_frames(
    wanted: Sequence[FrameKey], files: CaltechFiles, root: Path, out: Path, problems: list[str], *, shown: bool
) -> tuple[Path, dict[FrameKey, str], list[Note]]:
    """Provide every wanted frame as an image file with the usual name.

    If all frames are such files already, they are used in place. Otherwise all frames are collected in
    ``<out>/images``: compressed frames of a ``.seq`` file are copied, uncompressed ones written as PNG.

    Returns:
        The root of the images, the path of each frame relative to it, and notes for the user. Missing frames are added
        to ``problems``, one message per video.
    """
    if all(key in files.frames and frame_key(files.frames[key].name) == key for key in wanted):
        return root, {key: files.frames[key].relative_to(root).as_posix() for key in wanted}, []
    by_video: dict[VideoKey, list[FrameKey]] = {}
    for key in wanted:
        by_video.setdefault(key[:2], []).append(key)
    sources: dict[VideoKey, SeqVideo | None] = {}
    notes: list[Note] = []
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


def _source(
    video: VideoKey, keys: Sequence[FrameKey], files: CaltechFiles, problems: list[str], notes: list[Note]
) -> SeqVideo | None:
    """The video that contains the frames; ``None`` if they are image files or missing."""
    name = "set{:02d}/V{:03d}".format(*video)
    missing = [key for key in keys if key not in files.frames]
    if not missing:
        return None
    if video not in files.videos:
        problems.append(
            f"{name}: {len(missing)} of {len(keys)} frames are missing (first: {frame_name(missing[0])}), and there is"
            f" no {name}.seq; add the video or its frames, or convert the annotations only"
        )
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
            f" (first: frame {beyond[0][2]}, counted from 0); is the file truncated?"
        )
    elif source.announced_frames > source.frame_count:
        sentence = f"{source.path} announces {source.announced_frames} frames and holds {source.frame_count}"
        notes.append(Note("images_missing", source.announced_frames - source.frame_count, sentence))
    return source
