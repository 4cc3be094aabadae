"""Writing of annotation files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hkd.coco.categories import PEDESTRIAN_ID
from hkd.files import write_all_atomically


def annotation_document(
    images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], image_root: str
) -> dict[str, Any]:
    """A COCO JSON document of pedestrians.

    Args:
        images: each with ``id``, ``file_name``, ``height``, ``width``.
        annotations: each with ``image_id`` and ``bbox``. Defaults of other keys: ids from 1; category pedestrian;
            ``vis_ratio`` 1 unless there is a ``vis_bbox``, from which readers derive it; ``height`` of the box; neither
            ignored nor a crowd.
        image_root: folder of the images, relative to the file that will hold the document, or absolute.
    """
    return {
        "info": {"image_root": image_root},
        "images": [dict(image) for image in images],
        "categories": [{"id": PEDESTRIAN_ID, "name": "pedestrian"}],
        "annotations": [
            {
                "id": number,
                "category_id": PEDESTRIAN_ID,
                **({} if "vis_bbox" in annotation else {"vis_ratio": 1}),
                "height": annotation["bbox"][3],
                "ignore": 0,
                "iscrowd": 0,
                **annotation,
            }
            for number, annotation in enumerate(annotations, 1)
        ],
    }


def write_annotations(
    path: Path, images: Sequence[Mapping[str, Any]], annotations: Sequence[Mapping[str, Any]], image_root: str
) -> None:
    """Write :func:`annotation_document` to ``path`` atomically."""
    write_documents({path: annotation_document(images, annotations, image_root)})


def write_documents(documents: Mapping[Path, Mapping[str, Any]]) -> None:
    """Write each document to its path; an error while writing one leaves all paths unchanged."""
    write_all_atomically({path: json.dumps(document, allow_nan=False) for path, document in documents.items()})
