from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from hkd.evaluation.errors import EvaluationInputError
from hkd.evaluation.formats import protocol_files
from hkd.evaluation.formats.protocol_files import load_protocol
from hkd.evaluation.protocols import ACF, CALTECH, CITYPERSONS, PROTOCOLS, Interval, Protocol

# dbEval's rules, as one would write them down.
CALTECH_FILE = """\
name: caltech
subsets:
  - {name: reasonable, height: [50, null], visibility: [0.65, null]}
  - {name: all, height: [20, .inf], visibility: [0.2, .inf]}
  - {name: scale_large, height: [100, null], visibility: [.inf, null]}
  - {name: scale_near, height: [80, null], visibility: [.inf, null]}
  - {name: scale_medium, height: [30, 80], height_includes_high: false, visibility: [.inf, null]}
  - {name: occ_none, height: [50, null], visibility: [.inf, null]}
  - {name: occ_partial, height: [50, null], visibility: [0.65, 1]}
  - {name: occ_heavy, height: [50, null], visibility: [0.2, 0.65]}
counted_labels: [person]
ignored_labels: ["person?", people, ignore]
border_xyxy: [5, 5, 635, 475]
truth_aspect_ratio: 0.41
detection_aspect_ratio: 0.41
unoccluded_visibility: .inf
"""


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems_of(path: Path | str) -> tuple[str, ...]:
    with pytest.raises(EvaluationInputError) as caught:
        load_protocol(path)
    return caught.value.problems


@pytest.mark.parametrize("name", PROTOCOLS)
def test_built_in_protocols_are_found_by_name(name: str) -> None:
    assert load_protocol(name) is PROTOCOLS[name]


def test_files_can_define_built_in_protocols(tmp_path: Path) -> None:
    assert load_protocol(write(tmp_path, CALTECH_FILE)) == CALTECH
    acf = """\
        name: acf
        subsets: [{name: reasonable, height: [50, null], visibility: [0.65, 1]}]
        height_filter_ratio: null
        counted_labels: [person]
        ignored_labels: [people]
        border_xyxy: [5, 5, 635, 475]
        truth_aspect_ratio: 0.41
        rounds_boxes: true
        unoccluded_visibility: 1
        visibility_of_equal_boxes: 0"""
    assert load_protocol(str(write(tmp_path, acf, "acf.yml"))) == ACF
    points = ", ".join(str(point) for point in CITYPERSONS.fppi_points)
    citypersons = f"""\
        subsets:
        - {{name: reasonable, height: [50, null], visibility: [0.65, null]}}
        - {{name: small, height: [50, 75], visibility: [0.65, null]}}
        - {{name: heavy, height: [50, null], visibility: [0.2, 0.65]}}
        - {{name: all, height: [20, null], visibility: [0.2, null]}}
        fppi_points: [{points}]
        max_detections_per_image: 1000
        miss_rate_floor: 0"""
    assert load_protocol(write(tmp_path, citypersons, "citypersons.yaml")) == CITYPERSONS


def test_only_subsets_are_required(tmp_path: Path) -> None:
    protocol = load_protocol(write(tmp_path, "subsets: [{name: tall, height: [100, 200]}]", "tall_people.yaml"))
    assert protocol.name == "tall_people"
    (subset,) = protocol.subsets
    assert (subset.name, subset.height_range, subset.visibility_range) == ("tall", Interval(100, 200), Interval(0))
    assert protocol.iou_threshold == 0.5
    assert protocol.height_filter_ratio == 1.25
    assert protocol.miss_rate_floor == 1e-10
    assert protocol.fppi_points == CALTECH.fppi_points


def test_all_mistakes_of_file_are_reported_together(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
subsets:
  - {name: "half/whole", height: [50, null]}
  - {name: tall, height: [200, 100]}
  - {name: wide, width: [1, 2]}
iou_threshold: 1.5
border: [0, 0, 1, 1]
unoccluded_visibility: .nan
fppi_points: [0]
""",
    )
    problems = problems_of(path)
    assert all(problem.startswith(f"{path}: ") for problem in problems)
    text = "\n".join(problems)
    for words in (
        "subsets[0].name: found",
        "subsets[1]: height needs its lower bound first, found [200, 100]",
        "subsets[2].width: unknown key",
        "subsets[2].height: missing",
        "iou_threshold: found 1.5",
        "border: unknown key; did you mean border_xyxy?",
        "unoccluded_visibility: found",
        "fppi_points[0]: found 0",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "subsets: missing"),
        ("- 1", "allowed: a mapping"),
        ("subsets: [", "not valid YAML"),
        ("subsets: !!python/object/apply:os.getcwd []", "not valid YAML"),
        ("subsets: []", "subsets"),
        ("subsets: [{name: a, height: [1, 2]}, {name: a, height: [1, 3]}]", "distinct names of subsets"),
        ("subsets: [{name: a, height: [1, 2]}]\nfppi_points: [1, 0.1]", "ascending fppi_points"),
        ("subsets: [{name: a, height: [1, 2]}]\nborder_xyxy: [5, 5, 1, 9]", "left < right"),
        ("subsets: [{name: a, height: [1, 2]}]\nvisibility_of_equal_boxes: 0", "needs unoccluded_visibility"),
    ],
)
def test_inconsistent_protocol_is_reported(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("border_xyxy: [5, 5]", [f"border_xyxy[{i}]: missing; allowed: number" for i in (2, 3)]),
        ("border_xyxy: [5]", [f"border_xyxy[{i}]: missing; allowed: number" for i in (1, 2, 3)]),
        ("border_xyxy: 5", ["border_xyxy: found 5 (int); allowed: list of 4 x number or null"]),
        ("border_xyxy: [1, 2, 3, x]", ['border_xyxy[3]: found "x" (str); allowed: number']),
    ],
)
def test_fixed_length_list_is_reported_with_allowed_items(text: str, problems: list[str], tmp_path: Path) -> None:
    path = write(tmp_path, f"{text}\nsubsets: [{{name: a, height: [1, 2]}}]")
    assert problems_of(path) == tuple(f"{path}: {problem}" for problem in problems)


def test_incomplete_range_is_reported_with_allowed_bounds(tmp_path: Path) -> None:
    path = write(tmp_path, "subsets: [{name: a, height: [1]}, {name: b, height: 5}]")
    assert problems_of(path) == (
        f"{path}: subsets[0].height[1]: missing; allowed: number >= 0 or null",
        f"{path}: subsets[1].height: found 5 (int); allowed: [number >= 0, number >= 0 or null]",
    )


@pytest.mark.parametrize("tagged", ["!!bool foo", "!!timestamp foo", "!!float ''", "!!int ''"])
def test_value_that_does_not_match_its_tag_is_reported(tagged: str, tmp_path: Path) -> None:
    (problem,) = problems_of(write(tmp_path, f"subsets: [{{name: a, height: [1, 2]}}]\nname: {tagged}"))
    assert "not valid YAML" in problem


def test_unknown_protocol_is_reported(tmp_path: Path) -> None:
    (problem,) = problems_of("cityperson")
    assert "name one of: acf, caltech, citypersons, citypersons_extended, kaist; or a YAML file of your own" in problem
    (problem,) = problems_of(tmp_path / "absent.yaml")
    assert "no such file" in problem


def test_documentation_lists_every_key() -> None:
    documentation = protocol_files.__doc__ or ""
    assert all(f"    {field.name}:" in documentation for field in fields(Protocol))


def test_guide_states_every_key_with_its_default(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    example = guide.partition("```yaml\n")[2].partition("```")[0]
    shown = load_protocol(write(tmp_path, example))
    assert all(f"\n{field.name}:" in f"\n{example}" for field in fields(Protocol))
    assert shown == load_protocol(write(tmp_path, "subsets: [{name: reasonable, height: [50, null]}]"))
