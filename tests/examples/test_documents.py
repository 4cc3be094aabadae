"""Examples and references in docs/ are correct."""

from __future__ import annotations

import ast
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


def test_every_test_that_the_security_page_names_exists() -> None:
    page = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", page)
    assert named
    missing = []
    for file, function in named:
        source = (REPOSITORY / file).read_text(encoding="utf-8") if (REPOSITORY / file).is_file() else ""
        functions = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        if not source or (function and function not in functions):
            missing.append(f"{file}::{function}")
    assert not missing
