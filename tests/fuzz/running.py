"""Runs ``hkd`` on many broken files; each must be rejected with a message or read as written."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hkd.cli import main

REFUSED = 2
FACTOR = int(os.environ.get("HKD_FUZZ_FACTOR", "1"))
"""Factor on the number of examples."""


class MalformedError(Exception):
    """A plain reader found that a file violates its format."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Tally:
    """Outcomes of the examples of one test; both must occur."""

    contents: set[bytes] = field(default_factory=set)
    refused: int = 0
    read: int = 0


def run_hkd(*arguments: str | Path) -> Outcome:
    """Run the command in this process, with streams of a terminal's encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    texts = []
    for stream in (out, err):
        stream.flush()
        stream.buffer.seek(0)
        texts.append(stream.buffer.read().decode())
    return Outcome(code, *texts)


def fuzz(broken: st.SearchStrategy[bytes], check: Callable[[bytes], Outcome], examples: int) -> Tally:
    """Call ``check`` on this many broken files, the same ones in every run."""
    tally = Tally()

    def counted(content: bytes) -> None:
        outcome = check(content)
        if content not in tally.contents:
            tally.refused += outcome.code == REFUSED
            tally.read += outcome.code == 0
        tally.contents.add(content)

    # Generation is cheap and failures are printed completely: shrinking further is not worth its time.
    chosen = settings(
        max_examples=examples * FACTOR,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    chosen(given(broken)(counted))()
    assert tally.refused + tally.read == len(tally.contents)
    assert len(tally.contents) >= 0.75 * examples  # a few are made twice
    return tally


def assert_refused(outcome: Outcome, command: str, named: str, record: str, not_written: Path) -> None:
    """One message that names the file, and the record where ``record`` (a pattern) can be; nothing is written."""
    assert outcome.code == REFUSED
    bars, start, message = outcome.err.partition(f"hkd {command}: ")
    assert start, outcome.err
    assert all(line.startswith(("Reading ", "Checking ", "Bringing ")) for line in bars.splitlines()), bars
    # Mismatches between annotations and images name the image, by number and path.
    assert named in message or re.search(r"image -?\d+ '.*/", message), message
    assert re.search(record, message), message
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not not_written.exists()


def check_conversion(
    root: Path,
    file: Path,
    content: bytes,
    command: Sequence[str],
    expected: Callable[[bytes], tuple[list[Any], list[Any]]],
    record: str,
    named: str | None = None,
) -> Outcome:
    """Convert a data set in which ``file`` is broken.

    Args:
        root: The data set.
        file: Is given ``content``, and its own afterwards.
        content: The broken file.
        command: Arguments behind ``hkd data``, without ``--root`` and ``--out``.
        expected: Images (file name, width, height) and boxes (file name, box, what else is to be held to) that a plain
            reader finds in the broken file, by the documented rules; raises :class:`MalformedError`.
        record: Pattern of what a refusal names besides the file.
        named: How a refusal names the file; by its name unless given.
    """
    out = root.parent / f"{root.name}-out"
    original = file.read_bytes()
    file.write_bytes(content)
    try:
        outcome = run_hkd("data", *command, "--root", root, "--out", out)
        if outcome.code != 0:
            assert_refused(outcome, "data", named or file.name, record, out)
            return outcome
        try:
            images, boxes = expected(content)
        except MalformedError as error:
            raise AssertionError(f"was read, though {error}:\n{outcome.out}") from error
        _assert_written(out, images, boxes, outcome)
    finally:
        file.write_bytes(original)
        remove(out)
    return outcome


def _assert_written(out: Path, images: list[Any], boxes: list[Any], outcome: Outcome) -> None:
    written_images: list[Any] = []
    written_boxes: list[Any] = []
    for path in sorted(out.glob("*.json")):
        document = json.loads(path.read_text())
        names = {image["id"]: image["file_name"] for image in document["images"]}
        written_images += [(image["file_name"], image["width"], image["height"]) for image in document["images"]]
        written_boxes += [plain_box(names[one["image_id"]], one) for one in document["annotations"]]
    sizes = {name: (width, height) for name, width, height in images}
    kept = [box for box in boxes if _is_seen(box[1], *sizes[box[0]])]
    counts = re.findall(r"dropped (\d+) of |left out (\d+) box(?:es)? without", outcome.out)
    assert sum(int(number) for pair in counts for number in pair if number) == len(boxes) - len(kept)
    assert sorted(written_images) == sorted(images)
    assert _by_image(written_boxes) == _by_image(kept)
    # What is ignored is counted.
    assert f"{len(images)} images, {len(kept)} boxes, {sum(box[2] for box in kept)} of them ignored" in outcome.out


def remove(folder: Path) -> None:
    """Remove a folder, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def plain_box(name: str, record: dict[str, Any]) -> tuple[str, list[float], int, float, str]:
    """File name, box, ignore flag, visible share and label of a written annotation."""
    return name, record["bbox"], record["ignore"], record["vis_ratio"], record.get("label", "")


def _by_image(boxes: list[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, *rest in boxes:
        found.setdefault(name, []).append(rest)
    return found


def _is_seen(box: list[float], image_width: float, image_height: float) -> bool:
    x, y, width, height = box
    has_area = x + width > x and y + height > y
    return has_area and x < image_width and y < image_height and x + width > 0 and y + height > 0
