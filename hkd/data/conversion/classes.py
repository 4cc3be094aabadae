"""Classes of formats that name them in text (YOLO, VOC, CVAT): which are people, by the rule of COCO's categories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from hkd.coco.categories import CategoryNames, read_categories
from hkd.coco.notes import Note
from hkd.data.conversion.summary import format_counts

_LIST = '"categories"'
"""COCO's list of categories, in messages."""


@dataclass(frozen=True)
class ClassRoles:
    """Names of classes, as the data set writes them."""

    people: frozenset[str]
    ignored: frozenset[str]
    """Their boxes are ignore regions; those of all other classes are left out."""


def class_roles(
    names: Iterable[str], used: Counter[str], named: CategoryNames, where: str, problems: list[str]
) -> ClassRoles | None:
    """What each class is; see :func:`hkd.coco.categories.read_categories`.

    Args:
        names: all classes.
        used: number of boxes of each class.
        named: the classes that the user names.
        where: start of the sentences in ``problems``.
        problems: gets a sentence for each kind of mistake.

    Returns:
        None if there is a mistake.
    """
    # From 2, because an only category of id 1 is people whatever its name.
    by_id = dict(enumerate(dict.fromkeys(names), 2))
    ids = {name: id_ for id_, name in by_id.items()}
    if not by_id:
        return ClassRoles(frozenset(), frozenset())
    found: list[str] = []
    records = [{"id": id_, "name": name} for id_, name in by_id.items()]
    categories = read_categories(records, [ids[name] for name in used.elements() if name in ids], found, named)
    problems += [f"{where}: {sentence.replace(_LIST, 'classes')}" for sentence in found]
    if categories is None:
        return None
    return ClassRoles(
        frozenset(by_id[id_] for id_ in categories.people), frozenset(by_id[id_] for id_ in categories.ignored)
    )


def other_classes_note(counts: Counter[str], split: str) -> list[Note]:
    """A list of one note on the boxes of classes that are neither people nor ignored, or of none."""
    if not counts:
        return []
    sentence = f"left out {counts.total():,} boxes of other classes: {format_counts(counts, 'classes')}"
    examples = tuple(f"{name}: {count}" for name, count in counts.most_common(5))
    return [Note("boxes_of_other_categories", counts.total(), sentence, examples, split)]
