"""The memory-mapped image store."""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hkd.coco.annotations import Annotations, read_annotations
from hkd.coco.parsing.errors import AnnotationError
from hkd.coco.writing import write_annotations
from hkd.data import store as store_module
from hkd.data.store import ImageStore, StoreError, open_store


def _annotated(folder: Path, pictures: list[Image.Image], suffix: str = "png") -> Annotations:
    """Writes the pictures and their annotations (without boxes), ids 10, 11, ..."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    records = []
    for number, picture in enumerate(pictures):
        name = f"{number}.{suffix}"
        picture.save(folder / "images" / name)
        records.append({"id": 10 + number, "file_name": name, "height": picture.height, "width": picture.width})
    write_annotations(folder / "set.json", records, [], "images")
    return read_annotations(folder / "set.json")


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(name="annotations")
def three_pictures(tmp_path: Path) -> Annotations:
    """A wide, a high and a fitting picture."""
    return _annotated(tmp_path, [_noise(128, 64), _noise(30, 90, 1), _noise(64, 64, 2)])


def _open(annotations: Annotations, cache: Path) -> ImageStore:
    return open_store(annotations, 64, 64, cache, progress=False)


def _store_file(cache: Path) -> Path:
    (path,) = cache.glob("*.npy")
    return path


def test_sizes_and_scales_of_pictures(annotations: Annotations, tmp_path: Path) -> None:
    store = _open(annotations, tmp_path / "cache")
    assert store.images.shape == (3, 64, 64, 3)
    assert store.images.dtype == np.uint8
    assert store.image_ids.tolist() == [10, 11, 12]
    # 128 x 64 fits 64 x 64 at 1/2; 30 x 90 at 64/90, where 30 * 64 / 90 = 21.33 columns leave 21 whole ones.
    assert store.scales.tolist() == [0.5, 64 / 90, 1]
    assert store.valid_sizes.tolist() == [[32, 64], [64, 21], [64, 64]]
    for image, (height, width) in zip(store.images, store.valid_sizes, strict=True):
        assert not image[height:].any()
        assert not image[:, width:].any()
        assert image[:height, :width].any(axis=2).mean() > 0.99  # noise is hardly ever black


def test_pixels_equal_those_of_picture(tmp_path: Path) -> None:
    # At scale 1 a picture is copied; halving blocks of one colour leaves them so, but for where they meet.
    same = _noise(64, 48)
    blocks = Image.fromarray(np.kron(np.array([[10, 200], [90, 0]], dtype=np.uint8), np.ones((64, 64), dtype=np.uint8)))
    store = _open(_annotated(tmp_path, [same, blocks]), tmp_path / "cache")
    np.testing.assert_array_equal(store.images[0, :48], np.asarray(same))
    assert store.images[1, ::40, ::40].tolist() == [[[10] * 3, [200] * 3], [[90] * 3, [0] * 3]]


def test_scale_is_exact_up_to_far_edge(tmp_path: Path) -> None:
    # Brightness rises by one a column and is sampled at x / scale: column i of the store shows original column
    # (i + 1/2) / scale - 1/2 to within the rounding of a byte. 100 columns fit 64 at 0.64; 75 rows give 48.
    ramp = Image.fromarray(np.broadcast_to(np.arange(100, dtype=np.uint8), (75, 100)).copy())
    upright = Image.fromarray(np.broadcast_to(np.arange(102, dtype=np.uint8), (149, 102)).copy())
    store = _open(_annotated(tmp_path, [ramp, upright]), tmp_path / "cache")
    assert store.valid_sizes.tolist() == [[48, 64], [64, 43]]  # 102 * 64 / 149 = 43.8
    for image, (height, width), scale in zip(store.images, store.valid_sizes, store.scales, strict=True):
        expected = (np.arange(2, width - 2) + 0.5) / scale - 0.5
        np.testing.assert_allclose(image[height // 2, 2 : width - 2, 0], expected, atol=0.75)


def test_reducing_averages(tmp_path: Path) -> None:
    # Stripes of one column, reduced eight times: taking single pixels would show black or white, never their mean.
    stripes = Image.fromarray(np.tile(np.array([0, 255], dtype=np.uint8), (512, 256)))
    store = _open(_annotated(tmp_path, [stripes]), tmp_path / "cache")
    assert abs(store.images.astype(int) - 127).max() <= 8  # the filter's window is cut at the picture's edge


def test_grey_palette_and_jpeg_become_rgb(tmp_path: Path) -> None:
    pictures = [Image.new("L", (64, 64), 77), Image.new("RGB", (64, 64), (10, 20, 30)).quantize(2)]
    store = _open(_annotated(tmp_path / "png", pictures), tmp_path / "cache")
    assert store.images[:, 5, 5].tolist() == [[77] * 3, [10, 20, 30]]
    store = _open(
        _annotated(tmp_path / "jpg", [Image.new("RGB", (64, 64), (128, 128, 128))], "jpg"), tmp_path / "cache"
    )
    assert store.images[0, 5, 5].tolist() == [128] * 3


def test_small_pictures_are_enlarged(tmp_path: Path) -> None:
    store = _open(_annotated(tmp_path, [Image.new("RGB", (16, 8), (5, 6, 7))]), tmp_path / "cache")
    assert store.scales.tolist() == [4]
    assert store.valid_sizes.tolist() == [[32, 64]]
    assert (store.images[0, :32] == [5, 6, 7]).all()


def test_very_narrow_picture_keeps_one_pixel(tmp_path: Path) -> None:
    store = _open(_annotated(tmp_path, [Image.new("RGB", (1000, 2), (5, 6, 7))]), tmp_path / "cache")
    assert store.valid_sizes.tolist() == [[1, 64]]  # 2 * 64 / 1000 = 0.128 rows
    assert (store.images[0, 0] == [5, 6, 7]).all()


def test_store_is_read_only_and_built_once(
    annotations: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _open(annotations, tmp_path / "cache")
    with pytest.raises(ValueError, match="read-only"):
        first.images[0, 0, 0, 0] = 1
    monkeypatch.setattr(store_module, "_build", lambda *_: pytest.fail("built twice"))
    second = _open(annotations, tmp_path / "cache")
    np.testing.assert_array_equal(second.images, first.images)
    assert second.checksum == first.checksum
    assert isinstance(second.images, np.memmap)
    names = {path.suffix for path in (tmp_path / "cache").iterdir()}
    assert names == {".npy", ".json", ".lock"}


def test_store_is_rebuilt_for_other_images_and_sizes_but_not_boxes(annotations: Annotations, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def stores() -> int:
        return len(list(cache.glob("*.npy")))

    _open(annotations, cache)
    path = tmp_path / "set.json"
    document = json.loads(path.read_text())
    document["annotations"] = [{"id": 1, "image_id": 10, "category_id": 1, "bbox": [1, 2, 3, 4]}]
    path.write_text(json.dumps(document))
    _open(read_annotations(path), cache)
    assert stores() == 1
    open_store(annotations, 32, 64, cache, progress=False)
    assert stores() == 2
    image = tmp_path / "images" / "0.png"
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    _open(annotations, cache)
    assert stores() == 3
    document["images"] = document["images"][:2]
    path.write_text(json.dumps(document))
    _open(read_annotations(path), cache)
    assert stores() == 4


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_flip_a_bit, "does not have the checksum it was written with"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: np.save(path, np.zeros((3, 64, 63, 3), dtype=np.uint8)), r"holds uint8 \(3, 64, 63, 3\)"),
        (lambda path: path.with_suffix(".json").unlink(), "cannot be read"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "cannot be read"),
    ],
)
def test_damaged_store_is_rebuilt(annotations: Annotations, tmp_path: Path, damage: object, reason: str) -> None:
    cache = tmp_path / "cache"
    whole = np.array(_open(annotations, cache).images)
    assert callable(damage)
    damage(_store_file(cache))
    store_module._verified.clear()  # as in a new process
    with pytest.warns(
        UserWarning, match=rf"the image store '.*{re.escape(_store_file(cache).name)}' {reason}.*rebuilding it"
    ):
        rebuilt = _open(annotations, cache)
    np.testing.assert_array_equal(rebuilt.images, whole)


def test_checksum_is_verified_once_per_process(annotations: Annotations, tmp_path: Path) -> None:
    _open(annotations, tmp_path / "cache")
    path = _store_file(tmp_path / "cache")
    state = path.stat()
    _flip_a_bit(path)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    _open(annotations, tmp_path / "cache")  # not verified again, which would warn
    store_module._verified.clear()
    with pytest.warns(UserWarning, match="does not have the checksum"):
        _open(annotations, tmp_path / "cache")


def test_checksum_depends_on_pixels_not_on_paths(tmp_path: Path) -> None:
    here = _open(_annotated(tmp_path / "here", [_noise(64, 64)]), tmp_path / "cache")
    there = _open(_annotated(tmp_path / "there", [_noise(64, 64)]), tmp_path / "cache")
    other = _open(_annotated(tmp_path / "other", [_noise(64, 64, 1)]), tmp_path / "cache")
    assert here.checksum == there.checksum != other.checksum


def test_one_process_builds_while_others_wait(
    annotations: Annotations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = []
    build = store_module._build

    def slow_build(path: Path, *arguments: Any) -> None:
        builds.append(path)
        time.sleep(0.05)
        build(path, *arguments)

    monkeypatch.setattr(store_module, "_build", slow_build)
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: _open(annotations, tmp_path / "cache"), range(4)))
    assert len(builds) == 1
    assert all((store.images == stores[0].images).all() for store in stores)


def test_all_undecodable_images_are_reported_and_no_store_is_left(annotations: Annotations, tmp_path: Path) -> None:
    for name in ("0.png", "2.png"):  # headers stay valid, so that reading the annotations succeeds
        path = tmp_path / "images" / name
        path.write_bytes(path.read_bytes()[:200])
    annotations = read_annotations(tmp_path / "set.json")
    with pytest.raises(AnnotationError) as caught:
        _open(annotations, tmp_path / "cache")
    assert len(caught.value.problems) == 2
    for problem, name in zip(caught.value.problems, ("image 10 .*0.png", "image 12 .*2.png"), strict=True):
        assert re.match(rf"{name}' is damaged \(.*\); replace it, or remove it", problem)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_images_changed_since_annotation_are_reported(annotations: Annotations, tmp_path: Path) -> None:
    _noise(63, 64).save(tmp_path / "images" / "2.png")
    with pytest.raises(AnnotationError, match=r"image 12 '.*2.png' is 63 x 64 pixels, not 64 x 64"):
        _open(annotations, tmp_path / "cache")
    (tmp_path / "images" / "0.png").unlink()
    with pytest.raises(AnnotationError, match=r"image 10 '.*0.png' cannot be read"):
        _open(annotations, tmp_path / "cache")


def test_unwritable_folder_is_reported(annotations: Annotations, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        StoreError, match=r"cannot write the image store '.*' .* it needs 0 MiB: free some space, or name another"
    ):
        _open(annotations, tmp_path / "file")


def test_progress_goes_to_stderr(annotations: Annotations, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_store(annotations, 64, 64, tmp_path / "loud")
    captured = capsys.readouterr()
    assert "Decoding images" in captured.err
    assert not captured.out
    open_store(annotations, 64, 64, tmp_path / "quiet", progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_are_those_of_the_one_decoder(orientation: int, tmp_path: Path) -> None:
    # 16-bit grey, stored rotated: read by Pillow alone it would be all white, and 128 x 64.
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.linspace(0, 65535, 64 * 128).astype(np.uint16).reshape(64, 128)
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    width, height = (128, 64) if orientation == 1 else (64, 128)
    write_annotations(
        tmp_path / "set.json", [{"id": 1, "file_name": "a.png", "height": height, "width": width}], [], "."
    )
    store = open_store(read_annotations(tmp_path / "set.json"), height, width, tmp_path / "cache", progress=False)
    # Orientation 6: the 0th row is the visual right side, the 0th column the visual top.
    upright = stored if orientation == 1 else stored.T[:, ::-1]
    expected = np.round(upright / 257).astype(np.int64)
    assert np.abs(store.images[0].astype(np.int64) - expected[:, :, None]).max() == 0


@pytest.mark.parametrize(("largest", "is_noted"), [(4095, True), (4096, False)])
def test_images_of_twelve_bits_in_sixteen_are_pointed_out(largest: int, is_noted: bool, tmp_path: Path) -> None:
    stored = np.linspace(0, largest, 64 * 64).astype(np.uint16).reshape(64, 64)
    annotations = _annotated(tmp_path, [Image.fromarray(stored), _noise(64, 64)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _open(annotations, tmp_path / "cache")
    messages = [str(warning.message) for warning in caught]
    assert [("1 of 2 images" in message, "0.png" in message) for message in messages] == [(True, True)] * is_noted
