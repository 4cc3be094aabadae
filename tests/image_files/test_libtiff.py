from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hkd.image_files.headers import ImageFileError
from hkd.image_files.libtiff import damage_reported_by_libtiff
from hkd.image_files.pixels import read_rgb


def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8))


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "tiff_deflate", "packbits", "raw"])
def test_intact_file_is_read(compression: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    picture().save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as expected:
        assert np.array_equal(np.asarray(read_rgb(tmp_path / "a.tif")), np.asarray(expected.convert("RGB")))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "tiff_deflate"])
def test_damaged_file_is_refused_and_the_library_prints_nothing(
    compression: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    picture().save(tmp_path / "a.tif", compression=compression)
    content = (tmp_path / "a.tif").read_bytes()
    # Inside of the compressed pixels, which begin in the first hundred bytes and take most of the file.
    middle = len(content) // 2
    (tmp_path / "a.tif").write_bytes(content[:middle] + b"\xff" * 200 + content[middle + 200 :])
    with pytest.raises(ImageFileError, match="is damaged"):
        read_rgb(tmp_path / "a.tif")
    assert capfd.readouterr().err == ""


def test_other_output_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="LZWDecode: Not enough data"), damage_reported_by_libtiff():
        os.write(2, b"warning: of another thread\nLZWDecode: Not enough data.\nthe end")
    assert capfd.readouterr().err == "warning: of another thread\nthe end"
