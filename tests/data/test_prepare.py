"""From the configuration to opened stores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.writing import write_annotations
from hkd.config import DataConfig
from hkd.data.prepare import prepare_data
from hkd.data.sources import synthetic
from hkd.data.store import StoreError


def _write_set(folder: Path, name: str, boxes: list[list[float]], **flags: int) -> Path:
    (folder / name).mkdir(parents=True)
    Image.new("RGB", (128, 64)).save(folder / name / "a.png")
    path = folder / f"{name}.json"
    images = [{"id": 1, "file_name": "a.png", "height": 64, "width": 128}]
    write_annotations(path, images, [{"image_id": 1, "bbox": box, **flags} for box in boxes], name)
    return path


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """One image in each set, with two people and none."""
    return DataConfig(
        train_annotations=_write_set(tmp_path, "train", [[10, 10, 20, 50], [60, 10, 20, 50]]),
        validation_annotations=_write_set(tmp_path, "validation", []),
        image_height=64,
        image_width=64,
        max_objects_per_image=2,
        cache_dir=tmp_path / "cache",
    )


@pytest.fixture
def scenes_config(tmp_path: Path) -> DataConfig:
    """A few generated scenes."""
    synthetic_section = {"train_images": 3, "validation_images": 2, "height": 64, "width": 96}
    return DataConfig.model_validate(
        {"synthetic": synthetic_section, "image_height": 64, "image_width": 96, "cache_dir": tmp_path / "cache"}
    )


def test_configured_annotations_are_read(config: DataConfig) -> None:
    data = prepare_data(config, progress=False)
    assert data.config is config
    assert len(data.train_annotations.ignore) == 2
    assert len(data.validation_annotations.ignore) == 0
    for store in (data.train_store, data.validation_store):
        assert store.images.shape == (1, 64, 64, 3)
        assert store.scales.tolist() == [0.5]


def test_image_root_applies_to_both_sets(config: DataConfig, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (tmp_path / "train").rename(moved)
    data = prepare_data(config.model_copy(update={"image_root": moved}), progress=False)
    assert {data.train_annotations.image_root, data.validation_annotations.image_root} == {moved}


def test_problems_of_both_sets_are_reported_together(config: DataConfig, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "train")
    assert isinstance(config.validation_annotations, Path)
    config.validation_annotations.write_text("{}")
    with pytest.raises(AnnotationError) as caught:
        prepare_data(config, progress=False)
    text = str(caught.value)
    assert "train.json: the images' folder" in text
    assert 'validation.json: it must be an object with the lists "images" and "annotations"' in text
    assert not (tmp_path / "cache").exists()


def test_problems_of_one_set_name_its_file(config: DataConfig, tmp_path: Path) -> None:
    config = config.model_copy(update={"train_annotations": tmp_path / "none.json"})
    with pytest.raises(AnnotationError, match=r"none.json: cannot be read .No such file.*`hkd data`"):
        prepare_data(config, progress=False)


def test_too_few_slots_are_rejected_before_training(config: DataConfig) -> None:
    config = config.model_copy(update={"max_objects_per_image": 1})
    with pytest.raises(AnnotationError, match=r"holds 2 boxes, .* set data.max_objects_per_image to at least 2"):
        prepare_data(config, progress=False)


def test_training_set_without_pedestrians_is_rejected(config: DataConfig, tmp_path: Path) -> None:
    path = _write_set(tmp_path / "other", "crowds", [[10, 10, 20, 50]], ignore=1)
    with pytest.raises(AnnotationError, match=r"crowds.json: none of its 1 boxes counts"):
        prepare_data(config.model_copy(update={"train_annotations": path}), progress=False)


def _of_categories(path: str | Path | None, names: list[str]) -> None:
    """Give the boxes of a file these categories, one after the other."""
    assert isinstance(path, Path)
    document = json.loads(path.read_text())
    document["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
    for i, annotation in enumerate(document["annotations"]):
        annotation["category_id"] = i % len(names)
    path.write_text(json.dumps(document))


def test_named_categories_are_people_and_ignore_regions(config: DataConfig) -> None:
    for path in (config.train_annotations, config.validation_annotations):
        _of_categories(path, ["walker", "rider"])
    with pytest.raises(AnnotationError, match=r'"walker", "rider".*data.person_categories'):
        prepare_data(config, progress=False)
    hashes = set()
    for names, ignore in (
        ({"person_categories": ("rider",)}, [False]),
        ({"person_categories": ("rider",), "ignored_categories": ("Walker",)}, [True, False]),
        ({"person_categories": ("rider", "walker")}, [False, False]),
    ):
        data = prepare_data(config.model_copy(update=names), progress=False)
        assert data.train_annotations.ignore.tolist() == ignore
        hashes.add(data.train_annotations.content_hash())
    # What is cached by content, such as teachers, is another one.
    assert len(hashes) == 3


def test_training_set_of_other_categories_is_rejected(config: DataConfig) -> None:
    _of_categories(config.train_annotations, ["car", "person"])
    document = json.loads(Path(str(config.train_annotations)).read_text())
    for annotation in document["annotations"]:
        annotation["category_id"] = 0
    Path(str(config.train_annotations)).write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r'no box of a person.*left out 2 boxes.*"car"'):
        prepare_data(config, progress=False)


def test_generated_scenes_have_the_default_categories(scenes_config: DataConfig) -> None:
    data = prepare_data(scenes_config.model_copy(update={"person_categories": ("rider",)}), progress=False)
    assert not data.train_annotations.ignore.all()


def test_scenes_are_generated_once(scenes_config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_data(scenes_config, progress=False)
    assert first.train_store.images.shape == (3, 64, 96, 3)
    assert first.validation_store.images.shape == (2, 64, 96, 3)
    assert first.train_annotations.path is not None
    folder = first.train_annotations.path.parent
    assert {path.name for path in folder.iterdir()} == {"images", "train.json", "validation.json"}
    # What the store holds is what was drawn: 64 x 96 fits 64 x 96.
    np.testing.assert_array_equal(first.train_store.images[1], synthetic.draw_scene(0, 1, 64, 96).image)

    monkeypatch.setattr(synthetic, "write_scenes", lambda *_, **__: pytest.fail("drawn twice"))
    again = prepare_data(scenes_config, progress=False)
    assert again.train_annotations.content_hash() == first.train_annotations.content_hash()
    assert not list(folder.parent.glob(".*"))


def test_other_scenes_have_another_folder(scenes_config: DataConfig) -> None:
    prepare_data(scenes_config, progress=False)
    other = scenes_config.model_copy(update={"synthetic": scenes_config.synthetic.model_copy(update={"seed": 1})})
    prepare_data(other, progress=False)
    assert len([path for path in scenes_config.cache_dir.glob("scenes-*") if path.is_dir()]) == 2


def test_interrupted_drawing_leaves_no_complete_scenes(
    scenes_config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def interrupted(out_dir: Path, **_: object) -> None:
            (out_dir / "half.png").write_text("half")
            raise KeyboardInterrupt

        patch.setattr(synthetic, "write_scenes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(scenes_config, progress=False)
    path = prepare_data(scenes_config, progress=False).train_annotations.path
    assert path is not None
    assert {entry.name for entry in path.parent.iterdir()} == {"images", "train.json", "validation.json"}


def test_incomplete_scenes_are_drawn_again(scenes_config: DataConfig) -> None:
    path = prepare_data(scenes_config, progress=False).train_annotations.path
    assert path is not None
    content = json.loads(path.read_text())
    path.unlink()
    prepare_data(scenes_config, progress=False)
    assert json.loads(path.read_text()) == content


def test_unwritable_cache_is_reported(scenes_config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write generated scenes to .* name another folder \(data.cache_dir\)"):
        prepare_data(scenes_config, progress=False)
