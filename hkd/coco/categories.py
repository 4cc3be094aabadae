"""The pedestrian category of a COCO file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hkd.coco.parsing.records import RECORDS_NAMED, Records
from hkd.coco.parsing.values import is_integer, is_text, kind_of, shown

PEDESTRIAN_ID: Final = 1
"""Category of all boxes that hkd writes."""
_PEDESTRIAN_NAMES: Final = ("pedestrian", "person")


@dataclass(frozen=True)
class Categories:
    """The categories of one file."""

    pedestrian: int
    """Id of the one that is learned and evaluated."""
    others: frozenset[int] = frozenset()
    """Ids of those whose boxes are ignored."""

    def has(self, value: object) -> bool:
        """Whether the value is the id of a category."""
        return is_integer(value) and (value == self.pedestrian or value in self.others)

    @property
    def requirement(self) -> str:
        """The allowed categories of an annotation, for messages."""
        if self.others:
            return f'{self.pedestrian} (pedestrian) or another of the "categories", which is ignored'
        return f'{self.pedestrian} (pedestrian), the only one of the "categories"'

    def of_detections(self) -> tuple[int, ...]:
        """Ids of pedestrians in detections: this file's, and hkd's unless it is another category here."""
        if PEDESTRIAN_ID in self.others:
            return (self.pedestrian,)
        return tuple(dict.fromkeys([self.pedestrian, PEDESTRIAN_ID]))


def read_categories(values: object, problems: list[str]) -> Categories | None:
    """The ``categories`` of a COCO document; None if they are invalid, with sentences in ``problems``.

    The pedestrian category is the one named ``pedestrian``, else ``person`` (case and outer blanks do not matter), else
    the only category if its id is 1. Without categories (absent, null or an empty list) the pedestrian's id is 1 and
    there are no others.
    """
    if values is None or values == []:
        return Categories(PEDESTRIAN_ID)
    if not isinstance(values, list):
        problems.append(f'"categories" must be a list, but is {kind_of(values)}; correct it or leave it out')
        return None
    named = read_category_names(values, problems)
    if named is None:
        return None
    by_name = {normalized_name(name): id_ for id_, name in reversed(named.items())}
    known = frozenset(named)
    for wanted in _PEDESTRIAN_NAMES:
        if (pedestrian := by_name.get(wanted)) is not None:
            return Categories(pedestrian, known - {pedestrian})
    if known == {PEDESTRIAN_ID}:
        return Categories(PEDESTRIAN_ID)
    names = [shown(name) for name in named.values()]
    problems.append(
        f'one of the "categories" must be named pedestrian or person, but they are {", ".join(names[:RECORDS_NAMED])}'
        f"{' ...' if len(names) > RECORDS_NAMED else ''}; rename the one that is evaluated"
    )
    return None


def read_category_names(values: list[object], problems: list[str]) -> dict[int, str] | None:
    """Name of each category id, in the file's order; None if a record is invalid, with sentences in ``problems``."""
    num_problems = len(problems)
    records = Records(values, "categories", problems)
    ids = records.column("id", is_integer, "an integer", "number the categories")
    records.require_unique("id", ids, "merge or renumber the categories")
    names = records.column("name", is_text, "text", "name the categories")
    if len(problems) > num_problems:
        return None
    return {int(id_): str(name) for id_, name in zip(ids, names, strict=True) if is_integer(id_)}


def normalized_name(name: str) -> str:
    """A category's name for comparisons: lower case, without outer blanks."""
    return name.strip().lower()
