"""Records of a file, checked column by column: every kind of mistake is one sentence that names its records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from hkd.coco.parsing.values import ABSENT, as_id, is_integer, shown

RECORDS_NAMED: Final = 5
"""How many records a sentence names; the others are counted."""


class Records:
    """A list of JSON objects of one file.

    Args:
        values: the list.
        place: its key in the file, such as ``annotations``; for messages.
        problems: gets a sentence for each kind of mistake.
        named_by: keys whose values name a record in sentences, beside its position.
    """

    def __init__(self, values: Sequence[object], place: str, problems: list[str], named_by: Sequence[str] = ()) -> None:
        self.place = place
        self.problems = problems
        self._named_by = named_by
        self.rows = [value for value in values if isinstance(value, dict)]
        """The records that are objects; only these have columns."""
        self.positions = [i for i, value in enumerate(values) if isinstance(value, dict)]
        others = [(i, value) for i, value in enumerate(values) if not isinstance(value, dict)]
        self.note("each record", "an object in braces", others, "correct or remove it")

    def selected(self, chosen: Sequence[bool]) -> Records:
        """The chosen rows, with their positions in the whole list and the same list of problems."""
        records = Records([], self.place, self.problems, self._named_by)
        records.rows = [row for row, is_chosen in zip(self.rows, chosen, strict=True) if is_chosen]
        records.positions = [i for i, is_chosen in zip(self.positions, chosen, strict=True) if is_chosen]
        return records

    def column(
        self, key: str, is_allowed: Callable[[object], bool], requirement: str, remedy: str, default: object = None
    ) -> list[object]:
        """The value of ``key`` in each row, ``default`` where it is absent; notes values that are not allowed.

        The key may be absent, or null, if a default is given.
        """
        values = [row.get(key, ABSENT) for row in self.rows]
        if default is not None:
            values = [ABSENT if value is None else value for value in values]
        return self.check(f'"{key}"', values, is_allowed, requirement, remedy, default)

    def ids(self, key: str, requirement: str, remedy: str) -> list[object]:
        """The ids in ``key``, as ints where :func:`~hkd.coco.parsing.values.as_id` reads them; notes all others."""
        values = self.column(key, lambda value: is_integer(as_id(value)), requirement, remedy)
        return [as_id(value) for value in values]

    def check(
        self,
        subject: str,
        values: Sequence[object],
        is_allowed: Callable[[object], bool],
        requirement: str,
        remedy: str,
        default: object = None,
    ) -> list[object]:
        """One value of each row, ``default`` for :data:`ABSENT`; notes values that are not allowed.

        ``subject`` names the values in the sentence. A value may be absent if a default is given.
        """
        wrong = [
            (i, value)
            for i, value in zip(self.positions, values, strict=True)
            if not is_allowed(value) and (value is not ABSENT or default is None)
        ]
        self.note(subject, requirement, wrong, remedy)
        return [default if value is ABSENT else value for value in values]

    def require_known_image(
        self, values: Sequence[object], known: Collection[object], requirement: str, remedy: str
    ) -> None:
        """Note the rows whose well-formed ``image_id`` is not ``known``; ``requirement`` describes what is allowed."""
        unknown = [
            (i, value)
            for i, value in zip(self.positions, values, strict=True)
            if is_integer(value) and value not in known
        ]
        self.note('"image_id"', requirement, unknown, remedy)

    def require_unique(self, key: str, values: Sequence[object], remedy: str) -> None:
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
        """Note one kind of mistake, with the (position, value) of each record that has it."""
        if not wrong:
            return
        named = [f"{self._name(i)} has {shown(value)}" for i, value in wrong[:RECORDS_NAMED]]
        if len(wrong) > RECORDS_NAMED:
            named.append(f"and {len(wrong) - RECORDS_NAMED:,} more records are wrong")
        self.problems.append(f"{subject} must be {requirement}, but {', '.join(named)}; {remedy}")

    def _name(self, position: int) -> str:
        name = f"{self.place}[{position}]"
        if position not in self.positions:
            return name
        row = self.rows[self.positions.index(position)]
        values = ", ".join(f"{key} {shown(row[key])}" for key in self._named_by if key in row)
        return f"{name} ({values})" if values else name
