"""Records of a file, checked column by column; every kind of mistake becomes one sentence that names its records."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeGuard, TypeVar

from hkd.json_text import RepeatedKeyError, load_json

T = TypeVar("T")

LARGEST_COORDINATE: Final = 1e9
"""Boxes reach no further, pixels: beyond any image, and far from where areas lose precision or overflow."""
LARGEST_FILE_BYTES: Final = 4 << 30
"""Larger files are refused unread: tens of millions of detections are less."""
LARGEST_STREAM_BYTES: Final = 1 << 30
"""No more is read of pipes and devices, which do not say their size."""
RECORDS_NAMED: Final = 5
"""How many records a sentence names before it only counts them."""


class EvaluationInputError(ValueError):
    """Ground truth or detections cannot be evaluated; the message has one line for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class _Collector:
    """Calls what may find problems, and keeps them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, read: Callable[[], T]) -> T | None:
        """What ``read`` returns; None where it found problems."""
        try:
            return read()
        except EvaluationInputError as error:
            self.problems.extend(error.problems)
            return None


@contextmanager
def collected_problems() -> Iterator[_Collector]:
    """Read several inputs, though one be wrong, and report the problems of all together at the end.

    Raises:
        EvaluationInputError: at the end of the block, with the problems of every call in it.
    """
    collect = _Collector()
    yield collect
    if collect.problems:
        raise EvaluationInputError(collect.problems)


class Absent:
    """Stands for the value of a key that a record lacks."""


ABSENT: Final = Absent()


def is_integer(value: object) -> TypeGuard[int | float]:
    """Whether JSON gave a whole number that an int64 holds; some tools write 3.0 for 3."""
    # The bounds are int64's. JSON's true and false are no numbers, though Python's bool is an int.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        return False
    return value == int(value)


def is_number(value: object, low: float, high: float) -> TypeGuard[float]:
    """Whether it is a number from ``low`` to ``high``; NaN is in no range."""
    # NaN fails every comparison, and unlike math.isfinite they take integers of any length.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def is_finite(value: object) -> bool:
    """Whether it is a number other than NaN and the infinities."""
    return is_number(value, -sys.float_info.max, sys.float_info.max)


def is_size(value: object) -> TypeGuard[float]:
    """Whether it is a length in pixels above 0."""
    return is_number(value, 0, LARGEST_COORDINATE) and value > 0


def is_share(value: object) -> bool:
    """Whether it is a share from 0 to 1."""
    # A ratio of two areas may pass 1 by a rounding error.
    return is_number(value, 0, 1 + 1e-6)


def is_flag(value: object) -> bool:
    """Whether it is 0, 1, false or true."""
    return isinstance(value, (int, float)) and value in (0, 1)


def is_box(value: object) -> bool:
    """Whether it is [x, y, width, height], finite and with an area."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    corner_is_right = all(is_number(number, -LARGEST_COORDINATE, LARGEST_COORDINATE) for number in value[:2])
    return corner_is_right and is_size(value[2]) and is_size(value[3])


def is_visible_box(value: object) -> bool:
    """Whether it is [x, y, width, height], finite; without an area where nothing is visible, or nothing hidden."""
    if not isinstance(value, list) or len(value) != 4:
        return False
    corner_is_right = all(is_number(number, -LARGEST_COORDINATE, LARGEST_COORDINATE) for number in value[:2])
    return corner_is_right and all(is_number(number, 0, LARGEST_COORDINATE) for number in value[2:])


def is_text(value: object) -> bool:
    """Whether it is a string."""
    return isinstance(value, str)


BOX_REQUIREMENT = (
    "[x, y, width, height] in pixels (four finite numbers up to 1e9, x and y at least -1e9, width and height above 0)"
)


class Records:
    """A list of JSON objects of one file, with the problems found in it."""

    def __init__(self, values: list[object], source: str, place: str) -> None:
        """Take ``values``, found as ``place`` in the file ``source``."""
        self.source = source
        self.place = place
        self.problems: list[str] = []
        self.rows = [value for value in values if isinstance(value, dict)]
        """The records that are objects; only these have columns."""
        self.positions = [i for i, value in enumerate(values) if isinstance(value, dict)]
        others = [(i, value) for i, value in enumerate(values) if not isinstance(value, dict)]
        self.note("each record", "an object in braces", others, "correct or remove it")

    def column(
        self, key: str, is_allowed: Callable[[object], bool], requirement: str, remedy: str, default: object = None
    ) -> list[object]:
        """The value of ``key`` in each row, ``default`` where it is absent; notes values that are not allowed.

        The key may be absent, or null, if a default is given.
        """
        values = [row.get(key, ABSENT) for row in self.rows]
        if default is not None:
            values = [ABSENT if value is None else value for value in values]
        wrong = [
            (i, value)
            for i, value in zip(self.positions, values, strict=True)
            if not is_allowed(value) and (value is not ABSENT or default is None)
        ]
        self.note(f'"{key}"', requirement, wrong, remedy)
        return [default if value is ABSENT else value for value in values]

    def require_known_image(self, values: list[object], known: Collection[object], remedy: str) -> None:
        """Note the rows that name, by a well-formed ``image_id``, an image that is not ``known``."""
        unknown = [
            (i, value)
            for i, value in zip(self.positions, values, strict=True)
            if is_integer(value) and value not in known
        ]
        self.note('"image_id"', 'the "id" of an image of the ground truth', unknown, remedy)

    def require_unique(self, key: str, values: list[object], remedy: str) -> None:
        """Note the rows whose ``key`` repeats an earlier row's."""
        seen: set[float] = set()
        repeated: list[tuple[int, object]] = []
        for i, value in zip(self.positions, values, strict=True):
            if is_integer(value):
                if value in seen:
                    repeated.append((i, value))
                seen.add(value)
        self.note(f'"{key}"', "different in each record", repeated, remedy)

    def note(self, subject: str, requirement: str, wrong: Sequence[tuple[int, object]], remedy: str) -> None:
        """Note one kind of mistake, with the (position, value) of each record that makes it."""
        if not wrong:
            return
        named = [f"{self.place}[{i}] has {shown(value)}" for i, value in wrong[:RECORDS_NAMED]]
        if len(wrong) > RECORDS_NAMED:
            named.append(f"and {len(wrong) - RECORDS_NAMED:,} more records are wrong")
        self.problems.append(f"{self.source}: {subject} must be {requirement}, but {', '.join(named)}; {remedy}.")


def shown(value: object) -> str:
    """A value as JSON writes it, shortened."""
    if value is ABSENT:
        return "none"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):  # not from a JSON file, or beyond what Python writes
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        EvaluationInputError: the file cannot be read, is cut off or is no JSON.
    """
    return parse_json(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A file's bytes.

    Raises:
        EvaluationInputError: the file cannot be read or is larger than any file of detections.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            content = _read_stream(path)
            if len(content) <= LARGEST_STREAM_BYTES:
                return content
            problem = (
                f"{path}: is no file, and more than the {LARGEST_STREAM_BYTES:,} bytes that are read; name a file."
            )
        elif state.st_size <= LARGEST_FILE_BYTES:
            return path.read_bytes()
        else:
            allowed = f"more than the {LARGEST_FILE_BYTES:,} that are read"
            problem = f"{path}: has {state.st_size:,} bytes, {allowed}; name a smaller one."
    except MemoryError:
        problem = f"{path}: takes more memory than there is; name a smaller file."
    except OSError as error:
        reason = error.strerror or type(error).__name__
        problem = f"{path}: cannot be read ({reason}); name a file that exists and may be read."
    raise EvaluationInputError([problem])


def _read_stream(path: Path) -> bytes:
    """A pipe's bytes, one more than :data:`LARGEST_STREAM_BYTES` at most."""
    content = bytearray()
    with path.open("rb") as stream:
        while chunk := stream.read(min(1 << 20, LARGEST_STREAM_BYTES + 1 - len(content))):
            content += chunk
    return bytes(content)


def parse_json(content: bytes, path: Path) -> object:
    """What a JSON file's bytes say.

    Raises:
        EvaluationInputError: they are cut off or no JSON, or have a key twice in one object.
    """
    try:
        return load_json(content)
    except RepeatedKeyError as error:
        problem = f"{path}: {error}; keep one of the two."
    except json.JSONDecodeError as error:
        problem = (
            f"{path}: not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}); "
            "the file may be cut off: write or copy it again."
        )
    except MemoryError:
        problem = f"{path}: takes more memory than there is; name a smaller file."
    except (ValueError, RecursionError) as error:
        # Bytes that are no text, integers of thousands of digits, brackets nested without end.
        problem = f"{path}: not valid JSON ({error}); write or copy it again."
    raise EvaluationInputError([problem])


def kind_of(value: object) -> str:
    """What JSON calls such a value."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else shown(value)
