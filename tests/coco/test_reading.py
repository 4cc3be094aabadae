"""Reading no more of a file than it can hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from hkd.coco.reading import read_bounded


def test_endless_and_too_large_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(bytes(5))
    assert read_bounded(tmp_path / "a.json", 5) == bytes(5)
    with pytest.raises(OSError, match="it is larger than 4 bytes, which no such file is"):
        read_bounded(tmp_path / "a.json", 4)
    # A device states no size, and yields without end.
    with pytest.raises(OSError, match="it is larger than 1 MiB"):
        read_bounded(Path("/dev/zero"), 1 << 20)
