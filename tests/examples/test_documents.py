"""The example of the annotation format in docs/data_sets.md is read as the document says."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hkd.coco.annotations import parse_annotations
from tests.conftest import REPOSITORY


def test_annotation_example_is_valid() -> None:
    guide = (REPOSITORY / "docs" / "data_sets.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", guide, flags=re.DOTALL)
    annotations = parse_annotations(json.loads(example), Path("folder/train.json"), check_images=False)
    assert annotations.image_root == Path("folder/images")
    assert annotations.ignore.tolist() == [False, True]
    # The visible part has half of the height and all of the width: 61 of 122 pixels.
    assert annotations.annotated.visibilities.tolist() == [0.5, 1.0]
    assert annotations.annotated.labels() == ["", "people"]
