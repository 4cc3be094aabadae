"""URIs of data sets in buckets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hkd.bucket_uri import joined, version_of, with_version, without_version
from hkd.config import DataConfig, TrialConfig
from hkd.config_files.parsing import parse_config
from hkd.config_files.problems import ConfigError
from hkd.config_files.yaml_format import dump_yaml, parse_yaml

SERVER = "endpoint_override=127.0.0.1:9&scheme=http"


@pytest.mark.parametrize("uri", ["s3://b/a/train.json", f"s3://b/a/train.json?{SERVER}", "file:///a/train.json"])
def test_version_is_an_option(uri: str) -> None:
    first, second = with_version(uri, "1a"), with_version(with_version(uri, "1a"), "2b")
    assert (version_of(uri), version_of(first), version_of(second)) == (None, "1a", "2b")
    assert without_version(second) == uri


def test_paths_are_relative_to_a_folder_of_the_same_bucket() -> None:
    assert joined(f"s3://b/sets/train.json?{SERVER}", "../all images") == f"s3://b/sets/all%20images?{SERVER}"
    assert joined("s3://b/sets/train.json", "../../../../x") == "s3://b/x"
    assert joined("file:///sets/train.json", "..") == "file:///sets"


def test_configuration_keeps_uris_as_they_are(tmp_path: Path) -> None:
    uris = {name: f"s3://b/{name}.json?{SERVER}" for name in ("train_annotations", "validation_annotations")}
    config = parse_config(TrialConfig, {"data": {**uris, "unlabelled_images": "frames"}}, source="")
    assert config.data.train_annotations == uris["train_annotations"]
    assert config.data.unlabelled_images == Path("frames")
    assert parse_config(TrialConfig, parse_yaml(dump_yaml(config), "x"), source="") == config


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"train_annotations": "s3://key:hunter2@b/x.json"}, ["data.train_annotations", "credentials"]),
        ({"train_annotations": "s3://b/x.json?secret_key=hunter2"}, ["secret_key", "region, scheme, version"]),
        ({"train_annotations": "s3://b/x.json?version=../../x"}, ["train_annotations", "version"]),
        ({"train_annotations": "https://b/x.json"}, ["s3://BUCKET/PATH", "file://"]),
        ({"unlabelled_images": "file://host/x"}, ["data.unlabelled_images", "file:///PATH"]),
        ({"validation_annotations": "val.json"}, ["train_annotations in a bucket", "validation_annotations"]),
        ({"image_root": "images"}, ["image_root", "a bucket"]),
    ],
)
def test_uri_that_cannot_be_used_is_refused(changes: dict[str, Any], facts: list[str]) -> None:
    data = {"train_annotations": "s3://b/train.json", "validation_annotations": "s3://b/val.json", **changes}
    with pytest.raises(ConfigError) as raised:
        parse_config(TrialConfig, {"data": data}, source="")
    assert all(fact in str(raised.value) for fact in facts)
    assert "hunter2" not in str(raised.value)


def test_paths_stay_paths() -> None:
    assert DataConfig.model_validate({"unlabelled_images": "a/b"}).unlabelled_images == Path("a/b")
    with pytest.raises(ValidationError):
        DataConfig.model_validate({"unlabelled_images": 3})
