"""Data sets on a real S3 server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto import settings

from hkd.config import DataConfig
from hkd.data.buckets.fetching import fetch
from hkd.data.buckets.listing import BucketDataError, list_all
from hkd.data.locations import copies_of, with_versions
from hkd.data.prepare import prepare_data
from tests.data.buckets.test_copies import config_of
from tests.data.test_unlabelled import write_set
from tests.sweeps.storage.s3_server import BUCKET, S3Server

SECRET = "hunter2-of-the-test"


@pytest.fixture
def config(server: S3Server, tmp_path: Path) -> DataConfig:
    """Three training images and two validation images in the bucket, beside others."""
    folder = tmp_path / "set"
    write_set(folder, "train", range(1, 4))
    write_set(folder, "val", range(4, 6))
    server.put_folder("set", folder)
    server.put("set/other.png", b"other")
    uris = {f"{name}_annotations": server.uri_of(f"set/{part}.json") for name, part in named()}
    return config_of(folder, tmp_path / "cache", **uris)


def named() -> list[tuple[str, str]]:
    return [("train", "train"), ("validation", "val")]


def test_data_set_is_fetched_once(server: S3Server, config: DataConfig) -> None:
    pinned = with_versions(config)
    assert len(prepare_data(pinned, progress=False).train_annotations.images) == 3
    for copy, names in zip(copies_of(pinned).values(), (("1", "2", "3"), ("4", "5")), strict=True):
        assert {path.stem[-1] for path in copy.images.iterdir()} == set(names)
    server.stop()
    try:
        prepare_data(pinned, progress=False)
        with pytest.raises(BucketDataError, match="AWS_ENDPOINT_URL") as raised:
            with_versions(config)
    finally:
        server.start()
    assert f"s3://{BUCKET}/set/train.json: " in str(raised.value)


def test_fetch_waits_for_a_server_that_is_away(
    server: S3Server, config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copies_of(config)["train_annotations"]
    server.stop()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    with caplog.at_level(logging.WARNING):
        fetch(copy, progress=False)
    timer.join()
    assert copy.is_complete()
    # The requests are repeated by pyarrow first, so that there may be no warning.
    assert len(caplog.messages) <= 1


def test_new_node_refuses_objects_that_have_changed(server: S3Server, config: DataConfig, tmp_path: Path) -> None:
    pinned = with_versions(config)
    server.put("set/train2.png", b"another size")
    other_node = pinned.model_copy(update={"cache_dir": tmp_path / "other_node"})
    with pytest.raises(BucketDataError, match=rf"s3://{BUCKET}/set/train\.json: has changed: it is version"):
        prepare_data(other_node, progress=False)
    # The copy of this node was listed before, and not fetched.
    with pytest.raises(BucketDataError, match=r"has changed since it was listed: 'train2\.png'"):
        prepare_data(pinned, progress=False)


def test_missing_bucket_is_named(server: S3Server, config: DataConfig) -> None:
    missing = {"train_annotations": server.uri_of("set/train.json").replace(BUCKET, "no-such-bucket")}
    with pytest.raises(BucketDataError, match="no bucket 'no-such-bucket'"):
        with_versions(config.model_copy(update=missing))


@pytest.fixture
def wrong_key(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the environment."""
    server.require_credentials_with(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAWRONGWRONGWRONG1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    yield
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))


def test_wrong_credentials_are_refused_at_once(config: DataConfig, wrong_key: None) -> None:
    # Another region, because pyarrow's connections are kept.
    names = ("train_annotations", "validation_annotations")
    other = {name: f"{getattr(config, name)}&region=us-east-2&version=0123456789abcdef" for name in names}
    with pytest.raises(BucketDataError, match="AWS_ACCESS_KEY_ID.*list and read") as raised:
        with_versions(config.model_copy(update=other))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "keys", [("frames/../../evil.jpg",), ("frames//a.jpg",), ("frames/a.jpg", "frames/a.jpg/b.jpg")]
)
def test_names_that_no_folder_can_hold_are_refused(server: S3Server, keys: tuple[str, ...]) -> None:
    server.put("frames/good.jpg", b"1")
    for key in keys:
        server.put(key, b"1")
    with pytest.raises(BucketDataError, match=r"a\.jpg|evil\.jpg") as raised:
        list_all(server.uri_of("frames"))
    assert "good.jpg" not in str(raised.value)
