"""The annotations of a document that are read: of people and of ignore regions, with an area."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final, TypeVar

from hkd.coco.categories import Categories, default_categories, listed
from hkd.coco.images import file_names, numbers_of_text_ids
from hkd.coco.notes import Note, NoteKind, counted_note
from hkd.coco.parsing.records import Records
from hkd.coco.parsing.values import ABSENT, BOX_REQUIREMENT, is_box, is_empty_box, is_integer, shown
from hkd.coco.plausibility import repeated

REMEDY: Final = "correct or remove the annotation"
KNOWN_IMAGE_REQUIREMENT: Final = 'the "id" of one of the "images"'
T = TypeVar("T")


class SelectedAnnotations:
    """The annotations that are read, with the fields by which they are selected; mistakes are noted as problems.

    Each annotation needs ``image_id`` and ``category_id``; those that are read need ``bbox``. ``id`` may be stated by
    all annotations, or by none. Not read are boxes of categories that are neither people nor ignored, unless they
    state ``ignore`` 1, and boxes without an area.

    Args:
        records: the annotations.
        images: the images.
        image_ids: ids of all images (:func:`hkd.coco.images.read_image_ids`); None if they are invalid.
        categories: None if they are invalid, which is then not reported again for each box.
    """

    def __init__(
        self, records: Records, images: Records, image_ids: Sequence[object] | None, categories: Categories | None
    ) -> None:
        all_image_ids = _image_ids(records, images, image_ids)
        if any("id" in row for row in records.rows):
            own_ids = records.ids("id", "an integer", "number all annotations, or none")
            records.require_unique("id", own_ids, "renumber the annotations")
        category_ids = _category_ids(records, categories)
        is_ignored = [_is_ignored(row, id_, categories) for row, id_ in zip(records.rows, category_ids, strict=True)]
        # Where the category is invalid, the other fields are checked as a person's.
        is_person = [categories is None or id_ is None or id_ in categories.people for id_ in category_ids]
        is_read = [person or ignored for person, ignored in zip(is_person, is_ignored, strict=True)]
        self._categories = default_categories() if categories is None else categories
        self._others = _count(category_ids, [not one for one in is_read])
        self._ignored = _count(category_ids, is_ignored)
        read = records.selected(is_read)
        boxes = read.column("bbox", lambda box: is_box(box) or is_empty_box(box), BOX_REQUIREMENT, REMEDY)
        self._empty = [
            (position, box) for position, box in zip(read.positions, boxes, strict=True) if is_empty_box(box)
        ]
        has_area = [not is_empty_box(box) for box in boxes]
        self.records = read.selected(has_area)
        """The annotations that are read."""
        self.image_ids = _chosen(_chosen(all_image_ids, is_read), has_area)
        """Of each annotation in ``records``; ints where they are valid."""
        self.boxes = _chosen(boxes, has_area)
        """[x, y, width, height] of each annotation in ``records``."""
        sizes = _image_sizes(images, image_ids)
        unknown = (None, None)
        self.image_sizes = [sizes.get(id_, unknown) if is_integer(id_) else unknown for id_ in self.image_ids]
        """Stated (width, height) of the image of each annotation in ``records``, unchecked, None where not stated."""
        names = [name for name in file_names(images) if name]
        self._repeated_images = [f"file_name {shown(names[position])}" for position in repeated(names)]
        self.is_ignored = _chosen(_chosen(is_ignored, is_read), has_area)
        """Whether each annotation in ``records`` is an ignore region by its category."""

    def repeated_images(self) -> list[Note]:
        """A note on images of the same file, if there are any."""
        sentence = "{count} images state the file of another image, which is read once for each (first: {first})"
        return counted_note("images_repeated", self._repeated_images, sentence)

    def notes(self) -> tuple[Note, ...]:
        """Annotations that were left out, categories that were read as ignore regions, and names without a category."""
        notes = []
        if self._others:
            counts = _counted(self._others, "of other categories", self._categories)
            notes.append(
                _category_note("boxes_of_other_categories", self._others, f"left out {counts}", self._categories)
            )
        empty = [f"{self.records.place}[{position}], bbox {shown(box)}" for position, box in self._empty]
        notes += counted_note(
            "boxes_without_area", empty, f"left out {_boxes(len(empty))} without an area (first: {{first}})"
        )
        if self._ignored:
            counts = _counted(self._ignored, "of categories of ignore regions", self._categories)
            notes.append(
                _category_note("boxes_of_ignored_categories", self._ignored, f"ignored {counts}", self._categories)
            )
        absent = [shown(name) for name in self._categories.absent]
        notes += counted_note("categories_not_found", absent, f"no category is named {' or '.join(absent)}")
        return tuple(notes)


def _image_ids(records: Records, images: Records, known: Collection[object] | None) -> list[object]:
    numbers = numbers_of_text_ids(images)
    remedy = f"add the image, or {REMEDY}"
    if not numbers:
        ids = records.ids("image_id", "an integer", REMEDY)
        if known is not None:
            records.require_known_image(ids, set(known), KNOWN_IMAGE_REQUIREMENT, remedy)
        return ids
    values = [row.get("image_id", ABSENT) for row in records.rows]
    records.check(
        '"image_id"', values, lambda value: isinstance(value, str) and value in numbers, KNOWN_IMAGE_REQUIREMENT, remedy
    )
    return [numbers.get(value) if isinstance(value, str) else None for value in values]


def _image_sizes(images: Records, image_ids: Sequence[object] | None) -> dict[object, tuple[object, object]]:
    if image_ids is None:
        return {}
    return {
        id_: (row.get("width"), row.get("height"))
        for id_, row in zip(image_ids, images.rows, strict=True)
        if is_integer(id_)
    }


def _category_ids(records: Records, categories: Categories | None) -> list[int | None]:
    """The category of each annotation, None where it is invalid."""
    values = records.ids("category_id", "an integer", 'correct the "category_id"')
    ids = [int(value) if is_integer(value) else None for value in values]
    if categories is not None:
        unknown = [
            (position, id_)
            for position, id_ in zip(records.positions, ids, strict=True)
            if id_ is not None and not categories.has(id_)
        ]
        records.note('"category_id"', categories.requirement, unknown, categories.remedy)
    return ids


def _is_ignored(row: dict[str, object], category_id: int | None, categories: Categories | None) -> bool:
    """Whether an annotation that is not a person's is an ignore region."""
    if categories is None or category_id is None or category_id in categories.people:
        return False
    # CityPersons: the record says so itself. Exactly 1, because the fields of other categories are not checked.
    return category_id in categories.ignored or row.get("ignore") in (1, True)


def _chosen(values: Sequence[T], chosen: Sequence[bool]) -> list[T]:
    return [value for value, is_chosen in zip(values, chosen, strict=True) if is_chosen]


def _count(ids: Sequence[int | None], chosen: Sequence[bool]) -> Counter[int]:
    return Counter(id_ for id_ in _chosen(ids, chosen) if id_ is not None)


def _category_note(kind: NoteKind, counts: Counter[int], sentence: str, categories: Categories) -> Note:
    return Note(kind, counts.total(), sentence, categories.counted(counts))


def _counted(counts: Counter[int], what: str, categories: Categories) -> str:
    return f"{_boxes(counts.total())} {what}: {listed(categories.counted(counts))}"


def _boxes(count: int) -> str:
    return f"{count:,} box" if count == 1 else f"{count:,} boxes"
