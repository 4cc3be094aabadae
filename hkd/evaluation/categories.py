"""Which category of a COCO file is the pedestrian's; the rule by which training reads such files, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hkd.evaluation.records import RECORDS_NAMED, Records, is_integer, is_text, kind_of, shown

PEDESTRIAN_ID: Final = 1
"""Category of all boxes that hkd writes."""
_PEDESTRIAN_NAMES: Final = ("pedestrian", "person")


@dataclass(frozen=True)
class Categories:
    """The categories of one file."""

    pedestrian: int
    """Id of the one that is evaluated."""
    others: frozenset[int] = frozenset()
    """Ids of those whose boxes are ignored."""

    def has(self, value: object) -> bool:
        """Whether it is the id of a category."""
        return is_integer(value) and (value == self.pedestrian or value in self.others)

    @property
    def requirement(self) -> str:
        """What an annotation's category may be, in words."""
        if self.others:
            return f'{self.pedestrian} (pedestrian) or another of the "categories", which is ignored'
        return f"{self.pedestrian} (pedestrian), the only category that is evaluated"

    def of_detections(self) -> tuple[int, ...]:
        """Ids that stand for pedestrians in detections: this file's, and what hkd writes if that means nothing else."""
        return (
            (self.pedestrian,)
            if PEDESTRIAN_ID in self.others
            else tuple(dict.fromkeys([self.pedestrian, PEDESTRIAN_ID]))
        )


def read_categories(values: object, source: str) -> tuple[Categories | None, list[str]]:
    """The ``categories`` of a COCO dictionary, and a sentence for each kind of mistake in them.

    The pedestrian's is named ``pedestrian``, else ``person``; a single category of another name is, if its id is 1.
    Where the dictionary has no ``categories``, or none in them, the pedestrian's id is 1 and there are no others.
    """
    if values is None or values == []:
        return Categories(PEDESTRIAN_ID), []
    if not isinstance(values, list):
        return None, [f'{source}: "categories" must be a list, but is {kind_of(values)}; correct it or leave it out.']
    records = Records(values, source, "categories")
    ids = records.column("id", is_integer, "an integer", "number the categories")
    records.require_unique("id", ids, "merge or renumber the categories")
    names = records.column("name", is_text, "text", "name the categories")
    if records.problems:
        return None, records.problems
    whole = [int(id_) for id_ in ids if is_integer(id_)]
    by_name = {str(name).strip().lower(): id_ for name, id_ in zip(reversed(names), reversed(whole), strict=True)}
    known = frozenset(whole)
    for wanted in _PEDESTRIAN_NAMES:
        if (pedestrian := by_name.get(wanted)) is not None:
            return Categories(pedestrian, known - {pedestrian}), []
    if known == {PEDESTRIAN_ID}:
        return Categories(PEDESTRIAN_ID), []
    named = ", ".join(shown(name) for name in names[:RECORDS_NAMED])
    problem = (
        f'{source}: one of the "categories" must be named pedestrian or person, but they are {named}'
        f"{' ...' if len(names) > RECORDS_NAMED else ''}; rename the one that is evaluated."
    )
    return None, [problem]
