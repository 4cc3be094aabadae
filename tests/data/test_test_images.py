"""Test images, which neither training nor a search may have seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hkd.coco.annotations import read_annotations
from hkd.config import DataConfig, TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.data.prepare import prepare_data
from hkd.data.test_images import TestImagesError, check_test_files, check_test_pixels, open_test_images
from sweeps.checks import check_files
from tests.data.test_unlabelled import SIZE, footage, write_set


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    """Two images in each of the three sets."""
    folder = tmp_path / "labelled"
    return DataConfig(
        train_annotations=write_set(folder, "train", range(1, 3)),
        validation_annotations=write_set(folder, "val", range(3, 5)),
        test_annotations=write_set(folder, "test", range(5, 7)),
        image_height=SIZE[1],
        image_width=SIZE[0],
        cache_dir=tmp_path / "cache",
    )


def check(config: DataConfig) -> None:
    check_files(TrialConfig(data=config, teacher=None), check_images=True, print_line=lambda _: None)


def test_test_images_are_read_and_decoded(config: DataConfig) -> None:
    check(config)
    test = open_test_images(config, progress=False)
    assert test is not None
    assert [image.file_name for image in test.annotations.images] == ["test5.png", "test6.png"]
    assert test.store.images.shape == (2, SIZE[1], SIZE[0], 3)
    check_test_pixels(test, prepare_data(config, progress=False))
    assert open_test_images(config.model_copy(update={"test_annotations": None})) is None


@pytest.mark.parametrize(("original", "kind"), [("train1", "training"), ("val4", "validation")])
def test_file_of_another_set_is_refused(config: DataConfig, tmp_path: Path, original: str, kind: str) -> None:
    folder = tmp_path / "labelled"
    (folder / "test6.png").write_bytes((folder / f"{original}.png").read_bytes())
    with pytest.raises(TestImagesError, match=rf"data\.test_annotations.*1 test image .* a {kind} image.*test6\.png"):
        check(config)


def test_unlabelled_image_is_refused(config: DataConfig, tmp_path: Path) -> None:
    frames = tmp_path / "footage"
    frames.mkdir()
    (frames / "a.png").write_bytes((tmp_path / "labelled" / "test5.png").read_bytes())
    config = config.model_copy(update={"unlabelled_images": frames})
    assert footage(config) == frames
    with pytest.raises(TestImagesError, match="an unlabelled image"):
        check_files(
            TrialConfig(data=config.model_copy(update={"unlabelled_fraction": 0.5})),
            check_images=True,
            print_line=lambda _: None,
        )


@pytest.mark.parametrize(("original", "kind"), [("train2", "training"), ("val3", "validation")])
def test_pixels_of_another_set_are_refused(config: DataConfig, tmp_path: Path, original: str, kind: str) -> None:
    folder = tmp_path / "labelled"
    # The same pixels in another file.
    Image.open(folder / f"{original}.png").save(folder / "test5.png", compress_level=1)
    assert (folder / "test5.png").read_bytes() != (folder / f"{original}.png").read_bytes()
    assert isinstance(config.test_annotations, Path)
    assert isinstance(config.train_annotations, Path)
    check_test_files(read_annotations(config.test_annotations), training=read_annotations(config.train_annotations))
    test = open_test_images(config, progress=False)
    assert test is not None
    with pytest.raises(TestImagesError, match=rf"1 test image with the pixels of a {kind} image: .*test5.*{original}"):
        check_test_pixels(test, prepare_data(config, progress=False))


def test_problems_of_test_annotations_are_reported_with_those_of_others(config: DataConfig) -> None:
    for path in (config.train_annotations, config.test_annotations):
        assert isinstance(path, Path)
        path.write_text("{}")
    with pytest.raises(ValueError, match=r"(?s)train\.json.*test\.json"):
        check(config)


def test_generated_scenes_have_no_test_images(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="test_annotations is set without train_annotations"):
        parse_config(TrialConfig, {"data": {"test_annotations": str(tmp_path / "test.json")}}, source="x")


def test_teacher_is_not_pretrained_with_test_images(config: DataConfig) -> None:
    assert config.with_generated_scenes().test_annotations is None
