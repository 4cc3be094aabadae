from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hkd.coco.annotations import read_annotations
from hkd.coco.categories import CategoryNames
from hkd.coco.parsing.errors import AnnotationError
from hkd.config import TrialConfig
from hkd.config_files.parsing import load_config, parse_config
from hkd.config_files.yaml_format import parse_yaml
from hkd.proposal.start import prepare_start, study_name, write_start
from sweeps.settings.study import load_study
from tests.proposal.photographs import PERSON, document, write_json, write_photographs

NAMES = [f"IMG_{number}.png" for number in range(10)]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten photographs in photos/, and mine.json in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_photographs(tmp_path / "photos", NAMES)
    return write_json(Path("mine.json"), document(NAMES))


def _problems(*arguments: Path, **options: object) -> str:
    with pytest.raises(AnnotationError) as caught:
        prepare_start(*arguments, **options)  # type: ignore[arg-type]
    return "\n".join(caught.value.located_problems)


def test_written_folder_is_read_back(mine: Path) -> None:
    start = prepare_start(mine, Path("start"), image_root=Path("photos"))
    assert not Path("start").exists()
    write_start(start)
    assert sorted(path.name for path in Path("start").iterdir()) == [
        "study.yaml",
        "train.json",
        "train.yaml",
        "validation.json",
    ]
    train, validation = (read_annotations(Path("start") / name) for name in ("train.json", "validation.json"))
    assert (len(train.images), len(validation.images)) == (8, 2)
    assert {image.image_id for image in train.images} | {image.image_id for image in validation.images} == set(
        range(1, 11)
    )
    assert validation.boxes_xywh.tolist() == [list(PERSON)] * 2
    config = load_config("start/train.yaml")
    assert config.is_distilled
    assert config.data.train_annotations == Path("start/train.json")
    assert config.data.image_root == Path("photos")
    # One person of 72 of 96 pixels: 64 x 96 gives 0.667 and 48 pixels, exactly enough. (64 * 4 / 3 = 85.3 -> 96.)
    assert (config.data.image_height, config.data.image_width) == (64, 96)
    assert load_study(Path("start/study.yaml")).base == config


def test_values_follow_the_data(mine: Path) -> None:
    # The fullest image has 50 boxes: 1.25 * 50 = 62.5 slots, 64 as a multiple of 8. Twice 50 people need 100 proposals,
    # 128 as a multiple of 64. 62.5 detections are below the default of 100.
    crowd = document(NAMES)
    crowd["annotations"] += [
        {"id": number, "image_id": 3, "category_id": 1, "bbox": list(PERSON), "iscrowd": 0} for number in range(49)
    ]
    start = prepare_start(write_json(mine, crowd), Path("start"), image_root=Path("photos"))
    config = parse_config(TrialConfig, parse_yaml(start.contents[Path("start/train.yaml")], ""), source="")
    assert config.teacher is not None
    assert config.data.max_objects_per_image == 64
    assert config.student.proposals_per_image == config.teacher.proposals_per_image == 128
    assert config.evaluation.max_detections_per_image == 100
    assert config.student.anchor_aspect_ratios == (2.4,)
    # sqrt(30 * 72) * 2 / 3 = 30.98 at p2, and 1.8 ** 4 times as much at p6.
    assert [list(part.anchor_sizes) for part in (config.student, config.teacher)] == [[31, 56, 100, 181, 325]] * 2
    # Eight images fill one batch: the most epochs.
    assert (config.training.batch_size, config.training.total_epochs) == (8, 60)


def test_same_command_again_changes_nothing_and_another_is_refused(mine: Path) -> None:
    write_start(prepare_start(mine, Path("start"), image_root=Path("photos")))
    before = {path: path.stat().st_mtime_ns for path in Path("start").iterdir()}
    write_start(prepare_start(mine, Path("start"), image_root=Path("photos")))
    assert {path: path.stat().st_mtime_ns for path in Path("start").iterdir()} == before
    with pytest.raises(AnnotationError, match=r"train.json' exists with another content.*--out"):
        write_start(prepare_start(mine, Path("start"), image_root=Path("photos"), seed=1))
    assert {path: path.stat().st_mtime_ns for path in Path("start").iterdir()} == before


def test_files_of_others_are_not_overwritten(mine: Path) -> None:
    write_json(Path("start/train.json"), {"mine": True})
    Path("start/study.yaml").symlink_to("nowhere")
    os.mkfifo("start/validation.json")
    start = prepare_start(mine, Path("start"), image_root=Path("photos"))
    with pytest.raises(AnnotationError) as caught:
        write_start(start)
    assert [problem.split("'")[1] for problem in caught.value.problems] == [
        "start/train.json",
        "start/validation.json",
        "start/study.yaml",
    ]
    assert json.loads(Path("start/train.json").read_text()) == {"mine": True}
    assert Path("start/study.yaml").readlink() == Path("nowhere")
    assert not Path("start/train.yaml").exists()


def test_images_in_other_folders_are_found_and_named(mine: Path) -> None:
    names = [f"C:/shoot/{name}" if number == 0 else f"day1/{name}" for number, name in enumerate(NAMES)]
    write_json(mine, document([name.removeprefix("C:/") for name in names]))
    start = prepare_start(mine, Path("start"), image_root=Path("photos"))
    written = json.loads(start.contents[Path("start/train.json")])["images"]
    assert {image["file_name"] for image in written} <= set(NAMES)
    assert [(note.kind, note.count) for note in start.notes] == [("images_found_elsewhere", 10)]


def test_missing_images_are_an_error_or_left_out(mine: Path) -> None:
    Path("photos/IMG_3.png").unlink()
    message = _problems(mine, Path("start"), image_root=Path("photos"))
    for fact in ("mine.json", "1 of its 10 images", "'IMG_3.png'", "--images", "--skip-missing"):
        assert fact in message
    start = prepare_start(mine, Path("start"), image_root=Path("photos"), skip_missing=True)
    assert start.proposal.survey.num_images == 9
    assert start.proposal.survey.num_people == 9
    assert [(note.kind, note.count, note.examples) for note in start.notes] == [("images_missing", 1, ("IMG_3.png",))]


def test_wrong_folder_of_images_is_named_with_what_it_holds(mine: Path) -> None:
    write_photographs(Path("other"), ["x.png", "y.png"])
    message = _problems(mine, Path("start"), image_root=Path("other"))
    for fact in ("none of its 10 images", "'other'", "2 image files", "'IMG_0.png'", "--images"):
        assert fact in message
    assert "there is no folder 'absent'" in _problems(mine, Path("start"), image_root=Path("absent"))


def test_root_of_the_file_system_is_searched_only_if_the_user_names_it(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(mine, document(NAMES) | {"info": {"image_root": "/"}})
    monkeypatch.setattr("hkd.proposal.sources.image_files", lambda _: pytest.fail("searched"))
    message = _problems(mine, Path("start"))
    assert "'/'" in message
    assert "--images" in message


def test_problems_of_all_files_are_reported_together(mine: Path) -> None:
    write_photographs(Path("photos"), ["v.png"])
    wrong = document(["v.png"])
    wrong["images"][0]["width"] = 60
    validation = write_json(Path("val.json"), wrong)
    Path("photos/IMG_3.png").unlink()
    Path("start").touch()
    message = _problems(mine, Path("start"), validation=validation, image_root=Path("photos"))
    for fact in ("mine.json: 1 of its 10", "val.json: image 1 'photos/v.png' is 128 x 96", "'start' is not a folder"):
        assert fact in message


def test_folders_that_yaml_cannot_name_are_refused(mine: Path) -> None:
    message = _problems(mine, Path("start\udcff"), image_root=Path("photos\udcff"))
    assert "--out: the name" in message
    assert "--images: the name" in message


def test_dangling_link_is_not_followed(mine: Path) -> None:
    Path("start").symlink_to("elsewhere")
    assert "'start' is not a folder" in _problems(mine, Path("start"), image_root=Path("photos"))


def test_two_files_need_no_split(mine: Path) -> None:
    write_photographs(Path("photos"), ["v.png"])
    validation = write_json(Path("val.json"), document(["v.png", "IMG_0.png"]))
    start = prepare_start(mine, Path("start"), validation=validation, image_root=Path("photos"))
    assert (start.proposal.num_train_images, start.proposal.num_validation_images) == (10, 2)
    assert [(note.kind, note.count, note.examples) for note in start.notes] == [
        ("images_in_both_splits", 1, ("IMG_0.png",))
    ]


def test_folder_above_both_files_is_their_root(mine: Path) -> None:
    for split in ("train", "val"):
        write_photographs(Path(split), ["a.png"])
        write_json(Path(split) / "labels.json", document(["a.png"]))
    start = prepare_start(Path("train/labels.json"), Path("start"), validation=Path("val/labels.json"))
    names = [
        json.loads(start.contents[Path("start") / name])["images"][0]["file_name"]
        for name in ("train.json", "validation.json")
    ]
    assert names == ["train/a.png", "val/a.png"]


def test_file_without_people_is_refused(mine: Path) -> None:
    assert "0 of 10 images have people" in _problems(
        write_json(mine, document(NAMES, annotations=[])), Path("start"), image_root=Path("photos")
    )


def test_categories_are_kept_ignored_and_left_out(mine: Path) -> None:
    names = ("walker", "person", "car", "crowd")
    mixed = document(NAMES, boxes=[PERSON] * 4, categories=[{"id": i, "name": name} for i, name in enumerate(names)])
    for place, annotation in enumerate(mixed["annotations"]):
        annotation["category_id"] = place % 4
    named = CategoryNames(("Walker",), ("crowd",))
    start = prepare_start(write_json(mine, mixed), Path("start"), image_root=Path("photos"), named=named)
    assert (start.proposal.survey.num_people, start.proposal.survey.num_ignored) == (10, 10)
    assert {note.kind: note.count for note in start.notes if note.kind.startswith("boxes")} == {
        "boxes_of_other_categories": 20,
        "boxes_of_ignored_categories": 10,
    }
    written = json.loads(start.contents[Path("start/train.json")])
    assert written["categories"] == [{"id": 1, "name": "pedestrian"}]
    assert [annotation["ignore"] for annotation in written["annotations"]] == [0, 1] * 8


def test_reasonable_people_stay_the_objective_of_a_small_set(mine: Path) -> None:
    # Per image one reasonable person and one of 30 pixels: in the two validation images 2 of 4 people, half of all.
    both = write_json(mine, document(NAMES, boxes=[PERSON, (60, 10, 12, 30)]))
    start = prepare_start(both, Path("start"), image_root=Path("photos"))
    assert (start.proposal.objective, start.proposal.objective_people) == ("mr2_reasonable", 2)
    # One of three is less than half.
    three = write_json(mine, document(NAMES, boxes=[PERSON, (60, 10, 12, 30), (90, 10, 12, 30)]))
    start = prepare_start(three, Path("start"), image_root=Path("photos"))
    assert (start.proposal.objective, start.proposal.objective_people) == ("mr2_all", 6)


def test_subset_of_few_people_is_not_the_objective(mine: Path) -> None:
    # Ten reasonable people and 100 of 30 pixels in each image: 20 of 220 in the two validation images, a share of 9 %.
    crowd = write_json(mine, document(NAMES, boxes=[PERSON] * 10 + [(60, 10, 12, 30)] * 100))
    start = prepare_start(crowd, Path("start"), image_root=Path("photos"))
    assert (start.proposal.objective, start.proposal.objective_people) == ("mr2_all", 220)


def test_people_too_small_for_any_miss_rate_are_named(mine: Path) -> None:
    small = write_json(mine, document(NAMES, boxes=[(10, 10, 6, 15)]))
    message = _problems(small, Path("start"), image_root=Path("photos"))
    assert "at least 20 pixels high" in message
    assert "15 pixels" in message


def test_small_people_make_the_study_minimise_the_miss_rate_on_all(mine: Path) -> None:
    small = write_json(mine, document(NAMES, boxes=[(10, 10, 12, 30)]))
    start = prepare_start(small, Path("start"), image_root=Path("photos"))
    assert start.proposal.objective == "mr2_all"
    assert "objectives: [mr2_all, num_params, flops]" in start.contents[Path("start/study.yaml")]


@pytest.mark.parametrize("folder", ["my data", "ünter", "a: b # c", "null", "1e3", "a'b\"c"])
def test_any_folder_names_are_read_back(mine: Path, folder: str) -> None:
    Path("photos").rename(folder)
    out = Path(folder) / "out"
    write_start(prepare_start(mine, out, image_root=Path(folder)))
    config = load_config(out / "train.yaml")
    assert config.data.image_root == Path(folder)
    assert config.data.train_annotations == out / "train.json"
    assert load_study(out / "study.yaml").name == "out"


@pytest.mark.parametrize(
    ("folder", "name"),
    [("hkd-start", "hkd-start"), ("my data!", "my-data"), ("teachers", "hkd-start"), ("...", "hkd-start")],
)
def test_study_is_named_by_its_folder(folder: str, name: str) -> None:
    assert study_name(Path("/a") / folder) == name


@pytest.mark.parametrize(("few_images", "backbone"), [(True, "resnet18"), (False, "resnet34")])
def test_students_first_weights_are_of_the_teacher(
    mine: Path, monkeypatch: pytest.MonkeyPatch, few_images: bool, backbone: str
) -> None:
    monkeypatch.setattr("hkd.proposal.settings.FEW_IMAGES", 100 if few_images else 5)
    write_start(prepare_start(mine, Path("start"), image_root=Path("photos")))
    config = load_study(Path("start/study.yaml")).base
    assert config.teacher is not None
    assert (config.teacher.backbone, config.student.init_from) == (backbone, "teacher")


def test_torchvision_teacher_may_replace_the_section_as_the_comment_says(mine: Path) -> None:
    text = prepare_start(mine, Path("start"), image_root=Path("photos")).contents[Path("start/train.yaml")]
    comment = " ".join(line.strip(" #") for line in text.splitlines() if line.lstrip().startswith("#"))
    assert "torchvision: FILE" in comment
    assert "student.init_from must then be null" in comment
    raw = parse_yaml(text, "")
    assert isinstance(raw, dict)
    raw["teacher"] = {"torchvision": "detector.pth"}
    with pytest.raises(ValueError, match="student.init_from"):
        parse_config(TrialConfig, raw, source="")
    raw["student"]["init_from"] = None
    config = parse_config(TrialConfig, raw, source="")
    assert config.teacher is not None
    assert config.teacher.backbone == "resnet50"
