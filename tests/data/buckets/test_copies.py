"""Data sets by ``file://``: which version is used, and what is fetched when. The rules are those of any bucket."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hkd.coco.parsing.errors import AnnotationError
from hkd.config import DataConfig
from hkd.data.buckets import copies, fetching
from hkd.data.buckets.copies import DataCopy
from hkd.data.buckets.listing import BucketDataError, ListedImage, list_all
from hkd.data.locations import copies_of, known_files, planned_fetches, with_versions, with_versions_of
from hkd.data.prepare import prepare_data
from hkd.data.test_images import open_test_images
from tests.data.test_unlabelled import SIZE, write_image, write_set

NAMES = ["train1.png", "train2.png", "train3.png"]


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """Three training, two validation and one test image, and two unlabelled ones."""
    for name, seeds in (("train", range(1, 4)), ("val", range(4, 6)), ("test", range(6, 7))):
        write_set(tmp_path / "bucket", name, seeds)
    for name, seed in (("one/frame1.png", 101), ("frame0.jpg", 103)):
        write_image(tmp_path / "bucket" / "footage" / name, seed)
    return tmp_path / "bucket"


def config_of(bucket: Path, cache_dir: Path, **changes: Any) -> DataConfig:
    uri = bucket.as_uri()
    return DataConfig.model_validate(
        {
            "train_annotations": f"{uri}/train.json",
            "validation_annotations": f"{uri}/val.json",
            "image_height": SIZE[1],
            "image_width": SIZE[0],
            "cache_dir": cache_dir,
            **changes,
        }
    )


@pytest.fixture
def config(bucket: Path, tmp_path: Path) -> DataConfig:
    return config_of(bucket, tmp_path / "cache")


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that were fetched."""
    names: list[str] = []
    download = fetching._download_image

    def recorded(copy: DataCopy, image: ListedImage, *others: Any) -> None:
        names.append(image.name)
        download(copy, image, *others)

    monkeypatch.setattr(fetching, "_download_image", recorded)
    return names


def rewrite(path: Path, content: bytes) -> None:
    """Change a file, and its time, whatever the clock's resolution is."""
    changed_at = path.stat().st_mtime_ns + 10**9
    path.write_bytes(content)
    os.utime(path, ns=(changed_at, changed_at))


def test_data_set_has_the_content_of_the_same_one_in_a_folder(bucket: Path, config: DataConfig, tmp_path: Path) -> None:
    named = ("test_annotations", "unlabelled_images")
    uris = {name: f"{bucket.as_uri()}/{part}" for name, part in zip(named, ("test.json", "footage"), strict=True)}
    paths = {
        "train_annotations": bucket / "train.json",
        "validation_annotations": bucket / "val.json",
        "test_annotations": bucket / "test.json",
        "unlabelled_images": bucket / "footage",
    }
    remote, local = config.model_copy(update=uris), config.model_copy(update=paths)
    contents = []
    for each in (remote, local):
        data, test = prepare_data(each, progress=False), open_test_images(each, progress=False)
        assert data.unlabelled is not None
        assert test is not None
        stores = (data.train_store, data.validation_store, data.unlabelled.store, test.store)
        hashes = [sets.content_hash() for sets in (data.train_annotations, data.unlabelled.annotations)]
        contents.append([*(store.checksum for store in stores), *hashes])
    assert contents[0] == contents[1]


def test_only_named_images_are_fetched_and_once(
    bucket: Path, config: DataConfig, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(bucket / "other.png", 7)
    prepare_data(config, progress=False)
    assert sorted(fetched) == [*NAMES, "val4.png", "val5.png"]
    pinned = with_versions(config)
    shutil.rmtree(bucket)
    # Without a request: the bucket may be away.
    prepare_data(pinned, progress=False)
    assert len(fetched) == 5
    assert known_files(pinned.train_annotations or "", pinned) is not None
    assert known_files(config.train_annotations or "", config) is None


def test_interrupted_fetch_is_resumed(
    bucket: Path, config: DataConfig, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "CONNECTIONS", 1)
    with monkeypatch.context() as patches:
        download = fetching._download_image

        def interrupted(copy: DataCopy, image: ListedImage, *others: Any) -> None:
            if image.name == "train2.png":
                # As left by a killed process.
                (copy.images / f".{image.name}.1-0123456789abcdef").write_bytes(b"part")
                raise KeyboardInterrupt
            download(copy, image, *others)

        patches.setattr(fetching, "_download_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_data(config, progress=False)
    assert "train1.png" in fetched
    prepare_data(config, progress=False)
    assert sorted(fetched) == [*NAMES, "val4.png", "val5.png"]
    copy = copies_of(config)["train_annotations"]
    assert sorted(path.name for path in copy.images.iterdir()) == NAMES


def test_processes_of_a_node_fetch_together(config: DataConfig, fetched: list[str]) -> None:
    # Threads, each with a lock of its own as processes have.
    copy = copies_of(config)["train_annotations"]
    threads = [threading.Thread(target=fetching.fetch, args=(copy,), kwargs={"progress": False}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == NAMES
    assert copy.is_complete()


def test_other_node_refuses_data_that_has_changed(bucket: Path, config: DataConfig, tmp_path: Path) -> None:
    pinned = with_versions(config)
    prepare_data(pinned, progress=False)
    before = pinned.model_copy(update={"cache_dir": tmp_path / "other_node"})
    rewrite(bucket / "train2.png", (bucket / "train3.png").read_bytes())
    with pytest.raises(BucketDataError) as raised:
        prepare_data(before, progress=False)
    message = str(raised.value)
    assert f"{bucket.as_uri()}/train.json: has changed" in message
    assert "'train2.png'" in message  # the newest
    assert "val.json" not in message
    # This node continues with what it has; a new study uses the new images.
    assert prepare_data(pinned, progress=False).train_store.checksum
    assert prepare_data(config, progress=False).train_store.checksum


def test_new_version_fetches_only_what_has_changed(bucket: Path, config: DataConfig, fetched: list[str]) -> None:
    old = prepare_data(config, progress=False)
    fetched.clear()
    rewrite(bucket / "train2.png", (bucket / "val4.png").read_bytes())
    new = prepare_data(config, progress=False)
    assert fetched == ["train2.png"]
    assert new.train_store.checksum != old.train_store.checksum
    assert new.validation_store.checksum == old.validation_store.checksum
    assert (new.train_store.images[[0, 2]] == old.train_store.images[[0, 2]]).all()


@pytest.mark.parametrize("change", ["content", "removal", "size"])
def test_data_that_changes_while_it_is_fetched_is_refused(
    bucket: Path, config: DataConfig, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    copy = copies_of(config)["train_annotations"]
    download = fetching._download

    def changed_meanwhile(*arguments: Any) -> None:
        if change == "removal":
            (bucket / "train2.png").unlink()
        elif change == "size":
            rewrite(bucket / "train2.png", b"short")
        download(*arguments)
        if change == "content":
            rewrite(bucket / "train2.png", (bucket / "train2.png").read_bytes()[::-1])

    monkeypatch.setattr(fetching, "_download", changed_meanwhile)
    with pytest.raises(BucketDataError, match=r"train2\.png"):
        fetching.fetch(copy, progress=False)
    assert not copy.is_complete()
    assert not (copy.images / "train2.png").exists()


def test_images_that_are_not_there_are_named_for_all_sets(bucket: Path, config: DataConfig, fetched: list[str]) -> None:
    for name in ("train1.png", "train3.png", "val4.png"):
        (bucket / name).unlink()
    with pytest.raises(BucketDataError) as raised:
        prepare_data(config, progress=False)
    message = str(raised.value)
    assert "train.json: 2 of 3 images" in message
    assert "'train1.png'; 'train3.png'" in message
    assert "val.json: 1 of 2 images" in message
    assert "data.image_root" in message
    assert fetched == []


def test_mistakes_of_annotations_are_reported_with_their_uri(bucket: Path, config: DataConfig) -> None:
    (bucket / "train.json").write_text('{"images": [], "annotations": []}')
    (bucket / "val.json").unlink()
    with pytest.raises(BucketDataError) as raised:
        with_versions(config)
    message = str(raised.value)
    assert f'{bucket.as_uri()}/train.json: "images" must list' in message
    assert f"{bucket.as_uri()}/val.json: there is no such object" in message


def test_full_disk_is_reported_before_anything_is_fetched(
    config: DataConfig, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(BucketDataError, match=r"MiB.*data\.cache_dir"):
        prepare_data(config, progress=False)
    assert fetched == []


def test_images_may_be_in_another_folder(bucket: Path, config: DataConfig, tmp_path: Path) -> None:
    elsewhere = tmp_path / "bucket" / "all images"
    elsewhere.mkdir()
    for path in bucket.glob("*.png"):
        path.rename(elsewhere / path.name)
    stated = json.loads((bucket / "train.json").read_text())
    for root in ("all images", "/data/all images"):
        (bucket / "train.json").write_text(json.dumps({**stated, "info": {"image_root": root}}))
        by_setting = config.model_copy(update={"image_root": elsewhere.as_uri()})
        assert len(prepare_data(by_setting, progress=False).train_annotations.images) == 3
    with pytest.raises(BucketDataError, match=r"info\.image_root is '/data/all images'.*data\.image_root"):
        prepare_data(config, progress=False)
    for name in ("train", "val"):
        stated = json.loads((bucket / f"{name}.json").read_text())
        (bucket / f"{name}.json").write_text(json.dumps({**stated, "info": {"image_root": "all images"}}))
    assert len(prepare_data(config, progress=False).train_annotations.images) == 3


def test_names_that_are_one_file_on_this_disk_are_refused(
    bucket: Path, config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (bucket / "train.json").read_text()
    (bucket / "train.json").write_text(text.replace("train2.png", "Train1.png"))
    (bucket / "train2.png").rename(bucket / "Train1.png")
    prepare_data(config, progress=False)  # two files where case counts
    shutil.rmtree(config.cache_dir)
    monkeypatch.setattr(Path, "samefile", lambda *_: True)
    with pytest.raises(BucketDataError, match=r"'Train1\.png' and 'train1\.png'"):
        prepare_data(config, progress=False)


def test_folder_without_images_is_refused(bucket: Path) -> None:
    for folder in (bucket / "absent", bucket):
        uri = folder.as_uri()
        if folder == bucket:
            for path in bucket.rglob("*"):
                if path.suffix in (".png", ".jpg"):
                    path.unlink()
        with pytest.raises(BucketDataError, match="no image files"):
            list_all(uri)


@pytest.mark.parametrize("name", ["../../evil.png", "/evil.png", "a//b.png", "a/./b.png"])
def test_damaged_listing_of_the_cache_is_not_used(config: DataConfig, tmp_path: Path, name: str) -> None:
    pinned = with_versions(config)
    copy = copies_of(config)["train_annotations"]
    content = json.loads((copy.folder / "listing.json").read_text())
    content["images"][0][0] = name
    (copy.folder / "listing.json").write_text(json.dumps(content))
    prepare_data(pinned, progress=False)
    assert [path.name for path in sorted(copy.images.iterdir())] == NAMES
    assert not list(tmp_path.rglob("evil.png"))


def test_plan_states_what_would_be_fetched(bucket: Path, config: DataConfig) -> None:
    size = sum((bucket / name).stat().st_size for name in NAMES)
    train, _ = planned_fetches(config)
    for fact in ("3 images", f"{size / 2**20:,.1f} MiB", f"{bucket.as_uri()}/train.json", "missing here"):
        assert fact in train
    prepare_data(config, progress=False)
    assert all("they are here" in line for line in planned_fetches(config))
    local = config.model_copy(update=dict.fromkeys(("train_annotations", "validation_annotations"), bucket))
    assert planned_fetches(local) == []
    assert with_versions(local) is local


def test_versions_are_those_of_the_same_data_sets(config: DataConfig) -> None:
    pinned = with_versions(config)
    assert with_versions_of(pinned, config) == pinned
    assert with_versions_of(config, pinned) is pinned
    other = config.model_copy(update={"train_annotations": "s3://bucket/train.json"})
    assert with_versions_of(pinned, other).train_annotations == "s3://bucket/train.json"
    assert with_versions_of(pinned, other).validation_annotations == pinned.validation_annotations


def test_annotations_of_too_many_bytes_are_refused(config: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "LARGEST_FILE_BYTES", 100)
    with pytest.raises(BucketDataError, match="larger than"):
        with_versions(config)


def test_unreadable_file_is_an_error_of_one_line(
    bucket: Path, config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name, function in (("opened", denied),):
        monkeypatch.setattr(f"hkd.data.buckets.listing.{name}", function)
    with pytest.raises(BucketDataError, match="Permission denied"):
        with_versions(config)


def test_annotation_errors_are_not_hidden(bucket: Path, config: DataConfig) -> None:
    stated = json.loads((bucket / "train.json").read_text())
    stated["images"][0]["file_name"] = "../train1.png"
    (bucket / "train.json").write_text(json.dumps(stated))
    with pytest.raises((AnnotationError, BucketDataError), match=r"without \"\.\.\""):
        with_versions(config)
