"""Which categories of a COCO file are people, which are ignore regions, and which are not read.

People are the categories named ``pedestrian`` or ``person``; labelling tools add a root of one of these names without
boxes (Roboflow, CVAT), which does not count. Boxes of a category that says so by its name (``ignore region``,
``DontCare``) are ignore regions. Boxes of every other category are not read: they are left out and counted, in
training, conversion and evaluation, in ground truth and detections. A user can name the categories instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hkd.coco.parsing.records import RECORDS_NAMED, Records
from hkd.coco.parsing.values import as_id, is_integer, is_text, kind_of, shown

PEDESTRIAN_ID: Final = 1
"""Category of all boxes that hkd writes."""
PERSON_NAMES: Final = ("pedestrian", "person")
_IGNORED_NAMES: Final = frozenset(
    ["ignore", "ignored", "ignoreregion", "ignoreregions", "ignoredregion", "ignoredregions", "dontcare"]
)
"""Letters of the names that mark ignore regions."""
_HOW_TO_NAME: Final = "with --person NAME (in a configuration: data.person_categories), repeated if several are"


@dataclass(frozen=True)
class CategoryNames:
    """The categories that a user names. Case and outer blanks do not matter."""

    people: tuple[str, ...] = ()
    """Empty: by the rule of :func:`read_categories`."""
    ignored: tuple[str, ...] = ()
    """Besides those whose name marks ignore regions."""


@dataclass(frozen=True)
class Categories:
    """The categories of one file."""

    people: frozenset[int]
    """Ids of those that are learned and evaluated; at least one."""
    ignored: frozenset[int] = frozenset()
    """Ids of those whose boxes are ignore regions."""
    unused_people: frozenset[int] = frozenset()
    """Ids of those named like people that have no box while another has."""
    names: Mapping[int, str] = field(default_factory=dict)
    """Of all categories; empty where the file lists none."""
    absent: tuple[str, ...] = ()
    """Names that the user states and no category has."""

    @property
    def written(self) -> int:
        """The category of people in files of detections that hkd writes for this file."""
        return PEDESTRIAN_ID if PEDESTRIAN_ID in self.people else min(self.people)

    def has(self, value: object) -> bool:
        """Whether the value is the id of a category."""
        return value in self.names if self.names else value in self.people

    def shown(self, category_id: int) -> str:
        """A category for messages, such as ``3 "car"``."""
        return f"{category_id} {shown(self.names[category_id])}" if category_id in self.names else str(category_id)

    def all_shown(self, ids: Iterable[int]) -> str:
        """Categories for messages, the first few of them."""
        return listed([self.shown(category_id) for category_id in sorted(ids)])

    def counted(self, counts: Counter[int]) -> tuple[str, ...]:
        """Each category with its count, most frequent first, such as ``2 of 3 "car"``."""
        return tuple(f"{count:,} of {self.shown(category_id)}" for category_id, count in counts.most_common())

    @property
    def requirement(self) -> str:
        """The allowed categories of an annotation, for messages."""
        if self.names:
            return f'the "id" of one of the "categories", which are {self.all_shown(self.names)}'
        return f'{PEDESTRIAN_ID}, as the file lists no "categories"'

    @property
    def remedy(self) -> str:
        """What to do about an annotation of another category, for messages."""
        return 'correct the "category_id", or list the category in "categories"'


def default_categories() -> Categories:
    """Those of a file that lists none: all boxes are people of category 1."""
    return Categories(frozenset([PEDESTRIAN_ID]))


def read_categories(
    values: object, category_ids: Iterable[object], problems: list[str], named: CategoryNames | None = None
) -> Categories | None:
    """The ``categories`` of a COCO document; None if they are invalid, with sentences in ``problems``.

    People are the categories that ``named`` states; otherwise those named ``pedestrian`` or ``person`` (case and outer
    blanks do not matter), of which only one may have boxes; otherwise the only category, if its id is 1. Without
    categories (absent, null or an empty list) the id of people is 1 and there are no others.

    Args:
        values: the list ``categories``.
        category_ids: the ``category_id`` of each annotation.
        problems: gets a sentence for each kind of mistake.
        named: the categories that the user names.
    """
    named = CategoryNames() if named is None else named
    if values is None or values == []:
        if named.people or named.ignored:
            wanted = ", ".join(map(shown, named.people + named.ignored))
            problems.append(f'the file lists no "categories", so that {wanted} cannot be found; list them')
            return None
        return default_categories()
    if not isinstance(values, list):
        problems.append(f'"categories" must be a list, but is {kind_of(values)}; correct it or leave it out')
        return None
    names = read_category_names(values, problems)
    if names is None:
        return None
    used = Counter(int(value) for value in map(as_id, category_ids) if is_integer(value))
    num_problems = len(problems)
    if named.people:
        people, unused = _named_people(names, named.people, problems), frozenset[int]()
    else:
        people, unused = _people(names, used, problems)
    ignored = _ignored(names, people, named.ignored, problems)
    if len(problems) > num_problems:
        return None
    normalized = set(map(normalized_name, names.values()))
    absent = tuple(name for name in named.people + named.ignored if normalized_name(name) not in normalized)
    return Categories(people, ignored, unused, names, absent)


def read_category_names(values: list[object], problems: list[str]) -> dict[int, str] | None:
    """Name of each category id, in the file's order; None if a record is invalid, with sentences in ``problems``."""
    num_problems = len(problems)
    records = Records(values, "categories", problems)
    ids = records.ids("id", "an integer", "number the categories")
    records.require_unique("id", ids, "merge or renumber the categories")
    names = records.column("name", is_text, "text", "name the categories")
    if len(problems) > num_problems:
        return None
    return {int(id_): str(name) for id_, name in zip(ids, names, strict=True) if is_integer(id_)}


def normalized_name(name: str) -> str:
    """A category's name for comparisons: lower case, without outer blanks."""
    return name.strip().lower()


def _people(
    names: Mapping[int, str], used: Mapping[int, int], problems: list[str]
) -> tuple[frozenset[int], frozenset[int]]:
    """Ids of people by the rule, and of unused categories that are named like them."""
    candidates = {id_: normalized_name(name) for id_, name in names.items() if normalized_name(name) in PERSON_NAMES}
    if not candidates:
        if set(names) != {PEDESTRIAN_ID}:
            problems.append(
                f'none of the "categories" is named pedestrian or person: {_listed(names.values())}; name those of '
                f"people {_HOW_TO_NAME}"
            )
        return frozenset([PEDESTRIAN_ID]), frozenset()
    with_boxes = frozenset(id_ for id_ in candidates if used.get(id_, 0) > 0)
    if len({candidates[id_] for id_ in with_boxes}) > 1:
        counts = " and ".join(f"{shown(names[id_])} ({used[id_]:,})" for id_ in sorted(with_boxes))
        problems.append(f"which are people? There are boxes of {counts}; name those that are {_HOW_TO_NAME}")
    people = with_boxes or frozenset(candidates)
    return people, frozenset(candidates) - people


def _named_people(names: Mapping[int, str], wanted: Sequence[str], problems: list[str]) -> frozenset[int]:
    people = _with_names(names, wanted)
    if not people:
        problems.append(
            f'none of the "categories" is named {" or ".join(map(shown, wanted))}: {_listed(names.values())}; name '
            f"those of people {_HOW_TO_NAME}"
        )
    return people


def _ignored(
    names: Mapping[int, str], people: frozenset[int], wanted: Sequence[str], problems: list[str]
) -> frozenset[int]:
    chosen = _with_names(names, wanted)
    if both := chosen & people:
        problems.append(
            f"{_listed(names[id_] for id_ in sorted(both))} cannot be people and ignored; name it as one of the two"
        )
    marked = frozenset(id_ for id_, name in names.items() if _marks_ignore_regions(name))
    return (chosen | marked) - people


def _with_names(names: Mapping[int, str], wanted: Sequence[str]) -> frozenset[int]:
    normalized = set(map(normalized_name, wanted))
    return frozenset(id_ for id_, name in names.items() if normalized_name(name) in normalized)


def _marks_ignore_regions(name: str) -> bool:
    return "".join(letter for letter in name.lower() if letter.isalpha()) in _IGNORED_NAMES


def _listed(names: Iterable[str]) -> str:
    return listed([shown(name) for name in names])


def listed(items: Sequence[str]) -> str:
    """The first few items, and the number of the others; for messages."""
    more = [] if len(items) <= RECORDS_NAMED else [f"and {len(items) - RECORDS_NAMED:,} more"]
    return ", ".join([*items[:RECORDS_NAMED], *more])
