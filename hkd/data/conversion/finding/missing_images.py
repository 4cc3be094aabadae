"""Annotated images that are not on the disk: one of several archives was not downloaded, or some files are lost.

Every converter that needs images follows one rule: some missing images of a split are a problem, or are left out and
counted with ``--skip-missing``; a split without any image is left out and noted; no image at all is a problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hkd.coco.notes import Note, counted_note
from hkd.data.conversion.splits import Split
from hkd.image_files.listing import is_file

INCOMPLETE_SET = "miss rates are not those of the complete data set, and results files that number images do not fit"
_EXAMPLES = 3


def missing_images_problem(missing: Sequence[str], num_images: int, where: str, place: str) -> str:
    """The sentence for a split of which some images are missing.

    Args:
        missing: Their names.
        num_images: Number of all images of the split.
        where: Annotation file or split.
        place: Where the images are expected, as "in 'FOLDER'".
    """
    named = ", ".join(f"'{name[:200]}'" for name in missing[:_EXAMPLES])
    more = f" and {len(missing) - _EXAMPLES:,} more" if len(missing) > _EXAMPLES else ""
    return (
        f"{where}: {len(missing):,} of its {num_images:,} images are not {place}: {named}{more}; add them, or leave"
        " them and their boxes out with --skip-missing"
    )


def leave_out_missing_images(
    splits: Sequence[Split], image_root: Path, skip_missing: bool, problems: list[str]
) -> tuple[list[Split], list[Note]]:
    """Leave out splits without any image, and with ``skip_missing`` also single images, which are a problem otherwise.

    Ids of the other images do not change, so that detections on them remain valid. No image at all is a problem.

    Returns:
        The splits, and a note on each of them that is not complete.
    """
    kept = []
    notes = []
    for split in splits:
        present = {image["id"] for image in split.images if _is_present(image_root, image["file_name"])}
        missing = [image for image in split.images if image["id"] not in present]
        if not missing:
            kept.append(split)
        elif not present:
            sentence = f"left out, because none of its {len(missing)} images is in '{image_root}'"
            notes.append(Note("splits_missing", 1, sentence, split=split.name))
        else:
            names = [image["file_name"] for image in missing]
            if not skip_missing:
                problems.append(missing_images_problem(names, len(split.images), split.name, f"in '{image_root}'"))
            notes += counted_note(
                "images_missing",
                names,
                f"left out {{count}} of {len(split.images)} images, which are not in '{image_root}' (first: {{first}})"
                f"; {INCOMPLETE_SET}",
                split.name,
            )
            images = [image for image in split.images if image["id"] in present]
            boxes = [record for record in split.annotations if record["image_id"] in present]
            kept.append(replace(split, images=images, annotations=boxes))
    if splits and not kept and not problems:
        first = splits[0].images[0]["file_name"]
        count = sum(len(split.images) for split in splits)
        problems.append(f"none of the {count} annotated images is in '{image_root}' (first: {first}); put them there")
        return list(splits), []
    return kept, notes


def _is_present(image_root: Path, file_name: str) -> bool:
    # Names that leave the folder remain for the checks to report.
    return ".." in PurePosixPath(file_name).parts or is_file(image_root / file_name)
